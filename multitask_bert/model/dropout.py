"""Dropout that is fast on a CPU.

torch draws one Bernoulli number per element on one thread. Here one random 64-bit integer gives four elements, 16 bits
each: the keep probability is right to 1/65536, the draws come from torch's generator, so a seed fixes them. On other
devices torch's own dropout is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

LEVELS = 2**16


class CpuDropout(nn.Dropout):
    """`nn.Dropout`, faster on a CPU."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training else input


def dropout(values: Tensor, rate: float) -> Tensor:
    """Zero each element with probability `rate` (0 to 1, rounded to 1/65536) and scale the rest to keep the mean."""
    if values.device.type != "cpu":
        return nn.functional.dropout(values, rate)
    num_dropped_levels = round(rate * LEVELS)
    if num_dropped_levels == 0:
        return values
    if num_dropped_levels == LEVELS:
        return values * 0.0
    # A product with 0s and scaled 1s: the same numbers as filling and scaling, in half the time.
    factors = torch.empty(values.shape)
    torch.ge(_random_int16(values.shape), num_dropped_levels - LEVELS // 2, out=factors)
    return (values * factors.mul_(LEVELS / (LEVELS - num_dropped_levels))).to(values.dtype)


def _random_int16(shape: torch.Size) -> Tensor:
    num = shape.numel()
    return torch.empty((num + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:num].view(shape)


def use_cpu_dropout(backbone: nn.Module) -> None:
    """Replace the dropout layers of a Hugging Face encoder."""
    for module in backbone.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, CpuDropout(child.p))

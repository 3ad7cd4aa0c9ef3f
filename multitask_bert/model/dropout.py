"""Dropout that costs little on a CPU.

torch draws one Bernoulli number per element on one thread, and attention dropout makes it draw for every pair of
tokens. Here one random 64-bit integer gives four elements, 16 bits each: the keep probability is right to 1/65536,
the draws come from torch's generator, so a seed fixes them. On other devices everything is left to torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

ATTENTION_NAME = "sdpa_cpu_dropout"
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
    is_dropped = _random_int16(values.shape) < num_dropped_levels - LEVELS // 2
    return values.masked_fill(is_dropped, 0.0) * (LEVELS / (LEVELS - num_dropped_levels))


def _random_int16(shape: torch.Size) -> Tensor:
    num = shape.numel()
    return torch.empty((num + 3) // 4, dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:num].view(shape)


def use_cpu_dropout(backbone: nn.Module) -> None:
    """Exchange the dropout layers of a Hugging Face encoder and, where it uses SDPA, the dropout of its attention."""
    for module in backbone.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, CpuDropout(child.p))
    config: Any = backbone.config
    if config._attn_implementation == "sdpa":
        config._attn_implementation = ATTENTION_NAME


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """SDPA; on a CPU with dropout, the same in plain products (SDPA itself takes its slow path there).

    query, key, value: (rows, attention heads, tokens, width); attention_mask: True where attention is allowed, or None.
    """
    rate = options.get("dropout", 0.0)
    if rate == 0.0 or query.device.type != "cpu":
        attended: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return attended
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    scores = torch.matmul(query * scale, key.transpose(2, 3))
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = dropout(scores.softmax(dim=-1), rate)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION_NAME, attend)
AttentionMaskInterface.register(ATTENTION_NAME, sdpa_mask)

"""Attention within each sequence of a batch, padded or packed, with dropout that is fast on a CPU.

A packed batch is one row of tokens, divided into blocks of sequences of similar length (`Batch.blocks`). Linear layers,
norms and activations see the whole row; only attention treats each block as a small padded batch, without copying it.
No mask over the whole row is needed, and encoders need no change: `attend` is registered with transformers and called
by every encoder that uses its attention interface, with the `layout` that `Encoder` passes.

On CUDA in 16 bits, where attention has no dropout, one call of torch's variable-length attention does all blocks.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from multitask_bert.model.dropout import dropout
from multitask_bert.records import Batch, Block

ATTENTION_NAME = "multitask_bert"


class Layout:
    """Which tokens of a packed batch may attend to each other."""

    def __init__(self, batch: Batch) -> None:
        self.blocks: Sequence[Block] = batch.blocks
        assert batch.boundaries is not None
        self.boundaries = batch.boundaries
        self.num_uses = 0  # calls of `attend`: none means that the encoder does not pass the layout on
        owned = torch.split(batch.sequence_BS[0] >= 0, self.sizes)
        self._keys = [
            None if block.is_full else mask.view(block.num_rows, 1, 1, block.num_columns)
            for block, mask in zip(self.blocks, owned, strict=True)
        ]
        self._bands: dict[tuple[int, int], Tensor] = {}

    @property
    def sizes(self) -> list[int]:
        return [block.size for block in self.blocks]

    def masks(self, window: int | None, device: torch.device) -> list[Tensor | None]:
        """For each block, True where attention is allowed: not to padding, and within `window` tokens (None: any)."""
        return [
            _both(keys, self._band(block.num_columns, window, device))
            for block, keys in zip(self.blocks, self._keys, strict=True)
        ]

    def _band(self, length: int, window: int | None, device: torch.device) -> Tensor | None:
        if window is None or window >= length:
            return None
        if (length, window) not in self._bands:
            position = torch.arange(length, device=device)
            self._bands[length, window] = (position[:, None] - position).abs() < window
        return self._bands[length, window]


def _both(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return one if other is None else other if one is None else one & other


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """The attention function that transformers calls: attended (rows, tokens, attention heads, width), no weights.

    query, key, value: (rows, attention heads, tokens, width); attention_mask: True where attention is allowed, or None.
    `layout`: of a packed batch, which has one row; it replaces the mask.
    """
    if layout is None:
        if options.get("dropout", 0.0) == 0.0 or query.device.type != "cpu":
            return sdpa_attention_forward(module, query, key, value, attention_mask, **options)[0], None
        return _attend(query, key, value, attention_mask, **options).transpose(1, 2).contiguous(), None
    layout.num_uses += 1
    if has_varlen(query, options.get("dropout", 0.0)):
        return _attend_varlen(query, key, value, layout, **options), None
    masks = layout.masks(options.get("sliding_window"), query.device)
    parts = (torch.split(states[0].transpose(0, 1), layout.sizes) for states in (query, key, value))
    attended = []
    for block, mask, *states in zip(layout.blocks, masks, *parts, strict=True):
        width = states[0].shape[1:]
        q, k, v = (part.reshape(block.num_rows, block.num_columns, *width).transpose(1, 2) for part in states)
        attended.append(_attend(q, k, v, mask, **options).transpose(1, 2).reshape(block.size, *width))
    return torch.cat(attended)[None], None


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: Any) -> Tensor:
    """Attended, in the shape of `query`; where SDPA would take its slow path (dropout on a CPU), by plain products."""
    rate, scale = options.get("dropout", 0.0), options.get("scaling") or query.shape[-1] ** -0.5
    if rate == 0.0 or query.device.type != "cpu":
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=rate, scale=scale
        )
    scores = torch.matmul(query * scale, key.transpose(2, 3))
    if mask is not None:  # half of the least number: added to a score, it stays finite
        scores += mask.logical_not().to(scores.dtype) * (torch.finfo(scores.dtype).min / 2)
    return torch.matmul(dropout(scores.softmax(dim=-1), rate), value)


def has_varlen(query: Tensor, rate: float) -> bool:
    """Whether torch's variable-length attention can be used: on CUDA, in 16 bits, without dropout (it has none)."""
    is_fit = query.device.type == "cuda" and query.dtype in (torch.bfloat16, torch.float16) and rate == 0.0
    return is_fit and _varlen_takes(query.shape[-1], query.device)


@cache
def _varlen_takes(width: int, device: torch.device) -> bool:
    """FlashAttention needs Ampere or newer, and attention heads of width 8, 16, … 256; before torch 2.13 or so,
    `varlen_attn` has no window."""
    if torch.cuda.get_device_capability(device) < (8, 0) or width % 8 or width > 256:
        return False
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return {"scale", "window_size"} <= inspect.signature(varlen_attn).parameters.keys()


def _attend_varlen(query: Tensor, key: Tensor, value: Tensor, layout: Layout, **options: Any) -> Tensor:
    """Attended (1, tokens, attention heads, width), from (1, attention heads, tokens, width) of a packed batch."""
    from torch.nn.attention import varlen

    q, k, v = (states[0].transpose(0, 1).contiguous() for states in (query, key, value))
    ends, longest = layout.boundaries, max(block.num_columns for block in layout.blocks)
    window = options.get("sliding_window")
    reach = -1 if window is None else window - 1  # tokens to each side; -1: all
    attended = varlen.varlen_attn(
        q, k, v, ends, ends, longest, longest, scale=options.get("scaling"), window_size=(reach, reach)
    )
    assert isinstance(attended, Tensor)
    return attended[None]


def make_mask(*arguments: Any, attention_mask: Tensor | None = None, **options: Any) -> Tensor | None:
    """The mask function that transformers calls for a padded batch. A given mask is always used: to check whether it is
    True everywhere would make the host wait for the device. (A batch without padding has no mask.)
    """
    if attention_mask is not None:
        options["allow_is_bidirectional_skip"] = False
    mask: Tensor | None = sdpa_mask(*arguments, attention_mask=attention_mask, **options)
    return mask


AttentionInterface.register(ATTENTION_NAME, attend)
AttentionMaskInterface.register(ATTENTION_NAME, make_mask)

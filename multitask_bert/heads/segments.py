"""Softmax over groups of rows: the tokens of one window, the choices of one example.

The rows of a segment follow one another. There are at most M segments, so nothing waits for the device to count them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def segment_log_softmax(logits_ML: Tensor, segment_M: Tensor) -> Tensor:
    """Log-probabilities among the rows of the same segment, for each column."""
    number_M = _from_zero(segment_M)
    number_ML = number_M[:, None].expand_as(logits_ML)
    top_ML = logits_ML.detach().scatter_reduce(0, number_ML, logits_ML.detach(), "amax", include_self=False)
    shifted_ML = logits_ML - top_ML[number_M]
    sums_ML = logits_ML.new_zeros(logits_ML.shape).index_add(0, number_M, shifted_ML.exp())
    return shifted_ML - sums_ML[number_M].log()


def segment_sizes(segment_M: Tensor) -> Tensor:
    """For each row, the number of rows of its segment."""
    number_M = _from_zero(segment_M)
    ones_M = number_M.new_ones(number_M.shape)
    return number_M.new_zeros(number_M.shape).index_add(0, number_M, ones_M)[number_M]


def _from_zero(segment_M: Tensor) -> Tensor:
    """Segments numbered 0, 1, …: among a batch's examples, some may belong to other heads."""
    begins_M = segment_M.new_zeros(segment_M.shape)
    begins_M[1:] = segment_M[1:] != segment_M[:-1]
    return begins_M.cumsum(0)

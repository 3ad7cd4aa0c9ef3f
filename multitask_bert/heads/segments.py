"""Softmax over groups of rows: the places of one window, the choices of one example.

The rows of a segment follow one another. There are at most M segments, so nothing waits for the device to count them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def segment_log_softmax(logits_ML: Tensor, segment_M: Tensor) -> Tensor:
    """Log-probabilities among the rows of the same segment, for each column."""
    place_M = _from_zero(segment_M)
    place_ML = place_M[:, None].expand_as(logits_ML)
    top_ML = logits_ML.detach().scatter_reduce(0, place_ML, logits_ML.detach(), "amax", include_self=False)
    shifted_ML = logits_ML - top_ML[place_M]
    sums_ML = logits_ML.new_zeros(logits_ML.shape).index_add(0, place_M, shifted_ML.exp())
    return shifted_ML - sums_ML[place_M].log()


def segment_sizes(segment_M: Tensor) -> Tensor:
    """For each row, how many rows its segment has."""
    place_M = _from_zero(segment_M)
    ones_M = place_M.new_ones(place_M.shape)
    return place_M.new_zeros(place_M.shape).index_add(0, place_M, ones_M)[place_M]


def _from_zero(segment_M: Tensor) -> Tensor:
    """Segments numbered 0, 1, …: among a batch's examples, some may belong to other heads."""
    begins_M = segment_M.new_zeros(segment_M.shape)
    begins_M[1:] = segment_M[1:] != segment_M[:-1]
    return begins_M.cumsum(0)

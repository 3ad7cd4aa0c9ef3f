"""The interval of a mean over a few runs, by Student's t distribution (Student 1908)."""

from __future__ import annotations

import math
from collections.abc import Sequence

CONFIDENCE = 0.95


def interval_of_mean(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """mean +- t s / sqrt(n), for values drawn independently from a normal distribution; None for fewer than two."""
    count = len(values)
    if count < 2:
        return None
    mean = math.fsum(values) / count
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = quantile(confidence, count - 1) * spread / math.sqrt(count)
    return mean - half, mean + half


def quantile(confidence: float, freedom: int) -> float:
    """The t within which this share of the distribution lies, on both sides of 0; `freedom`: degrees of freedom."""
    low, high = 0.0, math.pi / 2  # of atan(t / sqrt(freedom))
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _share_within(middle, freedom) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _share_within(angle: float, freedom: int) -> float:
    """The finite sums for whole degrees of freedom: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""
    cosine, sine, is_odd = math.cos(angle), math.sin(angle), freedom % 2
    total, term = 0.0, cosine if is_odd else 1.0
    for index in range(3 if is_odd else 2, freedom + 1, 2):
        total += term
        term *= cosine**2 * (index - 1) / index
    return 2 / math.pi * (angle + sine * total) if is_odd else sine * total

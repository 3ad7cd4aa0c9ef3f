"""The uncertainty of a score: percentile bootstrap intervals over examples (Efron and Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]  # lower and upper end

NUM_RESAMPLES = 1000
SHARE = 0.95  # of the resamples that lie inside the interval


@dataclass(frozen=True)
class Counts:
    """The counts of each example of a test set, from whose sums a metric follows; see `utils/metrics`."""

    family: str  # class of the metric
    metric: str
    rows_NK: Floats


def interval_of_counts(
    rows_NK: Floats,
    statistic: Callable[[Floats], Floats],
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    share: float = SHARE,
) -> Interval:
    """The interval of `statistic(sum of rows)`, where each example adds one row of counts; sums_RK -> values_R.

    Examples with equal rows are alike, so a resample is a multinomial draw over the distinct rows: no example is
    touched twice.
    """
    distinct_UK, times_U = np.unique(rows_NK, axis=0, return_counts=True)
    draws_RU = np.random.default_rng(seed).multinomial(len(rows_NK), times_U / len(rows_NK), size=num_resamples)
    return _ends(statistic(draws_RU @ distinct_UK), share)


def interval_of_gain(
    before_NK: Floats, after_NJ: Floats, statistic: Callable[[Floats], Floats], **options: Any
) -> Interval:
    """The interval of the gain in `statistic` from one model to another; rows of both, for the same examples.

    Paired: each resample holds the same examples for both (Koehn 2004, "Statistical significance tests for machine
    translation evaluation"). Options as in `interval_of_counts`.
    """
    num_columns = before_NK.shape[1]

    def gain(sums_RK: Floats) -> Floats:
        return statistic(sums_RK[:, num_columns:]) - statistic(sums_RK[:, :num_columns])

    return interval_of_counts(np.concatenate([before_NK, after_NJ], axis=1), gain, **options)


def interval_by_recomputing(
    score: Callable[[NDArray[np.int64]], float],
    num_examples: int,
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    share: float = SHARE,
) -> Interval:
    """The interval of a score that is not a function of sums: recomputed from each resample's indices."""
    generator = np.random.default_rng(seed)
    values = [score(generator.integers(num_examples, size=num_examples)) for _ in range(num_resamples)]
    return _ends(np.array(values), share)


def _ends(values_R: Floats, share: float) -> Interval:
    lower, upper = np.quantile(values_R, [(1 - share) / 2, (1 + share) / 2])
    return float(lower), float(upper)

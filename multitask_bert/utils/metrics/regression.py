"""Metrics over one number per example; equal to scipy's and scikit-learn's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import numpy as np

from multitask_bert.utils.bootstrap import Floats, Interval, interval_by_recomputing
from multitask_bert.utils.metrics.base import CountedMetric, Pairs, ratio


class NumberMetric(CountedMetric):
    """Pearson's and Spearman's correlation (0 where a side is constant), mean squared and mean absolute error."""

    prediction_feature = datasets.Value("float64")

    def rows(self, references: Any, predictions: Any) -> Floats:
        gold_N, found_N = np.asarray(references, dtype=np.float64), np.asarray(predictions, dtype=np.float64)
        ones_N = np.ones_like(gold_N)
        if self.config_name == "mse":
            return np.stack([(gold_N - found_N) ** 2, ones_N], axis=1)
        if self.config_name == "mae":
            return np.stack([np.abs(gold_N - found_N), ones_N], axis=1)
        if self.config_name == "spearman":
            gold_N, found_N = _ranks(gold_N), _ranks(found_N)
        gold_N, found_N = _standardised(gold_N), _standardised(found_N)
        return np.stack([ones_N, gold_N, found_N, gold_N**2, found_N**2, gold_N * found_N], axis=1)

    @property
    def is_of_sums(self) -> bool:
        return self.config_name != "spearman"  # ranks are those within the resample

    def statistic(self, sums_RK: Floats) -> Floats:
        if self.config_name in ("mse", "mae"):
            return ratio(sums_RK[:, 0], sums_RK[:, 1])
        count_R, x_R, y_R, xx_R, yy_R, xy_R = sums_RK.T
        spread_x_R, spread_y_R = count_R * xx_R - x_R**2, count_R * yy_R - y_R**2
        # What rounding leaves of a constant side is no spread.
        is_constant_R = np.minimum(spread_x_R, spread_y_R) <= 1e-12 * count_R**2
        product_R = np.where(is_constant_R, 0.0, spread_x_R * spread_y_R)
        return np.clip(ratio(count_R * xy_R - x_R * y_R, np.sqrt(product_R)), -1.0, 1.0)

    def interval(self, references: Any, predictions: Any, **options: Any) -> Interval:
        if self.is_of_sums:
            return super().interval(references, predictions, **options)
        score = self._score_of((references, predictions))
        return interval_by_recomputing(score, len(references), **options)

    def gain_interval(self, before: Pairs, after: Pairs, **options: Any) -> Interval:
        if self.is_of_sums:
            return super().gain_interval(before, after, **options)
        score, other_score = self._score_of(before), self._score_of(after)
        return interval_by_recomputing(lambda indices: other_score(indices) - score(indices), len(before[0]), **options)

    def _score_of(self, pairs: Pairs) -> Callable[[Any], float]:
        """The score as a function of the indices of a resample, within which ranks are counted."""
        gold_N, found_N = (np.asarray(side, dtype=np.float64) for side in pairs)
        return lambda indices: self.value(gold_N[indices], found_N[indices])


def _ranks(values_N: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse_N, times_U = np.unique(values_N, return_inverse=True, return_counts=True)
    return (np.cumsum(times_U) - (times_U - 1) / 2)[inverse_N]


def _standardised(values_N: Floats) -> Floats:
    """Mean 0 and spread 1 (a correlation stays as it is), so that sums of squares keep their digits."""
    centred_N = values_N - values_N.mean()
    spread = np.abs(centred_N).max()
    is_constant = spread <= 1e-12 * np.abs(values_N).max()
    return np.zeros_like(values_N) if is_constant else centred_N / centred_N.std()

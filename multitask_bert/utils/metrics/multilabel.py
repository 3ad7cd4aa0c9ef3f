"""Metrics over any number of labels per example; equal to scikit-learn's on indicator matrices."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np

from multitask_bert.utils.bootstrap import Floats
from multitask_bert.utils.metrics.base import CountedMetric, averaged, measure, ratio
from multitask_bert.utils.metrics.labels import OF_LABEL

UNKNOWN_CELL = -1


class MultilabelMetric(CountedMetric):
    """f1 (macro), f1_micro, f1_weighted, f1_samples, precision, recall, exact_match over rows of 0 and 1.

    There is one cell per label. A gold cell of -1 is unknown: it counts nowhere. `f1_of_N` is the F1 of column N.
    """

    prediction_feature = datasets.Sequence(datasets.Value("int8"))

    def rows(self, references: Any, predictions: Any) -> Floats:
        gold_NL, found_NL = np.asarray(references, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
        known_NL = gold_NL != UNKNOWN_CELL
        right_NL, is_gold_NL, is_found_NL = (
            (cells & known_NL).astype(np.float64)
            for cells in ((gold_NL == 1) & (found_NL == 1), gold_NL == 1, found_NL == 1)
        )
        if self.config_name == "exact_match":
            return _with_ones((~known_NL | (gold_NL == found_NL)).all(axis=1).astype(np.float64))
        if self.config_name == "f1_samples":
            return _with_ones(measure("f1", right_NL.sum(axis=1), is_gold_NL.sum(axis=1), is_found_NL.sum(axis=1)))
        blocks = right_NL, is_gold_NL, is_found_NL
        if self.config_name.startswith(OF_LABEL):
            column = int(self.config_name.removeprefix(OF_LABEL))
            blocks = right_NL[:, [column]], is_gold_NL[:, [column]], is_found_NL[:, [column]]
        return np.concatenate(blocks, axis=1)

    def statistic(self, sums_RK: Floats) -> Floats:
        if self.config_name in ("exact_match", "f1_samples"):
            return ratio(sums_RK[:, 0], sums_RK[:, 1])
        right_RL, gold_RL, found_RL = np.split(sums_RK, 3, axis=1)
        name = "f1" if self.config_name.startswith(OF_LABEL) else self.config_name
        return averaged(name, right_RL, gold_RL, found_RL, np.ones_like(gold_RL))


def _with_ones(values_N: Floats) -> Floats:
    """Values whose mean is wanted: sum and count."""
    return np.stack([values_N, np.ones_like(values_N)], axis=1)

"""Metrics over one label per example, and over one label per word; equal to scikit-learn's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from multitask_bert.utils.bootstrap import Floats
from multitask_bert.utils.metric_names import label_left_out, measure_of_label
from multitask_bert.utils.metrics.base import CountedMetric, averaged, measure, ratio

OF_LABEL = "f1_of_"
NO_PREDICTION = "\0"  # instead of a predicted tag; `datasets` takes no None there, and "" may be a tag


class LabelMetric(CountedMetric):
    """One label per example: f1 (macro), f1_weighted, f1_micro, precision, recall, accuracy, matthews_correlation.

    `f1_of_X`, `precision_of_X` and `recall_of_X` are those of label X; `accuracy_without_X` is over the examples whose
    gold label is another. A macro average is over the labels that occur as gold or as prediction.
    """

    prediction_feature = datasets.Value("string")

    def rows(self, references: Any, predictions: Any) -> Floats:
        return self._rows([[gold] for gold in references], [[found] for found in predictions])

    def _rows(self, references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> Floats:
        """Right, gold and found of every label, one block after the other -> rows_N(3L)."""
        golds = [label for labels in references for label in labels]
        founds = [label for labels in predictions for label in labels]
        lengths = [len(labels) for labels in references]
        assert lengths == [len(labels) for labels in predictions]
        owner = np.repeat(np.arange(len(references)), lengths)
        names = sorted({*golds, *founds} - {NO_PREDICTION})
        ids = {name: index for index, name in enumerate(names)}
        if (of_label := measure_of_label(self.config_name)) is not None:
            names = [of_label[1]]
            ids = {name: 0 if name == names[0] else -1 for name in ids}
        elif (left_out := label_left_out(self.config_name)) is not None:
            ids[left_out] = -1
        ids[NO_PREDICTION] = -1
        gold = np.array([ids[name] for name in golds], dtype=np.int64)
        found = np.array([ids[name] for name in founds], dtype=np.int64)
        rows_N3L = np.zeros((len(references), 3, len(names)))
        blocks = (gold, (gold == found) & (gold >= 0)), (gold, gold >= 0), (found, found >= 0)
        for block, (column, counts) in enumerate(blocks):
            np.add.at(rows_N3L, (owner[counts], block, column[counts]), 1.0)
        return rows_N3L.reshape(len(references), -1)

    def statistic(self, sums_RK: Floats) -> Floats:
        right_RL, gold_RL, found_RL = np.split(sums_RK, 3, axis=1)
        if self.config_name == "accuracy" or label_left_out(self.config_name) is not None:
            return ratio(right_RL.sum(axis=1), gold_RL.sum(axis=1))
        if self.config_name == "matthews_correlation":
            return _matthews(right_RL.sum(axis=1), gold_RL, found_RL)
        if (of_label := measure_of_label(self.config_name)) is not None:
            return measure(of_label[0], right_RL[:, 0], gold_RL[:, 0], found_RL[:, 0])
        return averaged(self.config_name, right_RL, gold_RL, found_RL, ((gold_RL + found_RL) > 0).astype(float))


class TagMetric(LabelMetric):
    """The same over one tag per word; examples are sentences, so that an interval resamples whole sentences.

    NO_PREDICTION (the word was not read) is wrong, and no label.
    """

    prediction_feature = datasets.Sequence(datasets.Value("string"))

    def rows(self, references: Any, predictions: Any) -> Floats:
        return self._rows(references, predictions)


def _matthews(right_R: Floats, gold_RL: Floats, found_RL: Floats) -> Floats:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 where only one class occurs.

    An example without a prediction is in none of the predicted classes.
    """
    total_R, num_found_R = gold_RL.sum(axis=1), found_RL.sum(axis=1)
    covariance_R = right_R * total_R - (gold_RL * found_RL).sum(axis=1)
    of_gold_R = total_R**2 - (gold_RL**2).sum(axis=1)
    of_found_R = total_R * num_found_R - (found_RL**2).sum(axis=1)
    return ratio(covariance_R, np.sqrt(of_gold_R) * np.sqrt(of_found_R))

"""The base class of our metrics: each is a function of counts that are summed over examples.

So one definition gives the score of a split and, by resampling the examples' counts, its interval.
Shapes: N examples, K counts per example, R sums to be scored at once, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import datasets
import evaluate
import numpy as np

from multitask_bert.utils.bootstrap import Floats, Interval, interval_of_counts, interval_of_gain

Pairs = tuple[Sequence[Any], Sequence[Any]]  # references and predictions
CITATION = "see the docstring of multitask_bert.utils.metrics"


class CountedMetric(evaluate.Metric):  # type: ignore[misc]
    """An `evaluate` module that needs no network; subclasses define the counts and the score of their sums."""

    prediction_feature: ClassVar[Any]  # of one prediction, as `datasets` describes it
    reference_feature: ClassVar[Any] = None  # of one reference; None: the same

    def __init__(self, name: str) -> None:
        super().__init__(keep_in_memory=True)
        self.config_name = self.info.config_name = name  # not through `evaluate`, which makes paths of it

    def _build_data_dir(self) -> str:
        """The folder for data that does not fit into memory: none, so that none is made below the user's home."""
        return ""

    def rows(self, references: Any, predictions: Any) -> Floats:
        """The counts of each example -> rows_NK."""
        raise NotImplementedError

    def statistic(self, sums_RK: Floats) -> Floats:
        """The score that follows from summed counts -> scores_R."""
        raise NotImplementedError

    @property
    def is_of_sums(self) -> bool:
        """Whether the score of a resample follows from the summed rows of its examples."""
        return True

    def value(self, references: Any, predictions: Any) -> float:
        """The score, as `compute` gives it, without the copy into Arrow tables that `evaluate` makes."""
        return float(self.statistic(self.rows(references, predictions).sum(axis=0, keepdims=True))[0])

    def interval(self, references: Any, predictions: Any, **options: Any) -> Interval:
        """Bootstrap interval over examples; see `multitask_bert.utils.bootstrap`."""
        return interval_of_counts(self.rows(references, predictions), self.statistic, **options)

    def gain_interval(self, before: Pairs, after: Pairs, **options: Any) -> Interval:
        """Paired bootstrap interval of the gain from one model's predictions to another's, for the same examples."""
        return interval_of_gain(self.rows(*before), self.rows(*after), self.statistic, **options)

    def _info(self) -> evaluate.MetricInfo:
        features = {
            "predictions": self.prediction_feature,
            "references": self.reference_feature or self.prediction_feature,
        }
        return evaluate.MetricInfo(
            description=self.__doc__ or "",
            citation=CITATION,
            inputs_description="predictions, references",
            features=datasets.Features(features),
        )

    def _compute(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
        return {self.config_name: self.value(references, predictions)}


@dataclass(frozen=True)
class Family:
    """The metrics over one form of predictions; `names`: those of `metric` (some also have `f1_of_<label>`)."""

    metric: type[CountedMetric]
    names: tuple[str, ...]

    def __iter__(self) -> Any:
        return iter(self.names)

    def make(self, name: str) -> CountedMetric:
        return self.metric(name)


def ratio(above: Floats, below: Floats) -> Floats:
    """above / below, and 0 for 0/0."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below != 0)


def measure(name: str, right: Floats, gold: Floats, found: Floats) -> Floats:
    """precision, recall or f1 from counts."""
    if name == "precision":
        return ratio(right, found)
    if name == "recall":
        return ratio(right, gold)
    assert name == "f1", name
    return ratio(2 * right, gold + found)


def averaged(name: str, right_RL: Floats, gold_RL: Floats, found_RL: Floats, counts_RL: Floats) -> Floats:
    """`f1` (macro), `f1_micro`, `f1_weighted` and the like; `counts_RL`: 1 for labels that a macro average counts."""
    name, _, average = name.partition("_")
    if average == "micro":
        return measure(name, right_RL.sum(axis=1), gold_RL.sum(axis=1), found_RL.sum(axis=1))
    weight_RL = gold_RL if average == "weighted" else counts_RL
    return ratio((measure(name, right_RL, gold_RL, found_RL) * weight_RL).sum(axis=1), weight_RL.sum(axis=1))

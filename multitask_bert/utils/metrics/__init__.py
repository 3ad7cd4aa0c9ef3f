"""Scores, as `evaluate` modules that load without a network.

`evaluate.load("f1")` fetches a script from the hub; these are classes, so nothing is fetched. Classification and
multi-label metrics equal scikit-learn's, correlations scipy's. Entity metrics count whole spans of words: `f1`,
`precision` and `recall` in the default mode of conlleval and seqeval (an I- after O or after another type begins an
entity), `…_strict` in strict IOB2 (only B- begins one), as `seqeval(mode="strict", scheme=IOB2)`; averages are over
all entities (micro). Answers are scored as SQuAD's script does. Where a ratio is 0/0 it counts as 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import evaluate

from multitask_bert.utils.bootstrap import Interval
from multitask_bert.utils.metrics.answers import AnswerMetric
from multitask_bert.utils.metrics.base import CountedMetric, Family
from multitask_bert.utils.metrics.entities import EntityMetric, default_spans, strict_spans
from multitask_bert.utils.metrics.labels import LabelMetric, TagMetric
from multitask_bert.utils.metrics.multilabel import MultilabelMetric
from multitask_bert.utils.metrics.regression import NumberMetric

__all__ = [
    "ANSWERS", "CLASSIFICATION", "ENTITIES", "MULTILABEL", "NUMBERS", "TAGS",
    "AnswerMetric", "CountedMetric", "EntityMetric", "Family", "LabelMetric", "MultilabelMetric", "NumberMetric",
    "TagMetric", "compute_all", "compute_module", "default_spans", "interval", "strict_spans",
]  # fmt: skip

_OF_LABELS = ("f1", "f1_weighted", "f1_micro", "precision", "recall", "accuracy", "matthews_correlation")
CLASSIFICATION = Family(LabelMetric, _OF_LABELS)
TAGS = Family(TagMetric, _OF_LABELS)
ENTITIES = Family(
    EntityMetric, ("f1", "precision", "recall", "f1_strict", "precision_strict", "recall_strict", "accuracy")
)
MULTILABEL = Family(
    MultilabelMetric, ("f1", "f1_micro", "f1_samples", "f1_weighted", "exact_match", "precision", "recall")
)
NUMBERS = Family(NumberMetric, ("pearson", "spearman", "mse", "mae"))
ANSWERS = Family(AnswerMetric, ("exact_match", "f1"))


def compute_all(family: Family, names: Sequence[str], golds: Sequence[Any], found: Sequence[Any]) -> dict[str, float]:
    """The named metrics of `found` against `golds`, in the order of the names; 0.0 where there is nothing to score."""
    if not golds:
        return dict.fromkeys(names, 0.0)
    return {name: float(family.make(name).compute(references=golds, predictions=found)[name]) for name in names}


def interval(family: Family, name: str, golds: Sequence[Any], found: Sequence[Any], **options: Any) -> Interval:
    """95% bootstrap interval of the named metric; options as in `multitask_bert.utils.bootstrap`."""
    return family.make(name).interval(golds, found, **options) if golds else (0.0, 0.0)


def compute_module(place: str, inputs: Mapping[str, Sequence[Any]]) -> float:
    """The score that somebody else's `evaluate` module (a folder, a file or a hub name) gives; its code is run.

    A module that returns several numbers is asked for the one that bears its own name.

    Raises:
        ValueError: it cannot be loaded, or which number is meant is not clear.
    """
    try:
        module = evaluate.load(place)
    except Exception as error:  # whatever the module's own code raises
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"metrics: {place} cannot be loaded ({first_line}); name a folder that holds one") from error
    scores = module.compute(**inputs)
    numbers = {name: value for name, value in scores.items() if isinstance(value, int | float)}
    name = Path(place).stem
    if name not in numbers and len(numbers) != 1:
        raise ValueError(f"metrics: {place} returns {', '.join(scores)}; one of them must be called {name}")
    return float(numbers.get(name, next(iter(numbers.values()))))

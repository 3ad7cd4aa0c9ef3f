"""Scores, as `evaluate` modules that load without a network.

`evaluate.load("f1")` fetches a script from the hub; these are classes, so nothing is fetched. Classification metrics
are scikit-learn's. Entity metrics count whole spans of words: `f1`, `precision` and `recall` in the default mode of
conlleval and seqeval (an I- after O or after another type begins an entity), `…_strict` in strict IOB2 (only B-
begins one), as `seqeval(mode="strict", scheme=IOB2)`. Averages are over all entities (micro). Where a ratio is 0/0 it
counts as 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import datasets
import evaluate

Span = tuple[str, int, int]  # type, first word, last word (inclusive)

CITATION = "see the docstring of multitask_bert.utils.metrics"


def compute_all(
    known: Mapping[str, Callable[[], evaluate.Metric]], names: Sequence[str], golds: Sequence[Any], found: Sequence[Any]
) -> dict[str, float]:
    """The named metrics of `found` against `golds`, in the order of the names; 0.0 where there is nothing to score."""
    if not golds:
        return dict.fromkeys(names, 0.0)
    return {name: float(known[name]().compute(references=golds, predictions=found)[name]) for name in names}


class LabelMetric(evaluate.Metric):  # type: ignore[misc]
    """A metric over one label per example, by name: f1, f1_weighted, f1_micro, precision, recall, accuracy, …"""

    def __init__(self, name: str) -> None:
        super().__init__(config_name=name, keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return _describe(self.__doc__, datasets.Features({"predictions": text, "references": text}))

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        from sklearn import metrics

        name, _, average = self.config_name.partition("_")
        if self.config_name == "accuracy":
            value = metrics.accuracy_score(references, predictions)
        elif self.config_name == "matthews_correlation":
            is_defined = len({*references, *predictions}) > 1  # else scikit-learn gives 0, and a warning
            value = metrics.matthews_corrcoef(references, predictions) if is_defined else 0.0
        else:
            function = {"f1": metrics.f1_score, "precision": metrics.precision_score, "recall": metrics.recall_score}[
                name
            ]
            value = function(references, predictions, average=average or "macro", zero_division=0)
        return {self.config_name: float(value)}


class EntityMetric(evaluate.Metric):  # type: ignore[misc]
    """Precision, recall or F1 over entities, by name: f1, precision, recall, each also with `_strict`."""

    def __init__(self, name: str) -> None:
        super().__init__(config_name=name, keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.Sequence(datasets.Value("string"))
        return _describe(self.__doc__, datasets.Features({"predictions": tags, "references": tags}))

    def _compute(self, predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> dict[str, float]:
        name, _, mode = self.config_name.partition("_")
        if name == "accuracy":
            pairs = [
                (g, p)
                for gold, found in zip(references, predictions, strict=True)
                for g, p in zip(gold, found, strict=True)
            ]
            return {self.config_name: sum(g == p for g, p in pairs) / max(1, len(pairs))}
        spans_of = strict_spans if mode == "strict" else default_spans
        num_gold = num_found = num_right = 0
        for gold_tags, found_tags in zip(references, predictions, strict=True):
            gold, found = set(spans_of(gold_tags)), set(spans_of(found_tags))
            num_gold, num_found, num_right = num_gold + len(gold), num_found + len(found), num_right + len(gold & found)
        ratio = {
            "precision": (num_right, num_found),
            "recall": (num_right, num_gold),
            "f1": (2 * num_right, num_gold + num_found),
        }
        above, below = ratio[name]
        return {self.config_name: above / below if below else 0.0}


def default_spans(tags: Sequence[str]) -> list[Span]:
    """Entities as conlleval reads them: B- begins one, and so does an I- that continues nothing."""
    spans: list[Span] = []
    previous = "O"
    for index, tag in enumerate(tags):
        if tag != "O":
            continues = tag.startswith("I-") and previous != "O" and previous[2:] == tag[2:]
            if continues:
                spans[-1] = (spans[-1][0], spans[-1][1], index)
            else:
                spans.append((tag[2:], index, index))
        previous = tag
    return spans


def strict_spans(tags: Sequence[str]) -> list[Span]:
    """Entities in strict IOB2: B-X and the I-X that follow it; an I- that continues nothing is no entity."""
    spans: list[Span] = []
    is_open = False
    for index, tag in enumerate(tags):
        if tag.startswith("B-"):
            spans.append((tag[2:], index, index))
            is_open = True
        elif is_open and tag.startswith("I-") and tag[2:] == spans[-1][0]:
            spans[-1] = (spans[-1][0], spans[-1][1], index)
        else:
            is_open = False
    return spans


def _describe(text: str | None, features: datasets.Features) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(description=text or "", citation=CITATION, inputs_description="names", features=features)


def _by_name(kind: Callable[[str], evaluate.Metric], names: Sequence[str]) -> dict[str, Callable[[], evaluate.Metric]]:
    def maker(name: str) -> Callable[[], evaluate.Metric]:
        return lambda: kind(name)

    return {name: maker(name) for name in names}


CLASSIFICATION = _by_name(
    LabelMetric, ("f1", "f1_weighted", "f1_micro", "precision", "recall", "accuracy", "matthews_correlation")
)
ENTITIES = _by_name(
    EntityMetric, ("f1", "precision", "recall", "f1_strict", "precision_strict", "recall_strict", "accuracy")
)

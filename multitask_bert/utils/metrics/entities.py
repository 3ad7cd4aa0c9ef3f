"""Metrics over entities: whole spans of words in IOB2 tags; equal to seqeval's and conlleval's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import numpy as np

from multitask_bert.utils.bootstrap import Floats
from multitask_bert.utils.metrics.base import CountedMetric, measure, ratio
from multitask_bert.utils.metrics.labels import OF_LABEL

Span = tuple[str, int, int]  # type, first word, last word (inclusive)


class EntityMetric(CountedMetric):
    """f1, precision and recall over entities, each also with `_strict`; accuracy over tags.

    `f1_of_X` is the F1 (default mode) of the entities of type X.
    """

    prediction_feature = datasets.Sequence(datasets.Value("string"))

    def rows(self, references: Any, predictions: Any) -> Floats:
        """Right, gold and found of each sentence: entities, or (accuracy) words -> rows_N3."""
        return np.array(
            [self._counts(gold, found) for gold, found in zip(references, predictions, strict=True)], dtype=np.float64
        ).reshape(-1, 3)

    def statistic(self, sums_RK: Floats) -> Floats:
        right_R, gold_R, found_R = sums_RK.T
        if self.config_name == "accuracy":
            return ratio(right_R, gold_R)
        return measure(self.config_name.partition("_")[0], right_R, gold_R, found_R)

    def _counts(self, gold_tags: Sequence[str], found_tags: Sequence[str]) -> tuple[int, int, int]:
        if self.config_name == "accuracy":
            return sum(g == p for g, p in zip(gold_tags, found_tags, strict=True)), len(gold_tags), len(found_tags)
        spans_of = strict_spans if self.config_name.endswith("_strict") else default_spans
        gold, found = set(spans_of(gold_tags)), set(spans_of(found_tags))
        if self.config_name.startswith(OF_LABEL):
            entity_type = self.config_name.removeprefix(OF_LABEL)
            gold, found = ({span for span in spans if span[0] == entity_type} for spans in (gold, found))
        return len(gold & found), len(gold), len(found)


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

"""Which labels a head takes for which, and how many of each label it finds, counted in a run's kept predictions.

What is counted depends on the family of the head's metrics: examples (one label each, or several), words, or entities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multitask_bert.heads import Head
from multitask_bert.records import Prediction
from multitask_bert.utils.visible import visible

NONE = "(none)"  # of entities: nothing at these words; of tags: the word was not read


@dataclass(frozen=True)
class LabelCounts:
    """How often one label is gold, predicted, and both."""

    name: str
    right: int
    gold: int
    predicted: int

    @property
    def precision(self) -> float | None:
        """None: it was never predicted."""
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """None: it is never gold."""
        return self.right / self.gold if self.gold else None

    @property
    def f1(self) -> float:
        return 2 * self.right / (self.gold + self.predicted) if self.gold + self.predicted else 0.0


@dataclass(frozen=True)
class Confusion:
    """`count_GP`: by gold and predicted label, how many `unit`s; both in the order of `names`, where NONE is last."""

    unit: str  # examples | words | entities
    names: tuple[str, ...]
    count_GP: NDArray[np.int64]

    def label_counts(self) -> list[LabelCounts]:
        right_L, gold_L, predicted_L = np.diag(self.count_GP), self.count_GP.sum(axis=1), self.count_GP.sum(axis=0)
        rows = zip(self.names, right_L.tolist(), gold_L.tolist(), predicted_L.tolist(), strict=True)
        return [LabelCounts(*row) for row in rows if row[0] != NONE]


def count_labels(head: Head, golds: Sequence[Any], values: Sequence[Any]) -> tuple[Confusion | None, list[LabelCounts]]:
    """The confusions of a head, and the counts of its labels; `golds`, `values`: as in `KeptAnswer`.

    Of several labels per text there is no confusion, of numbers and answers neither.
    """
    from multitask_bert.utils import metrics

    compared = head.compare(golds, [Prediction(value) for value in values])
    names = head.names_shown
    if compared.family is metrics.MULTILABEL:
        return None, list(_of_several(names, compared.golds, compared.found))
    if compared.family is metrics.CLASSIFICATION:
        unit, pairs = "examples", list(zip(compared.golds, compared.found, strict=True))
        if head.reads_choices and names:
            pairs = [(names[int(gold)], names[int(found)]) for gold, found in pairs]
    elif compared.family is metrics.TAGS:
        rows = zip(compared.golds, compared.found, strict=True)
        unit, pairs = "words", [
            (gold, NONE if found == metrics.NO_PREDICTION else found)
            for gold_tags, found_tags in rows
            for gold, found in zip(gold_tags, found_tags, strict=True)
        ]  # fmt: skip
    elif compared.family is metrics.ENTITIES:
        rows = zip(compared.golds, compared.found, strict=True)
        unit, pairs = "entities", [pair for gold, found in rows for pair in _of_entities(gold, found)]
    else:
        return None, []
    confusion = confusion_of(unit, pairs, names)
    return confusion, confusion.label_counts()


def confusion_of(unit: str, pairs: Iterable[tuple[str, str]], names: Iterable[str]) -> Confusion:
    """Count pairs of gold and predicted label; labels that are not among `names` follow these."""
    pairs = list(pairs)
    found = {name for pair in pairs for name in pair}
    ordered = list(dict.fromkeys([*names, *sorted(found)]))
    ordered = [name for name in ordered if name != NONE] + [NONE] * (NONE in found)
    ids = {name: index for index, name in enumerate(ordered)}
    size = len(ordered)
    cells = np.array([ids[gold] * size + ids[predicted] for gold, predicted in pairs], dtype=np.int64)
    counts = np.bincount(cells, minlength=size * size).reshape(size, size)
    return Confusion(unit, tuple(visible(name) for name in ordered), counts)


def _of_entities(gold_tags: Sequence[str], found_tags: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The gold and the predicted type of the entities that span the same words; NONE where one side has no such."""
    from multitask_bert.utils.metrics import default_spans

    gold, found = (
        {(first, last): name for name, first, last in default_spans(tags)} for tags in (gold_tags, found_tags)
    )
    for words in gold | found:
        yield gold.get(words, NONE), found.get(words, NONE)


def _of_several(names: Sequence[str], golds: Sequence[Any], found: Sequence[Any]) -> Iterator[LabelCounts]:
    """Per label, over the examples where it is known; columns beyond `names` are of labels that the head lacks."""
    if not golds:
        return
    gold_NL, found_NL = np.array(golds)[:, : len(names)], np.array(found)[:, : len(names)]
    is_known_NL = gold_NL >= 0
    right_L, gold_L = ((gold_NL == 1) & (found_NL == 1)).sum(axis=0), (gold_NL == 1).sum(axis=0)
    predicted_L = ((found_NL == 1) & is_known_NL).sum(axis=0)
    for row in zip(names, right_L.tolist(), gold_L.tolist(), predicted_L.tolist(), strict=True):
        yield LabelCounts(visible(row[0]), *row[1:])

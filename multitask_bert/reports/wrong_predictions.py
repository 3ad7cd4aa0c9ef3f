"""The wrong predictions that a run has kept, each with the kind of its error, and the counts of these per label.

What kinds there are depends on how a head is scored: as labels, tags, entities, several labels, numbers or answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from multitask_bert.heads import Head
from multitask_bert.records import Prediction
from multitask_bert.reports.comparison import shown_answers
from multitask_bert.saving.predictions import KeptAnswer, KeptExample

RIGHT = "right"
BOUNDARY, TYPE, BOTH = "wrong boundary", "wrong type", "wrong boundary and type"
MISSED, SPURIOUS, ADDED = "missed", "spurious", "added"
TOO_LOW, TOO_HIGH, NO_NUMBER = "too low", "too high", "not a number"
NOT_READ = "(not read)"  # a word that was truncated away
NOT_ANSWERED, NOT_TO_ANSWER = "no answer where there is one", "an answer where there is none"
PARTLY, OTHER = "shares words with the right answer", "shares no word with the right answer"
FIXED_KINDS = (
    BOUNDARY, TYPE, BOTH, MISSED, SPURIOUS, ADDED, TOO_LOW, TOO_HIGH, NO_NUMBER, NOT_ANSWERED, NOT_TO_ANSWER, PARTLY,
    OTHER,
)  # fmt: skip
ALL = "all"  # the row of a head that has no labels to count by
Entity = tuple[str, int, int]  # type, first word, last word


@dataclass(frozen=True)
class WrongPrediction:
    """One error: an example, or an entity, word or label of it."""

    kind: str
    label: str  # that it is counted for: the gold one, or the predicted one where there is no gold
    where: str  # file and line
    text: str
    gold: str
    predicted: str
    weight: float | None  # probability of the wrong answer, margin or size of the residual; None: not known


@dataclass
class HeadErrors:
    """The errors of one head on one set of examples."""

    set: str  # dev, test, or test.NAME
    task: str
    head: str
    num_examples: int  # with a label
    weight: str  # what `WrongPrediction.weight` is
    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # by label and kind, with those that are right
    wrong: list[WrongPrediction] = field(default_factory=list)  # greatest weight first

    @property
    def num_by_kind(self) -> dict[str, int]:
        """The number of errors of each kind, most frequent first."""
        return dict(Counter(one.kind for one in self.wrong).most_common())


def find_errors(set_name: str, task: str, name: str, head: Head, examples: Iterable[KeptExample]) -> HeadErrors:
    """Sort the predictions of one head; examples without a label do not count."""
    known = [example for example in examples if name in example.answers and example.answers[name].gold is not None]
    find, weight = _finder_of(head)
    errors = HeadErrors(set_name, task, name, len(known), weight)
    for example in known:
        answer = example.answers[name]
        for kind, label, gold, predicted, size in find(head, example, answer):
            of_label = errors.counts.setdefault(label, {})
            of_label[kind] = of_label.get(kind, 0) + 1
            if kind != RIGHT:
                text = " / ".join(filter(None, (example.text, example.text_pair)))
                errors.wrong.append(WrongPrediction(kind, label, example.where, text, gold, predicted, size))
    errors.wrong.sort(key=lambda one: -math.inf if one.weight is None else one.weight, reverse=True)
    return errors


def pair_entities(gold: Sequence[Entity], found: Sequence[Entity]) -> list[tuple[str, Entity | None, Entity | None]]:
    """(kind, gold entity, found entity): each entity once, in pairs where they overlap.

    Equal ones are paired first, then those of equal boundaries, then those of equal type, then others, each time those
    that share the most words. What is left was missed, or is spurious.
    """
    left_gold, left_found = dict.fromkeys(gold), dict.fromkeys(found)
    pairs: list[tuple[str, Entity | None, Entity | None]] = []
    overlapping = [(g, f) for g in left_gold for f in left_found if _num_shared(g, f) > 0]
    for kind in (RIGHT, TYPE, BOUNDARY, BOTH):
        alike = [(g, f) for g, f in overlapping if _kind_of_pair(g, f) == kind]
        for g, f in sorted(alike, key=lambda pair: -_num_shared(*pair)):
            if g in left_gold and f in left_found:
                pairs.append((kind, g, f))
                del left_gold[g], left_found[f]
    pairs += [(MISSED, g, None) for g in left_gold]
    return pairs + [(SPURIOUS, None, f) for f in left_found]


def _kind_of_pair(gold: Entity, found: Entity) -> str:
    if gold[1:] == found[1:]:
        return RIGHT if gold == found else TYPE
    return BOUNDARY if gold[0] == found[0] else BOTH


def _num_shared(one: Entity, other: Entity) -> int:
    return min(one[2], other[2]) - max(one[1], other[1]) + 1


# A finder yields (kind, label, gold, predicted, weight) for everything in an example that is counted.
Found = Iterator[tuple[str, str, str, str, float | None]]


def _finder_of(head: Head) -> tuple[Any, str]:
    """The finder for the way the head is scored, and what its weights are."""
    from multitask_bert.utils import metrics

    family = head.compare([], []).family
    finders = [
        (metrics.ENTITIES, _entities, ""),
        (metrics.TAGS, _tags, ""),
        (metrics.MULTILABEL, _several_labels, "probability"),
        (metrics.NUMBERS, _number, "residual"),
        (metrics.ANSWERS, _answer, "margin"),
    ]
    return next(((finder, weight) for one, finder, weight in finders if one is family), (_label, "probability"))


def _label(head: Head, example: KeptExample, answer: KeptAnswer) -> Found:
    """Of one label or choice: the kind is the confusion, as in `neutral → positive`."""
    gold, predicted = _shown(example, answer)
    is_right = head.is_right(answer.gold, Prediction(answer.predicted))
    found = answer.predicted
    if isinstance(found, int) and answer.scores:  # a choice without a name
        size: float | None = answer.scores[found]
    else:
        size = answer.probabilities.get(head.labels.names[found] if isinstance(found, int) else found)
    kind = RIGHT if is_right else f"{answer.gold} → {answer.predicted}"
    yield kind, str(answer.gold), gold, predicted, size


def _several_labels(head: Head, example: KeptExample, answer: KeptAnswer) -> Found:
    gold, predicted = _shown(example, answer)
    for name in dict.fromkeys((*head.labels.names, *answer.gold)):
        cell, is_found = answer.gold.get(name, False), name in (answer.predicted or ())
        if cell is None or not (cell or is_found):
            continue
        probability = answer.probabilities.get(name)
        if cell and is_found:
            yield RIGHT, name, gold, predicted, probability
        elif cell:
            yield MISSED, name, gold, predicted, None if probability is None else 1 - probability
        else:
            yield ADDED, name, gold, predicted, probability


def _tags(head: Head, example: KeptExample, answer: KeptAnswer) -> Found:
    words = example.words or ()
    for index, (gold, found) in enumerate(zip(answer.gold, answer.predicted or (), strict=False)):
        predicted = NOT_READ if found is None else str(found)
        kind = RIGHT if gold == found else f"{gold} → {predicted}"
        word = words[index] if index < len(words) else ""
        yield kind, str(gold), f"{word}={gold}", f"{word}={predicted}", None


def _entities(head: Head, example: KeptExample, answer: KeptAnswer) -> Found:
    from multitask_bert.utils.metrics import default_spans

    words = example.words or ()
    for kind, gold, found in pair_entities(default_spans(answer.gold), default_spans(answer.predicted or ())):
        label = (gold or found or ("",))[0]
        yield kind, label, _shown_entity(gold, words), _shown_entity(found, words), None


def _shown_entity(entity: Entity | None, words: Sequence[str]) -> str:
    return "none" if entity is None else f"{entity[0]}: {' '.join(words[entity[1] : entity[2] + 1])}"


def _number(head: Head, example: KeptExample, answer: KeptAnswer) -> Found:
    if answer.predicted is None:
        yield NO_NUMBER, ALL, f"{answer.gold:g}", "none", None
        return
    residual = answer.predicted - answer.gold
    kind = TOO_HIGH if residual > 0 else TOO_LOW if residual < 0 else RIGHT
    yield kind, ALL, f"{answer.gold:g}", f"{answer.predicted:.4g}", abs(residual)


def _answer(head: Head, example: KeptExample, answer: KeptAnswer) -> Found:
    """Of an answer to a question; the margin is over "no answer", in logits."""
    from multitask_bert.utils.metrics.answers import answer_f1, best_over

    gold, predicted = _shown(example, answer)
    texts = [text for text, _ in answer.gold]
    label = "with an answer" if texts else "without an answer"
    margin = answer.scores[0] - answer.scores[1] if len(answer.scores) == 2 else None
    if head.is_right(answer.gold, Prediction(answer.predicted)):
        yield RIGHT, label, gold, predicted, margin
    elif not texts:
        yield NOT_TO_ANSWER, label, gold, predicted, margin
    elif not answer.predicted:
        yield NOT_ANSWERED, label, gold, predicted, None if margin is None else -margin
    else:
        kind = PARTLY if best_over(answer_f1, texts, answer.predicted) > 0 else OTHER
        yield kind, label, gold, predicted, margin


def _shown(example: KeptExample, answer: KeptAnswer) -> tuple[str, str]:
    gold, predicted, _ = shown_answers(example, (answer, answer))
    return gold, predicted

"""`type: tagging`: one tag per word; entity spans in IOB2, or plain tags.

The first piece of a word carries its tag. Scores are on words and entities, never on pieces: a word that truncation cut
off counts as O (plain: as wrong).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multitask_bert.config import HeadConfig, InputError
from multitask_bert.heads.base import Head
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, EncodedExample, Example, Offset, Pieces, Prediction, Target

if TYPE_CHECKING:
    import numpy as np

IOB2_TAG = re.compile(r"O|[BI]-.+")
OUTSIDE = "O"
ENTITY_METRICS = ("f1", "precision", "recall", "f1_strict", "precision_strict", "recall_strict")


class TaggingHead(Head):
    """Dropout and a linear layer over each word's first piece, as in `BertForTokenClassification`."""

    known_metrics = (*ENTITY_METRICS, "f1_weighted", "f1_micro", "accuracy")
    reads_words = True
    pools_text = False

    @classmethod
    def default_metrics(cls, config: HeadConfig) -> tuple[str, ...]:
        return ("f1", "precision", "recall", "f1_strict") if config.scheme == "iob2" else ("accuracy", "f1")

    @classmethod
    def problems(cls, config: HeadConfig) -> Iterator[str]:
        if config.scheme not in ("iob2", "plain"):
            yield f"scheme={config.scheme}: choose iob2 (entity spans) or plain (one tag per word)"
        yield from super().problems(config)
        plain_only, spans_only = ("f1_weighted", "f1_micro"), ("f1_strict", "precision_strict", "recall_strict")
        for metric in cls.metrics_of(config):
            if metric in (plain_only if config.scheme == "iob2" else spans_only):
                yield f"metrics: {metric} is not defined for scheme {config.scheme}"

    @classmethod
    def collect(cls, config: HeadConfig, values: Iterable[Any]) -> LabelSet:
        """Plain: the tags. IOB2: O and, for every entity type, B- and I-, also where train holds only one of them."""
        if config.scheme == "plain":
            found = config.labels if config.labels is not None else {tag for tags in values if tags for tag in tags}
            return LabelSet.from_names(found)
        if config.labels is not None:
            types: Iterable[str] = config.labels
        else:
            types = {tag[2:] for tags in values if tags for tag in tags if IOB2_TAG.fullmatch(tag) and tag != OUTSIDE}
        return LabelSet((OUTSIDE, *(f"{prefix}-{kind}" for kind in sorted(set(types)) for prefix in "BI")))

    def check_label(self, value: Any, example: Example) -> None:
        for index, tag in enumerate(value or ()):
            if self.config.scheme == "iob2" and not IOB2_TAG.fullmatch(tag):
                raise InputError(
                    f"{_line_of_word(example, index)}: tag '{tag}' is not IOB2 (expected O, B-X or I-X); correct it, "
                    f"or set `scheme: plain` for tags that are not entity spans"
                )
            if tag not in self.labels:
                known = self.labels.names
                if self.config.scheme == "iob2":
                    tag, known = tag[2:], tuple(name[2:] for name in known if name.startswith("B-"))
                raise self.refuse_unseen(tag, _at_word(example, index), known)

    @classmethod
    def parse(cls, config: HeadConfig, raw: Any, where: str) -> Any:
        if raw is None:
            return None
        if isinstance(raw, str) or not all(isinstance(tag, str) for tag in raw):
            raise InputError(f"{where}: tagging needs one tag per word, but found {str(raw)[:60]!r}")
        return tuple(raw)

    def encode(self, value: Any, pieces: Pieces) -> Target:
        kept = [(start, index) for index, start in enumerate(pieces.word_starts) if start >= 0]
        anchors = tuple(start for start, _ in kept)
        if value is None:
            return Target(anchors, (UNKNOWN,) * len(kept), num_known=0)
        values = tuple(self.labels.ids[value[index]] for _, index in kept)
        return Target(anchors, values, num_known=len(kept))

    def decode(self, logits_ML: np.ndarray, encoded: EncodedExample) -> Prediction:
        best = iter(logits_ML.argmax(axis=-1).tolist())
        missing = OUTSIDE if self.config.scheme == "iob2" else ""
        return Prediction(
            tuple(self.labels.names[next(best)] if start >= 0 else missing for start in encoded.word_starts)
        )

    def present(self, prediction: Prediction, encoded: EncodedExample) -> dict[str, Any]:
        """Words and tags (None where a word was not read), and for entities their place in the text, in characters."""
        example = encoded.example
        words = example.words or ()
        read = [start >= 0 for start in encoded.word_starts]
        tags = [tag if was_read else None for tag, was_read in zip(prediction.value, read, strict=True)]
        shown: dict[str, Any] = {"words": list(words), "tags": tags}
        if self.config.scheme != "plain":
            places = example.word_offsets or _places_of(words)
            shown["entities"] = [
                {"label": label, "text": example.text[begin:end], "start": begin, "end": end}
                for label, first, last in _entities(prediction.value)
                for begin, end in [(places[first][0], places[last][1])]
            ]
        return shown

    def score(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, float]:
        from multitask_bert.utils import metrics

        known = [(list(g), list(p.value)) for g, p in zip(golds, predictions, strict=True) if g is not None]
        if self.config.scheme == "iob2":
            return metrics.compute_all(metrics.ENTITIES, self.metrics, [g for g, _ in known], [p for _, p in known])
        flat = [(g, p) for tags, found in known for g, p in zip(tags, found, strict=True)]
        return metrics.compute_all(metrics.CLASSIFICATION, self.metrics, [g for g, _ in flat], [p for _, p in flat])


def _entities(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Label, first and last word of each entity; an I- that continues nothing begins one, as where F1 is scored."""
    first = 0
    for index, tag in enumerate(tags):
        label = tag[2:]
        if tag.startswith("B-") or index == 0 or tags[index - 1][2:] != label:
            first = index
        is_last = index + 1 == len(tags) or tags[index + 1] != f"I-{label}"
        if label and is_last:
            yield label, first, index


def _places_of(words: Sequence[str]) -> list[Offset]:
    """Where each word stands in the words joined by spaces."""
    ends = list(itertools.accumulate(len(word) + 1 for word in words))
    return [(end - len(word) - 1, end - 1) for word, end in zip(words, ends, strict=True)]


def _line_of_word(example: Example, index: int) -> str:
    """CoNLL has one word per line: the line of a word follows from the line of its sentence."""
    file, _, line = example.where.rpartition(":")
    return f"{file}:{int(line) + index}" if line.isdigit() else example.where


def _at_word(example: Example, index: int) -> Example:
    return Example(where=_line_of_word(example, index), text=example.text, labels={})

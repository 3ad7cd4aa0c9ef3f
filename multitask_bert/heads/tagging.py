"""`type: tagging`: one tag per word; entity spans (learned and scored as IOB2), or plain tags.

The first token of a word carries its tag. Scores are on words and entities, never on tokens: a word that was truncated
away counts as O (plain: it has no tag, None, which is wrong).
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import options
from multitask_bert.heads.base import Head
from multitask_bert.heads.iob2 import OUTSIDE, TAGS, TagError, best_valid_sequence, to_iob2
from multitask_bert.heads.scoring import PER_LABEL, Comparison, only_known
from multitask_bert.labels import LabelSet
from multitask_bert.records import CONTINUES_WORD, UNKNOWN, EncodedExample, Example, Offset, Prediction, Target, Tokens

if TYPE_CHECKING:
    import numpy as np

PLAIN = "plain"
ENTITY_METRICS = ("f1", "precision", "recall", "f1_strict", "precision_strict", "recall_strict")
MOST_ORPHANS = 0.5  # share of entities that begin with I-, above which a file is hardly IOB2

log = logging.getLogger(__name__)


class TaggingHead(Head):
    """Dropout and a linear layer over each word's first token, as in `BertForTokenClassification`."""

    known_metrics = (*ENTITY_METRICS, "f1_weighted", "f1_micro", "matthews_correlation", "accuracy", PER_LABEL)
    own_options = ("scheme", "constrained", "class_weights", "label_smoothing", "names", "unknown_labels")
    reads_words = True
    pools_text = False

    @classmethod
    def default_metrics(cls, config: HeadConfig) -> tuple[str, ...]:
        return ("accuracy", "f1") if config.scheme == PLAIN else ("f1", "precision", "recall", "f1_strict")

    @classmethod
    def problems(cls, config: HeadConfig) -> Iterator[str]:
        if config.scheme not in (*TAGS, PLAIN):
            yield f"scheme={config.scheme}: choose {', '.join(TAGS)} (entity spans) or {PLAIN} (one tag per word)"
        yield from super().problems(config)
        if config.constrained and config.scheme == PLAIN:
            yield f"constrained=True: has no effect with scheme={PLAIN}, where every sequence of tags is valid"
        plain_only = ("f1_weighted", "f1_micro", "matthews_correlation")
        spans_only = ("f1_strict", "precision_strict", "recall_strict")
        for metric in cls.metrics_of(config):
            if metric in (spans_only if config.scheme == PLAIN else plain_only):
                yield f"metrics: {metric} is not defined for scheme {config.scheme}"

    @classmethod
    def parse(cls, config: HeadConfig, raw: Any, where: str) -> tuple[str, ...] | None:
        """One tag per word; those of entity spans checked and converted to IOB2."""
        if raw is None:
            return None
        if isinstance(raw, str) or not all(isinstance(tag, str) for tag in raw):
            raise InputError(f"{where}: tagging needs one tag per word, but found {str(raw)[:60]!r}")
        tags = tuple(str(tag).strip(" ") for tag in raw)
        if config.scheme == PLAIN:
            return tags
        try:
            return to_iob2(tags, config.scheme)
        except TagError as error:
            raise InputError(
                f"{_line_of_word(where, error.index)}: {error}; correct it, or set the head's `scheme:` to that of the "
                f"file ({', '.join(TAGS)}; {PLAIN} for tags that are not entity spans)"
            ) from error

    @classmethod
    def collect(cls, config: HeadConfig, values: Iterable[Any]) -> LabelSet:
        """Plain: the tags. Entities: O and, for every type, B- and I-, also where train has only one of them."""
        sentences = [tags for tags in values if tags]
        found = [tag for tags in sentences for tag in tags]
        if config.scheme == PLAIN:
            return LabelSet.from_names(found if config.labels is None else config.labels).counted(found)
        types = {tag[2:] for tag in found if tag != OUTSIDE} if config.labels is None else {*config.labels}
        if config.scheme == "iob2":
            _warn_of_iob1(sentences)
        names = (OUTSIDE, *(f"{prefix}-{entity_type}" for entity_type in sorted(types) for prefix in "BI"))
        return LabelSet(names).counted(found)

    @classmethod
    def join_labels(cls, label_sets: Sequence[LabelSet]) -> LabelSet:
        """In order of types, O first, as `collect` has them; plain tags in order of names."""
        are_spans = any(OUTSIDE in labels for labels in label_sets) and all(
            name == OUTSIDE or name[:2] in ("B-", "I-") for labels in label_sets for name in labels.names
        )
        return LabelSet.joined(label_sets, key=(lambda name: (name[2:], name)) if are_spans else None)

    def spelled(self, value: Any) -> Any:
        if value is None or self.config.scheme != PLAIN:
            return value
        return tuple(tag if tag in self.labels else self.labels.spelled(tag) for tag in value)

    def check_label(self, value: Any, example: Example) -> None:
        for index, tag in enumerate(value or ()):
            if tag not in self.labels:
                tag = tag if self.config.scheme == PLAIN else tag[2:]
                at_word = Example(where=_line_of_word(example.where, index), text=example.text, labels={})
                raise self.refuse_unseen(tag, at_word, self.names_shown)

    def encode(self, value: Any, tokens: Tokens) -> Target:
        kept = [(start, index) for index, start in enumerate(tokens.word_starts) if start >= 0]
        firsts = tuple(start for start, _ in kept)
        if value is None:
            return Target(firsts, (UNKNOWN,) * len(kept), num_known=0)
        values = tuple(self.labels.ids.get(value[index], UNKNOWN) for _, index in kept)
        return Target(firsts, values, num_known=sum(known != UNKNOWN for known in values))

    def decode(self, logits_ML: np.ndarray, encoded: EncodedExample) -> Prediction:
        import numpy as np

        starts_W = np.array(encoded.word_starts, dtype=np.int64)
        has_tokens_W = starts_W[starts_W != CONTINUES_WORD] >= 0
        if self.config.constrained:
            scores_WL = np.full((len(has_tokens_W), len(self.labels)), -np.inf)
            scores_WL[:, self.labels.ids[OUTSIDE]] = 0.0  # for words without tokens nothing else is possible
            scores_WL[has_tokens_W] = logits_ML
            names = self.labels.names
            tags: list[str | None] = [names[best] for best in best_valid_sequence(scores_WL, names)]
        else:
            best = iter(logits_ML.argmax(axis=-1).tolist())
            missing = None if self.config.scheme == PLAIN else OUTSIDE
            tags = [self.labels.names[next(best)] if has else missing for has in has_tokens_W.tolist()]
        return Prediction(tuple(_with_parts(tags, encoded.word_starts)))

    def label_probabilities(self, logits_ML: np.ndarray, target: Target) -> np.ndarray:
        return options.probabilities_of(target.values, logits_ML)

    def present(self, prediction: Prediction, encoded: EncodedExample) -> dict[str, Any]:
        """Words and tags (None where a word was not read), and for entities their begin and end in characters."""
        example = encoded.example
        words = example.words or ()
        read = [start != -1 for start in encoded.word_starts]
        tags = [tag if was_read else None for tag, was_read in zip(prediction.value, read, strict=True)]
        shown: dict[str, Any] = {"words": list(words), "tags": tags}
        if self.config.scheme != PLAIN:
            offsets = example.word_offsets or _offsets_of(words)
            shown["entities"] = [
                {"label": label, "text": example.text[begin:end], "start": begin, "end": end}
                for label, first, last in _entities(prediction.value)
                for begin, end in [(offsets[first][0], offsets[last][1])]
            ]
        return shown

    def compare(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> Comparison:
        from multitask_bert.utils import metrics

        known = only_known(golds, predictions)
        found = [[metrics.NO_PREDICTION if tag is None else tag for tag in one.value] for _, one in known]
        family = metrics.TAGS if self.config.scheme == PLAIN else metrics.ENTITIES
        return Comparison(family, [list(gold) for gold, _ in known], found)

    def for_module(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
        """Tags by sentence; "" for a word that was not read."""
        known = only_known(golds, predictions)
        found = [["" if tag is None else tag for tag in one.value] for _, one in known]
        return {"references": [list(gold) for gold, _ in known], "predictions": found}

    def dummy_examples(self) -> Sequence[tuple[Any, Any]]:
        return [(tags, tags) for tags in (self.labels.names[:2], self.labels.names[:1])]

    def metrics_by_label(self) -> dict[str, str]:
        return {f"f1_of_{name}": f"f1_of_{name}" for name in self.names_shown}

    def answers_in(self, prediction: Prediction) -> Iterable[Hashable]:
        return tuple(tag for tag in prediction.value if tag in self.labels)  # truncated words have none

    def frequency_logits(self) -> tuple[float, ...] | None:
        return options.frequency_logits(self.config, self.labels)

    def always(self, answer: Hashable, gold: Any) -> Prediction:
        return Prediction((answer,) * len(gold))

    def is_right(self, gold: Any, prediction: Prediction) -> bool:
        return tuple(gold) == tuple(prediction.value)

    @property
    def names_shown(self) -> tuple[str, ...]:
        """The tags, or the types of entities."""
        if self.config.scheme == PLAIN:
            return self.labels.names
        return tuple(name[2:] for name in self.labels.names if name.startswith("B-"))


def _entities(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Label, first and last word of each entity; an I- that continues nothing begins one, as in the F1 score."""
    first = 0
    for index, tag in enumerate(tags):
        label = tag[2:]
        if tag.startswith("B-") or index == 0 or tags[index - 1][2:] != label:
            first = index
        is_last = index + 1 == len(tags) or tags[index + 1] != f"I-{label}"
        if label and is_last:
            yield label, first, index


def _with_parts(tags: Iterable[str | None], word_starts: Sequence[int]) -> Iterator[str | None]:
    """The tags of words, and of the parts that continue them and their entities."""
    left = iter(tags)
    tag: str | None = None
    for start in word_starts:
        if start != CONTINUES_WORD:
            tag = next(left)
        elif tag is not None and tag.startswith("B-"):
            tag = f"I-{tag[2:]}"
        yield tag


def _offsets_of(words: Sequence[str]) -> list[Offset]:
    """Begin and end of each word in the words joined by spaces."""
    ends = list(itertools.accumulate(len(word) + 1 for word in words))
    return [(end - len(word) - 1, end - 1) for word, end in zip(words, ends, strict=True)]


def _line_of_word(where: str, index: int) -> str:
    """The line of a word, counted from that of its sentence: CoNLL has one word per line."""
    file, _, line = where.rpartition(":")
    return f"{file}:{int(line) + index}" if line.isdigit() else where


def _warn_of_iob1(sentences: Iterable[Sequence[str]]) -> None:
    """Log that most entities begin with I-, which IOB2 does not allow."""
    num_begun = num_orphans = 0
    for tags in sentences:
        for before, tag in itertools.pairwise((OUTSIDE, *tags)):
            num_begun += tag[:2] == "B-"
            num_orphans += tag[:2] == "I-" and before[2:] != tag[2:]
    if num_orphans > MOST_ORPHANS * (num_begun + num_orphans):
        log.warning(
            "%d of %d entities in train begin with I-: if the file is IOB1, set `scheme: iob1`",
            num_orphans, num_begun + num_orphans,
        )  # fmt: skip

"""Step 1 of the flow, once heads have their labels: every label of a split must be one that its head knows."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from multitask_bert.data.words import num_out_of_reach
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, UnknownLabelError
from multitask_bert.labels import alike
from multitask_bert.records import Example

log = logging.getLogger(__name__)

NUM_SHOWN = 10  # labels that are named, of those that are unknown or alike
FEWEST_KNOWN = 10  # labels of a head in dev; with fewer, a warning is logged that its score is unreliable


def check_labels(
    split: str, examples: Sequence[Example], heads: Mapping[str, Head], *, lenient: Collection[str] = ()
) -> dict[str, int] | None:
    """The number of missing labels by head; None for a test set without labels, which is to be left out.

    Shared tasks often hold back the labels of the test set. `lenient`: heads for which an unknown label of dev or test
    counts as wrong, instead of being refused.

    Raises:
        InputError: a label is unknown or does not fit its example, or a head has no label in train or dev.
    """
    num_missing = dict.fromkeys(heads, 0)
    num_unreachable: Counter[str] = Counter()
    num_entities: Counter[str] = Counter()
    unknown = _UnknownLabels(split, lenient)
    for example in examples:
        if example.spans is not None:
            num_unreachable.update(num_out_of_reach(example))
            num_entities.update({head: len(spans) for head, spans in example.spans.items()})
        for name, head in heads.items():
            label = head.spelled(example.labels[name])
            with unknown.collected(name, label):
                head.check_label(label, example)
            num_missing[name] += label is None
    where = examples[0].where
    for name in sorted(+num_unreachable):
        effect = "they are learned as the whole words that they touch"
        if split != "train":
            effect = "no prediction finds them, and they count as missed"
        log.warning(
            "%s: %d of %d %s entities of heads.%s begin or end where no word does (inside one, or at white space): %s",
            where, num_unreachable[name], num_entities[name], split, name, effect,
        )  # fmt: skip
    unknown.report(where, {name: len(examples) - missing for name, missing in num_missing.items()})
    unlabelled = [name for name, missing in num_missing.items() if missing == len(examples)]
    is_test = split.partition(".")[0] == "test"
    if is_test and len(unlabelled) == len(heads):
        log.warning("%s: no test example has a label; the test set is left out", where)
        return None
    for name, missing in num_missing.items():
        if split == "dev" and 0 < len(examples) - missing < FEWEST_KNOWN:
            log.warning(
                "%s: only %d dev example(s) have a label for heads.%s: its score is unreliable",
                where, len(examples) - missing, name,
            )  # fmt: skip
    if not is_test and unlabelled:
        purpose = "learned" if split == "train" else "scored"
        or_null = "" if split == "train" else ", or null to split dev off from train"
        raise InputError(
            f"{where}: no {split} example has a label for heads.{unlabelled[0]}, so nothing can be {purpose}; name "
            f"another file in source.{split}{or_null}"
        )
    return num_missing


class _UnknownLabels:
    """The labels of a split that its heads do not know: refused together, or, for lenient heads, counted."""

    def __init__(self, split: str, lenient: Collection[str]) -> None:
        self.split = split
        self.counts: dict[str, Counter[str]] = {name: Counter() for name in lenient if split != "train"}
        self.num_lost: Counter[str] = Counter()  # by head: examples with nothing but an unknown label
        self.first: dict[tuple[str, str], InputError] = {}  # of the other heads, by head and label
        self.refused: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def collected(self, head: str, value: Any) -> Iterator[None]:
        """Keep the `UnknownLabelError` for the label `value` of an example."""
        try:
            yield
        except UnknownLabelError as error:
            if head in self.counts:
                self.counts[head][error.label] += 1
                self.num_lost[head] += isinstance(value, str)  # not one of several labels, or of a sentence's tags
            else:
                self.first.setdefault((head, error.label), error)
                self.refused[head, error.label] += 1

    def report(self, where: str, num_labels: Mapping[str, int]) -> None:
        """After the last example. `num_labels`: by head, those that are not missing.

        Raises:
            InputError: labels are unknown and do not count as wrong, or no label of a head is known.
        """
        if self.first:
            lines = [
                f"{error} ({self.refused[key]} examples)" if self.refused[key] > 1 else str(error)
                for key, error in list(self.first.items())[:NUM_SHOWN]
            ]
            if len(self.first) > NUM_SHOWN:
                lines.append(f"and {len(self.first) - NUM_SHOWN} more labels")
            raise InputError("\n".join(lines))
        for head, counts in self.counts.items():
            if not counts:
                continue
            shown = ", ".join(f"{label} ({number})" for label, number in counts.most_common(NUM_SHOWN))
            if self.num_lost[head] == num_labels[head]:
                raise InputError(
                    f"{where}: heads.{head} knows none of the labels that {self.split} has ({shown}), so nothing can "
                    f"be scored; check `column` and source.{self.split}"
                )
            log.warning(
                "%s: %d %s example(s) have a label that heads.%s does not know, which counts as wrong: %s",
                where, counts.total(), self.split, head, shown,
            )  # fmt: skip


def warn_of_similar_labels(head_name: str, head: Head) -> None:
    """Log the labels that are probably one label in two spellings."""
    pairs = list(alike(head.names_shown))
    for one, other in pairs[:NUM_SHOWN]:
        log.warning(
            "heads.%s: the labels %r and %r differ only in how they are written, and are two labels; if one is meant, "
            "write it in one way", head_name, one, other,
        )  # fmt: skip
    if len(pairs) > NUM_SHOWN:
        log.warning("heads.%s: and %d more such pairs of labels", head_name, len(pairs) - NUM_SHOWN)

"""Cutting a missing dev or test set from train: seeded, stratified, and no text on both sides."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from multitask_bert.records import Example
from multitask_bert.utils.seeding import generator_for


def cut(
    examples: Sequence[Example], fraction: float, *, seed: int, purpose: str
) -> tuple[list[Example], list[Example]]:
    """(the rest, the part that was cut), both in the order of the file.

    Copies of a text go together. Each stratum (a class; for tags, the set of entity types in the sentence) gives its
    share; but the last text that holds a label stays, so that every label of the part occurs in the rest too.
    """
    copies: dict[str, list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        copies[text_key(example)].append(index)
    strata: dict[str, list[list[int]]] = defaultdict(list)
    for indices in copies.values():
        strata[stratum_of(examples[indices[0]])].append(indices)
    left = Counter(label for indices in copies.values() for label in _labels_of(examples, indices))
    generator = generator_for(seed, "split", purpose)
    chosen: set[int] = set()
    owed = 0.0  # what rounding in earlier strata left over, so that many small strata still give their share
    for key in sorted(strata):
        groups = strata[key]
        owed += fraction * len(groups)
        for place in generator.permutation(len(groups)):
            labels = _labels_of(examples, groups[place])
            if owed > 0.5 and all(left[label] > 1 for label in labels):
                chosen.update(groups[place])
                left.subtract(labels)
                owed -= 1
    rest = [example for index, example in enumerate(examples) if index not in chosen]
    return rest, [examples[index] for index in sorted(chosen)]


def text_key(example: Example) -> str:
    """What makes two texts the same: the letters, whatever their case, spacing or Unicode form."""
    joined = f"{example.text}\t{example.text_pair or ''}"
    folded = unicodedata.normalize("NFKC", joined).casefold()  # which may take letters apart again
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def stratum_of(example: Example) -> str:
    return "|".join(f"{name}={_kind(value)}" for name, value in sorted(example.labels.items()))


def _labels_of(examples: Sequence[Example], indices: Sequence[int]) -> set[tuple[str, str]]:
    """Every label of these examples, by head, and an empty one that all have: the last text of all stays, too."""
    labels = [(name, value) for index in indices for name, value in examples[index].labels.items()]
    return {("", "")} | {(name, label) for name, value in labels for label in _names_in(value)}


def _names_in(value: Any) -> Iterable[str]:
    """The names of classes in a label: itself, its tags, or those of several labels that are so; numbers have none."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        return (str(name) for name, is_so in value.items() if is_so is True)
    return (tag for tag in value if isinstance(tag, str)) if isinstance(value, tuple) else ()


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(sorted({tag[2:] for tag in _names_in(value) if tag[1:2] == "-"}))
    return ",".join(sorted(_names_in(value)))

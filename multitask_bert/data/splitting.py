"""Step 1 of the flow: what is drawn from train by a seed: dev and test sets, folds, fewer examples to train on."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from multitask_bert.data.text_keys import text_key
from multitask_bert.errors import InputError
from multitask_bert.records import Example
from multitask_bert.utils.seeding import generator_for


class ExampleSubset(Sequence[Example]):
    """Some examples of a sequence, which stays where it is, in memory or on disk."""

    def __init__(self, examples: Sequence[Example], indices: Sequence[int]) -> None:
        self.examples, self.indices = examples, array("q", indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.examples[i] for i in self.indices[index]]
        return self.examples[self.indices[index]]


def split_off(
    examples: Sequence[Example], fraction: float, *, seed: int, purpose: str
) -> tuple[ExampleSubset, ExampleSubset]:
    """The rest, and the part that is split off, both in the order of the file; no text is in both.

    Each stratum (a class; for tags, the set of entity types in the sentence) gives its share, except that the last text
    with a label stays, so that every label of the part occurs in the rest too.
    """
    groups = _Groups(examples)
    num_left = Counter(label for labels in groups.labels for label in labels)  # texts with the label in the rest
    generator = generator_for(seed, "split", purpose)
    chosen: set[int] = set()
    owed = 0.0  # texts, with what rounding left over in earlier strata, so that small strata give their share too
    for key in sorted(groups.of_stratum):
        members = groups.of_stratum[key]
        owed += fraction * len(members)
        for index in generator.permutation(len(members)):
            labels = groups.labels[members[index]]
            if owed > 0.5 and all(num_left[label] > 1 for label in labels):
                chosen.add(members[index])
                num_left.subtract(labels)
                owed -= 1
    rest: list[int] = []
    part: list[int] = []
    for index, group in enumerate(groups.of_example):
        (part if group in chosen else rest).append(index)
    return ExampleSubset(examples, rest), ExampleSubset(examples, part)


def draw(examples: Sequence[Example], number: int, *, seed: int, purpose: str) -> Sequence[Example]:
    """So many of the examples, or all, in the order of the file; a smaller draw lies within a larger one."""
    if len(examples) <= number:
        return examples
    return ExampleSubset(examples, sorted(generator_for(seed, "draw", purpose).permutation(len(examples))[:number]))


def deal_into_folds(examples: Iterable[Example], num_folds: int, *, seed: int, purpose: str) -> list[int]:
    """The fold of each example, from 0; a text is in one fold only, and each stratum is spread evenly.

    Raises:
        InputError: there are fewer texts than folds.
    """
    groups = _Groups(examples)
    if len(groups.labels) < num_folds:
        raise InputError(
            f"diagnose.folds={num_folds}: task {purpose} has only {len(groups.labels)} different training texts; "
            f"choose fewer folds"
        )
    generator = generator_for(seed, "folds", purpose)
    order = [
        members[index]
        for _, members in sorted(groups.of_stratum.items())
        for index in generator.permutation(len(members))
    ]
    folds = {group: position % num_folds for position, group in enumerate(order)}
    return [folds[group] for group in groups.of_example]


class _Groups:
    """The examples of one text form a group; groups are numbered as they come. One pass over the examples."""

    def __init__(self, examples: Iterable[Example]) -> None:
        self.of_example = array("q")
        self.labels: list[frozenset[tuple[str, str]]] = []  # of each group: every label, by head
        self.of_stratum: dict[str, list[int]] = defaultdict(list)
        numbers: dict[bytes, int] = {}  # by a hash of the text, which is shorter
        known: dict[frozenset[tuple[str, str]], frozenset[tuple[str, str]]] = {}  # equal sets are kept once
        for example in examples:
            key = hashlib.blake2b(text_key(example).encode("utf-8", "surrogatepass"), digest_size=16).digest()
            number = numbers.setdefault(key, len(numbers))
            self.of_example.append(number)
            labels = _labels_of(example)
            if number == len(self.labels):
                self.labels.append(known.setdefault(labels, labels))
                self.of_stratum[stratum_of(example)].append(number)
            elif not labels <= self.labels[number]:
                self.labels[number] |= labels


def stratum_of(example: Example) -> str:
    """The labels of all heads, by which a split is stratified."""
    return "|".join(f"{name}={_stratum(value)}" for name, value in sorted(example.labels.items()))


def _labels_of(example: Example) -> frozenset[tuple[str, str]]:
    """Every label, by head, and an empty one that all examples have, so that the very last text stays, too."""
    labels = ((name, label) for name, value in example.labels.items() for label in _names_in(value))
    return frozenset([("", ""), *labels])


def _names_in(value: Any) -> Iterable[str]:
    """The names of classes in a label: itself, its tags, or those of its labels that apply; a number has none."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping):
        return (str(name) for name, is_so in value.items() if is_so is True)
    return (tag for tag in value if isinstance(tag, str)) if isinstance(value, tuple) else ()


def _stratum(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(sorted({tag[2:] for tag in _names_in(value) if tag[1:2] == "-"}))
    return ",".join(sorted(_names_in(value)))

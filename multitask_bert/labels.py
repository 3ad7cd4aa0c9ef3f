"""LabelSet: the names of a head's classes and their ids; collected from train, saved with the model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

WHOLE = re.compile(r"([+-]?\d+)\.0*", re.ASCII)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)  # less than `float` takes: no 1_0, ٣, inf
TRUTHS = {"true": "1", "false": "0"}


@dataclass(frozen=True)
class LabelSet:
    """Class names in the order of their ids; ids count from 0.

    A whole number is one label, whether it is written `1` or `1.0`: tools that cannot represent a missing integer write
    the second. `find` accepts both.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...] = field(default=(), compare=False)  # in train, if known; not saved

    @classmethod
    def from_names(cls, names: Iterable[str]) -> LabelSet:
        """A set of sorted names without repeats, so that the order of the data does not matter."""
        spellings: dict[str, str] = {}  # by number: the shortest
        for name in sorted(set(names), key=lambda name: (-len(name), name)):
            spellings[without_zeros(name)] = name
        return cls(tuple(sorted(spellings.values())))

    @classmethod
    def joined(cls, sets: Sequence[LabelSet], *, key: Callable[[str], Any] | None = None) -> LabelSet:
        """The labels of all sets, with their counts added up; sorted (by `key`), unless all sets are equal."""
        first = sets[0]
        if len(sets) == 1:
            return first
        if any(one != first for one in sets):
            names = cls.from_names(name for one in sets for name in one.names).names
            first = cls(tuple(sorted(names, key=key)))
        counter: Counter[str | None] = Counter()
        for one in sets:
            for name, number in zip(one.names, one.counts, strict=True):
                counter[first.find(name)] += number
        return replace(first, counts=tuple(counter[name] for name in first.names))

    def counted(self, found: Iterable[str]) -> LabelSet:
        """The same names with how often each occurs in `found`."""
        counter: Counter[str | None] = Counter()
        for name, number in Counter(found).items():
            counter[self.find(name)] += number
        return replace(self, counts=tuple(counter[name] for name in self.names))

    def find(self, name: str) -> str | None:
        """The label that `name` is a spelling of; None where there is none."""
        return name if name in self.ids else self._by_number.get(without_zeros(name))

    def spelled(self, name: str) -> str:
        """The label in the spelling of this set; an unknown one unchanged."""
        return self.find(name) or name

    @cached_property
    def ids(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def _by_number(self) -> dict[str, str]:
        return {without_zeros(name): name for name in self.names}

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self.ids


def without_zeros(name: str) -> str:
    """`1.0` -> `1`; anything but a whole number with a decimal point is unchanged."""
    match = WHOLE.fullmatch(name)
    return name if match is None else match[1]


def alike(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of names that differ only in case or white space, or are a truth value and its number (`true` and `1`)."""
    first: dict[str, str] = {}
    for name in names:
        key = folded(name)
        if (other := first.setdefault(key, name)) != name:
            yield other, name


def folded(name: str) -> str:
    """A key that is equal for names that are `alike`."""
    key = "".join(name.casefold().split())
    return TRUTHS.get(key, key)


def about_quotes(given: Iterable[str], there: Iterable[str]) -> str:
    """A hint for an error where a config has other names than the data; empty where YAML is not the cause."""
    if any(name in ("True", "False") for name in given):
        return ". In YAML, yes, no, on and off stand for True and False unless they are quoted, as 'no'"
    if any(name.isdecimal() and name[0] == "0" != name for name in there):
        return ". In YAML, numbers that begin with 0 are read as other numbers unless they are quoted, as '007'"
    return ""

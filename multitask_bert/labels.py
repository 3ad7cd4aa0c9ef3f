"""LabelSet: the names of a head's classes and their ids; built from train, saved with the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property


@dataclass(frozen=True)
class LabelSet:
    """Class names in the order of their ids; ids count from 0."""

    names: tuple[str, ...]
    counts: tuple[int, ...] = field(default=(), compare=False)  # of each in train, where they are known; not saved

    @classmethod
    def from_names(cls, names: Iterable[str]) -> LabelSet:
        """Sorted and without repeats, so that the order of the data does not matter."""
        return cls(tuple(sorted(set(names))))

    def counted(self, found: Iterable[str]) -> LabelSet:
        """The same names with how often each occurs in `found`."""
        counter = Counter(found)
        return replace(self, counts=tuple(counter[name] for name in self.names))

    @cached_property
    def ids(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return name in self.ids

"""An encoded split: one interface for batching, evaluation and reports, whether it is in memory or on disk.

`InMemorySplit` is here, `StoredSplit` in storage.py. A split is indexed by sequence: an example, or, where a head reads
long texts in windows, a window of one; the windows of an example follow one another.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from torch.utils.data import Dataset

from multitask_bert.records import EncodedExample, Example


class EncodedSplit(Dataset[EncodedExample], ABC):
    """The encoded examples of one split of one task, in the order of the file."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> EncodedExample: ...

    def __iter__(self) -> Iterator[EncodedExample]:
        return (self[index] for index in range(len(self)))

    def examples(self) -> Iterable[Example]:
        """Each example once, however many windows it has."""
        return (windows[0].example for windows in group_windows(self))

    def lengths(self) -> list[int]:
        """Number of tokens of each entry."""
        return [len(encoded.input_ids) for encoded in self]

    def used_ids(self) -> np.ndarray:
        """The ids of all tokens that occur, each once, sorted."""
        ids = itertools.chain.from_iterable(encoded.input_ids for encoded in self)
        return np.unique(np.fromiter(ids, dtype=np.int64))

    def num_truncated(self) -> int:
        """Number of entries of which some tokens did not fit in `max_length`."""
        return sum(encoded.is_truncated for encoded in self)


class InMemorySplit(EncodedSplit):
    """A list of encoded examples, or any other object that has a length and is indexed from 0."""

    def __init__(self, encoded: Sequence[EncodedExample] | Dataset[EncodedExample]) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> EncodedExample:
        return self.encoded[index]


class SplitSubset(EncodedSplit):
    """Some entries of a split, which stays where it is, in memory or on disk."""

    def __init__(self, split: EncodedSplit, indices: Sequence[int]) -> None:
        self.split, self.indices = split, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> EncodedExample:
        return self.split[self.indices[index]]


def as_split(dataset: Dataset[EncodedExample]) -> EncodedSplit:
    """The dataset itself if it is a split; any other torch dataset in the form of one."""
    return dataset if isinstance(dataset, EncodedSplit) else InMemorySplit(dataset)


def group_windows(encoded: Iterable[EncodedExample]) -> Iterator[list[EncodedExample]]:
    """The windows of each example: one, except for long texts of some heads."""
    windows: list[EncodedExample] = []
    for window in encoded:
        if windows and window.example is not windows[0].example:
            yield windows
            windows = []
        windows.append(window)
    if windows:
        yield windows

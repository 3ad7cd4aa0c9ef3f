"""Step 4 of the flow: which encoded examples share a batch, a pure function of seed, task and epoch.

How a batch is put together: collation.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from torch.utils.data import Dataset

from multitask_bert.config.schema import BatchingConfig
from multitask_bert.data.storage import StoredWindows
from multitask_bert.records import EncodedExample, Example
from multitask_bert.utils.seeding import generator_for


class TaskDataset(Dataset[EncodedExample]):
    """The encoded examples of one split of one task, in the order of the file."""

    def __init__(self, examples: Sequence[EncodedExample]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> EncodedExample:
        return self.examples[index]


def lengths_of(dataset: Dataset[EncodedExample]) -> list[int]:
    """Pieces per example."""
    if isinstance(dataset, TaskDataset) and isinstance(dataset.examples, StoredWindows):
        return dataset.examples.lengths()
    return [len(dataset[index].input_ids) for index in range(len(dataset))]  # type: ignore[arg-type]


def ids_in(dataset: Dataset[EncodedExample]) -> np.ndarray:
    """The ids of all pieces that occur, each once, sorted."""
    if isinstance(dataset, TaskDataset) and isinstance(dataset.examples, StoredWindows):
        return dataset.examples.ids()
    pieces = (dataset[index].input_ids for index in range(len(dataset)))  # type: ignore[arg-type]
    return np.unique(np.fromiter(itertools.chain.from_iterable(pieces), dtype=np.int64))


def examples_in(dataset: Dataset[EncodedExample]) -> Iterator[Example]:
    """Each example once, in order, however many windows it has."""
    if isinstance(dataset, TaskDataset) and isinstance(dataset.examples, StoredWindows):
        yield from dataset.examples.examples
        return
    windows = (dataset[index] for index in range(len(dataset)))  # type: ignore[arg-type]
    yield from (group[0].example for group in group_windows(windows))


def group_windows(encoded: Iterable[EncodedExample]) -> Iterator[list[EncodedExample]]:
    """The windows of each example (one, but for long texts of some heads); they follow one another."""
    windows: list[EncodedExample] = []
    for one in encoded:
        if windows and one.example is not windows[0].example:
            yield windows
            windows = []
        windows.append(one)
    if windows:
        yield windows


def plan_batches(
    lengths: Sequence[int], batching: BatchingConfig, *, purpose: tuple[str | int, ...], seed: int
) -> list[list[int]]:
    """Indices of every training batch of one pass: each example once, in a fresh random order.

    Inside windows of `sort_window` batches, examples of like length are put together, so that little is padding; the
    batches are then shuffled. One window of one batch is a plain shuffle. With `max_tokens`, a batch ends where the
    next example would make it bigger than that, padding included.
    """
    generator = generator_for(seed, "batches", *purpose)
    order = generator.permutation(len(lengths))
    size = batching.batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), size * batching.sort_window):
        window = order[start : start + size * batching.sort_window]
        if batching.sort_window > 1:
            window = window[np.argsort(np.asarray(lengths)[window], kind="stable")]
        batches += _cut(window.tolist(), lengths, size, batching.max_tokens)
    return [batches[place] for place in generator.permutation(len(batches))]


def _cut(order: Sequence[int], lengths: Sequence[int], size: int, max_tokens: int | None) -> Iterator[list[int]]:
    """Batches of `size`, or fewer where they would have more than `max_tokens` places (one example always goes in)."""
    batch: list[int] = []
    longest = 0
    for index in order:
        longest = max(longest, lengths[index])
        is_full = max_tokens is not None and longest * (len(batch) + 1) > max_tokens
        if batch and (is_full or len(batch) == size):
            yield batch
            batch, longest = [], lengths[index]
        batch.append(index)
    if batch:
        yield batch


def plan_evaluation(lengths: Sequence[int], batch_size: int, max_tokens: int | None = None) -> list[list[int]]:
    """Indices of every evaluation batch, longest first, so that running out of memory shows at once.

    `max_tokens`: where a batch would have more places than that, it ends.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    return list(_cut(order, lengths, batch_size, max_tokens))

"""Step 4 of the flow: encoded examples become batches.

Which examples share a batch is a pure function of seed, task and epoch; collating is the same for every head type.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from multitask_bert.config import BatchingConfig
from multitask_bert.data.storage import StoredWindows
from multitask_bert.records import Batch, EncodedExample, TargetBatch
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
    batches are then shuffled. One window of one batch is a plain shuffle.
    """
    generator = generator_for(seed, "batches", *purpose)
    order = generator.permutation(len(lengths))
    size = batching.batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), size * batching.sort_window):
        window = order[start : start + size * batching.sort_window]
        if batching.sort_window > 1:
            window = window[np.argsort(np.asarray(lengths)[window], kind="stable")]
        batches += [window[first : first + size].tolist() for first in range(0, len(window), size)]
    return [batches[place] for place in generator.permutation(len(batches))]


def plan_evaluation(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices of every evaluation batch, longest first, so that running out of memory shows at once."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    return [order[first : first + batch_size].tolist() for first in range(0, len(order), batch_size)]


def make_loader(
    dataset: Dataset[EncodedExample],
    batches: Sequence[Sequence[int]],
    task: str,
    *,
    micro_batch_size: int | None,
    pad_id: int,
    num_workers: int = 0,
) -> Iterable[list[Batch]]:
    """Yields each batch as its micro-batches (one, where `micro_batch_size` is None), collated in the order given."""
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=_Listed(batches),
        collate_fn=_Collate(task, micro_batch_size, pad_id),
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # a loader draws a seed; not from the generator that dropout draws from
    )
    return loader


class _Listed(torch.utils.data.Sampler[list[int]]):
    def __init__(self, batches: Sequence[Sequence[int]]) -> None:
        self.batches = batches

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Collate:
    """Examples -> micro-batches; a class so that worker processes can receive it."""

    def __init__(self, task: str, micro_batch_size: int | None, pad_id: int) -> None:
        self.task, self.micro_batch_size, self.pad_id = task, micro_batch_size, pad_id

    def __call__(self, examples: list[EncodedExample]) -> list[Batch]:
        size = self.micro_batch_size or len(examples)
        return [
            collate([(self.task, example) for example in examples[first : first + size]], pad_id=self.pad_id)
            for first in range(0, len(examples), size)
        ]


def collate(examples: Sequence[tuple[str, EncodedExample]], *, pad_id: int) -> Batch:
    """One sequence per row, padded on the right to the longest; the examples may belong to several tasks."""
    rows = [
        (number, begin, end)
        for number, (_, example) in enumerate(examples)
        for begin, end in itertools.pairwise((*example.sequence_starts, len(example.input_ids)))
    ]
    num_columns = max(end - begin for _, begin, end in rows)
    shape = len(rows), num_columns
    input_ids_BS = np.full(shape, pad_id, dtype=np.int64)
    token_type_BS = np.zeros(shape, dtype=np.int64)
    example_BS = np.full(shape, -1, dtype=np.int64)
    for row, (number, begin, end) in enumerate(rows):
        input_ids_BS[row, : end - begin] = examples[number][1].input_ids[begin:end]
        token_type_BS[row, : end - begin] = examples[number][1].token_type_ids[begin:end]
        example_BS[row, : end - begin] = row
    return Batch(
        input_ids_BS=torch.from_numpy(input_ids_BS),
        position_BS=torch.from_numpy(np.tile(np.arange(num_columns), (len(rows), 1))),
        token_type_BS=torch.from_numpy(token_type_BS),
        example_BS=torch.from_numpy(example_BS),
        num_examples=len(examples),
        num_sequences=len(rows),
        num_tokens=sum(end - begin for _, begin, end in rows),
        targets=_collate_targets(examples, num_columns),
    )


def _collate_targets(
    examples: Sequence[tuple[str, EncodedExample]], num_columns: int
) -> dict[tuple[str, str], TargetBatch]:
    columns: dict[tuple[str, str], _TargetColumns] = {}
    first_row = 0
    for number, (task, example) in enumerate(examples):
        for head, target in example.targets.items():
            column = columns.setdefault((task, head), _TargetColumns())
            for anchor in target.anchors:
                sequence = bisect.bisect_right(example.sequence_starts, anchor) - 1
                row = first_row + sequence
                column.anchors.append(row * num_columns + anchor - example.sequence_starts[sequence])
                column.sequences.append(row)
            column.examples += [number] * len(target.anchors)
            column.values += target.values
            column.num_known += target.num_known
        first_row += len(example.sequence_starts)
    return {key: column.to_tensors() for key, column in columns.items()}


@dataclass(slots=True)
class _TargetColumns:
    anchors: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    num_known: int = 0

    def to_tensors(self) -> TargetBatch:
        return TargetBatch(
            anchor_M=torch.tensor(self.anchors, dtype=torch.long),
            sequence_M=torch.tensor(self.sequences, dtype=torch.long),
            example_M=torch.tensor(self.examples, dtype=torch.long),
            value_M=torch.tensor(self.values, dtype=None if self.values else torch.long),
            num_known=self.num_known,
        )

"""Step 4 of the flow: encoded examples become batches.

Which examples share a batch is a pure function of seed, task and epoch; collating is the same for every head type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from multitask_bert.config import BatchingConfig
from multitask_bert.records import UNKNOWN, Batch, EncodedExample, TargetBatch
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
    return [len(dataset[index].input_ids) for index in range(len(dataset))]  # type: ignore[arg-type]


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
    """One example per row, padded on the right to the longest; the examples may belong to several tasks."""
    num_rows, num_columns = len(examples), max(len(example.input_ids) for _, example in examples)
    input_ids_BS = np.full((num_rows, num_columns), pad_id, dtype=np.int64)
    token_type_BS = np.zeros((num_rows, num_columns), dtype=np.int64)
    example_BS = np.full((num_rows, num_columns), -1, dtype=np.int64)
    for row, (_, example) in enumerate(examples):
        length = len(example.input_ids)
        input_ids_BS[row, :length] = example.input_ids
        token_type_BS[row, :length] = example.token_type_ids
        example_BS[row, :length] = row
    position_BS = np.broadcast_to(np.arange(num_columns), (num_rows, num_columns))
    first_token_N = [row * num_columns for row in range(num_rows)]
    return Batch(
        input_ids_BS=torch.from_numpy(input_ids_BS),
        position_BS=torch.from_numpy(position_BS.copy()),
        token_type_BS=torch.from_numpy(token_type_BS),
        example_BS=torch.from_numpy(example_BS),
        num_examples=num_rows,
        num_tokens=int((example_BS >= 0).sum()),
        targets=_collate_targets(examples, first_token_N),
    )


def _collate_targets(
    examples: Sequence[tuple[str, EncodedExample]], first_token_N: Sequence[int]
) -> dict[tuple[str, str], TargetBatch]:
    columns: dict[tuple[str, str], tuple[list[int], list[int], list[int]]] = {}
    for number, (task, example) in enumerate(examples):
        for head, target in example.targets.items():
            anchors, owners, values = columns.setdefault((task, head), ([], [], []))
            anchors += [first_token_N[number] + anchor for anchor in target.anchors]
            owners += [number] * len(target.anchors)
            values += target.values
    return {
        key: TargetBatch(
            anchor_M=torch.tensor(anchors, dtype=torch.long),
            example_M=torch.tensor(owners, dtype=torch.long),
            value_M=torch.tensor(values, dtype=torch.long),
            num_known=sum(value != UNKNOWN for value in values),
        )
        for key, (anchors, owners, values) in columns.items()
    }

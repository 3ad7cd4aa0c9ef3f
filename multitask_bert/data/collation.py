"""Step 4 of the flow: the examples of a batch become tensors, padded or packed, whatever their head types."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from multitask_bert.records import Batch, Block, EncodedExample, TargetBatch

BLOCK_COST = 4  # overhead of a block in attention on a CPU, in tokens of the same time (docs/experiments.md)

Indices = Mapping[str, Sequence[int]]  # by task: which of its examples are in a batch


class Collate:
    """Turns the examples of a batch into micro-batches; a class so that worker processes can receive it."""

    def __init__(self, pad_id: int, layout: str, max_examples: int | None, max_tokens: int | None) -> None:
        self.pad_id, self.layout, self.max_examples, self.max_tokens = pad_id, layout, max_examples, max_tokens

    def __call__(self, examples: list[tuple[str, EncodedExample]]) -> list[Batch]:
        if self.layout == "padded":
            parts = [list(part) for _, part in itertools.groupby(examples, key=lambda example: example[0])]
        else:
            parts = [examples] if examples else []  # none: of several processes, this one has no share of the step
        return [
            collate(micro_batch, pad_id=self.pad_id, layout=self.layout)
            for part in parts
            for micro_batch in self._split(part)
        ]

    def _split(self, examples: list[tuple[str, EncodedExample]]) -> Iterator[list[tuple[str, EncodedExample]]]:
        part: list[tuple[str, EncodedExample]] = []
        longest = num_tokens = 0
        for example in examples:
            length = len(example[1].input_ids)
            longest, num_tokens = max(longest, length), num_tokens + length
            size = longest * (len(part) + 1) if self.layout == "padded" else num_tokens
            is_too_big = self.max_tokens is not None and size > self.max_tokens
            if part and (is_too_big or len(part) == self.max_examples):
                yield part
                part, longest, num_tokens = [], length, length
            part.append(example)
        yield part


def collate(examples: Sequence[tuple[str, EncodedExample]], *, pad_id: int, layout: str = "padded") -> Batch:
    """Collate examples, of one or several tasks, into one batch.

    padded: a row per sequence, padded on the right to the longest. packed: one row, made of blocks of sequences of
    similar length, each padded to the longest of its block.
    """
    sequences = [
        (number, begin, end)
        for number, (_, example) in enumerate(examples)
        for begin, end in itertools.pairwise((*example.sequence_starts, len(example.input_ids)))
    ]
    lengths = [end - begin for _, begin, end in sequences]
    is_packed = layout == "packed"
    blocks = plan_blocks(lengths) if is_packed else [(list(range(len(lengths))), max(lengths))]
    starts = [0] * len(sequences)  # index of each one's first token in the grid, read row by row
    boundaries: set[int] = set()
    size = 0  # of the grid
    for members, width in blocks:
        for member in members:
            starts[member] = size
            boundaries |= {size, size + lengths[member]}
            size += width
    input_ids = np.full(size, pad_id, dtype=np.int64)
    token_types = np.zeros(size, dtype=np.int64)
    owners = np.full(size, -1, dtype=np.int64)  # the sequence of each token
    for owner, ((number, begin, end), start) in enumerate(zip(sequences, starts, strict=True)):
        stop = start + end - begin
        input_ids[start:stop] = examples[number][1].input_ids[begin:end]
        token_types[start:stop] = examples[number][1].token_type_ids[begin:end]
        owners[start:stop] = owner
    positions = np.concatenate([np.tile(np.arange(width), len(members)) for members, width in blocks])
    shape = (1, size) if is_packed else (len(sequences), blocks[0][1])
    targets = _collate_targets(examples, starts)
    has_windows = any(example.is_in_windows for _, example in examples)
    read_tokens = [np.empty(0, np.int64), *(target.token_M.numpy() for target in targets.values())]
    read_tokens += [np.asarray(starts)] if has_windows else []  # of each window, for heads that pool
    return Batch(
        input_ids_BS=torch.from_numpy(input_ids).view(shape),
        position_BS=torch.from_numpy(positions).view(shape),
        token_type_BS=torch.from_numpy(token_types).view(shape),
        sequence_BS=torch.from_numpy(owners).view(shape),
        num_examples=len(examples),
        num_sequences=len(sequences),
        num_tokens=sum(lengths),
        targets=targets,
        token_R=torch.from_numpy(np.unique(np.concatenate(read_tokens))),
        blocks=tuple(
            Block(len(members), width, is_full=all(lengths[member] == width for member in members))
            for members, width in blocks
        )
        if is_packed
        else (),
        boundaries=torch.tensor(sorted({*boundaries, size}), dtype=torch.int32) if is_packed else None,
        first_N=torch.tensor(starts) if has_windows else None,
        example_N=torch.tensor([number for number, _, _ in sequences]) if has_windows else None,
    )


def plan_blocks(lengths: Sequence[int], *, cost: int = BLOCK_COST) -> list[tuple[list[int], int]]:
    """Group sequences of similar length: the indices of each block's members, and its width.

    Minimizes the padding plus `cost` tokens for each block: exactly, by dynamic programming over the distinct lengths.
    `cost=0`: no padding at all.
    """
    by_length: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        by_length.setdefault(length, []).append(index)
    widths = sorted(by_length)
    least, first = [0.0], [0]  # of the first n widths: cost of the best grouping, and where its last block begins
    for end, width in enumerate(widths, start=1):
        num_members = 0
        best, best_start = float("inf"), 0
        for start in range(end - 1, -1, -1):
            num_members += len(by_length[widths[start]])
            total = least[start] + num_members * width + cost
            if total < best:
                best, best_start = total, start
        least.append(best)
        first.append(best_start)
    blocks: list[tuple[list[int], int]] = []
    end = len(widths)
    while end:
        members = [index for width in widths[first[end] : end] for index in by_length[width]]
        blocks.append((members, widths[end - 1]))
        end = first[end]
    return blocks[::-1]


def _collate_targets(
    examples: Sequence[tuple[str, EncodedExample]], starts: Sequence[int]
) -> dict[tuple[str, str], TargetBatch]:
    """`starts`: index of each sequence's first token in the batch's grid."""
    columns: dict[tuple[str, str], _TargetColumns] = {}
    first_sequence = 0
    for number, (task, example) in enumerate(examples):
        for head, target in example.targets.items():
            column = columns.setdefault((task, head), _TargetColumns())
            for index in target.token_indices:
                own_sequence = bisect.bisect_right(example.sequence_starts, index) - 1
                sequence = first_sequence + own_sequence
                column.tokens.append(starts[sequence] + index - example.sequence_starts[own_sequence])
                column.sequences.append(sequence)
            column.examples += [number] * len(target.token_indices)
            column.values += target.values
            column.num_known += target.num_known
        first_sequence += len(example.sequence_starts)
    return {key: column.to_tensors() for key, column in columns.items()}


@dataclass(slots=True)
class _TargetColumns:
    tokens: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)
    examples: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    num_known: int = 0

    def to_tensors(self) -> TargetBatch:
        return TargetBatch(
            token_M=torch.tensor(self.tokens, dtype=torch.long),
            sequence_M=torch.tensor(self.sequences, dtype=torch.long),
            example_M=torch.tensor(self.examples, dtype=torch.long),
            value_M=torch.tensor(self.values, dtype=None if self.values else torch.long),
            num_known=self.num_known,
        )

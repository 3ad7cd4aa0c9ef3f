"""Steps 3 and 4 of the flow together: the batches of a training run, in the order in which they are learnt from.

The order is a pure function of config, sizes, seed and epoch: nothing depends on what was drawn before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from multitask_bert.config import BatchingConfig, MixingConfig
from multitask_bert.data.batching import ids_in, lengths_of, make_loader, plan_batches
from multitask_bert.data.mixing import plan_epoch
from multitask_bert.records import Batch, EncodedExample


@dataclass(frozen=True)
class Step:
    """What one update learns from. `weights`: by task, what its loss counts (see `TrainingStream.plan`)."""

    indices: Mapping[str, Sequence[int]]  # of examples, by task
    weights: Mapping[str, float]


class TrainingStream:
    """Epochs of steps over several tasks' training sets.

    `update`: a step learns from one batch of one `task`, or from a `round`, one batch of each task that is in it.
    """

    def __init__(
        self,
        datasets: Mapping[str, Dataset[EncodedExample]],
        batching: BatchingConfig,
        mixing: MixingConfig,
        *,
        num_epochs: int,
        pad_id: int,
        seed: int,
        update: str = "task",
        micro_batch_tokens: int | None = None,
    ) -> None:
        self.datasets, self.batching, self.mixing, self.update = datasets, batching, mixing, update
        self.num_epochs, self.pad_id, self.seed = num_epochs, pad_id, seed
        self.micro_batch_tokens = micro_batch_tokens
        self._lengths = {task: lengths_of(dataset) for task, dataset in datasets.items()}
        self._planned: tuple[int, list[Step]] | None = None

    def num_steps(self, epoch: int) -> int:
        """Updates in one epoch; epochs count from 0."""
        return len(self.plan(epoch))

    def plan(self, epoch: int) -> list[Step]:
        """The steps of an epoch.

        Where `max_tokens` makes batches of different size, the loss of a batch counts as much as the batch has examples
        beside the mean of its task: so every example weighs the same, as with batches of one size.
        """
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, list(self._plan(epoch))
        return self._planned[1]

    def epoch(self, epoch: int) -> Iterator[tuple[Step, list[Batch]]]:
        """Every step of an epoch with its micro-batches."""
        steps = self.plan(epoch)
        loader = make_loader(
            self.datasets,
            [step.indices for step in steps],
            pad_id=self.pad_id,
            layout=self.batching.layout,
            micro_batch_size=self.batching.micro_batch_size,
            micro_batch_tokens=self.micro_batch_tokens,
            num_workers=self.batching.num_workers,
        )
        yield from zip(steps, loader, strict=True)

    def used_ids(self) -> Tensor:
        """The ids of all pieces that any batch can hold, padding among them, sorted."""
        ids = [np.array([self.pad_id]), *(ids_in(dataset) for dataset in self.datasets.values())]
        return torch.from_numpy(np.unique(np.concatenate(ids)))

    def _plan(self, epoch: int) -> Iterator[Step]:
        first = {task: self._pass(task, epoch, 0) for task in self.datasets}
        num_batches = {task: len(batches) for task, batches in first.items()}
        means = {task: len(self._lengths[task]) / number for task, number in num_batches.items()}
        batches = {task: self._batches(task, epoch, first[task]) for task in self.datasets}
        rounds = plan_epoch(self.mixing, num_batches, epoch=epoch, num_epochs=self.num_epochs, seed=self.seed)
        for tasks_of_round in rounds:
            for tasks in [tasks_of_round] if self.update == "round" else [(task,) for task in tasks_of_round]:
                indices = {task: next(batches[task]) for task in tasks}
                weights = {
                    task: 1.0 if self.batching.max_tokens is None else len(batch) / means[task]
                    for task, batch in indices.items()
                }
                yield Step(indices, weights)

    def _pass(self, task: str, epoch: int, number: int) -> list[list[int]]:
        """A task's batches in a fresh order: each example once."""
        return plan_batches(self._lengths[task], self.batching, purpose=(task, epoch, number), seed=self.seed)

    def _batches(self, task: str, epoch: int, first: list[list[int]]) -> Iterator[list[int]]:
        """Pass after pass, without end."""
        yield from first
        number = 0
        while True:
            number += 1
            yield from self._pass(task, epoch, number)

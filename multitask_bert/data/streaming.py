"""Steps 3 and 4 of the flow together: the batches of a training run, in the order in which they are learnt from.

The order is a pure function of config, sizes, seed and epoch: nothing depends on what was drawn before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch.utils.data import Dataset

from multitask_bert.config import BatchingConfig, MixingConfig
from multitask_bert.data.batching import lengths_of, make_loader, plan_batches
from multitask_bert.data.mixing import plan_epoch
from multitask_bert.records import Batch, EncodedExample


class TrainingStream:
    """Epochs of steps over several tasks' training sets; each step is one batch of one task."""

    def __init__(
        self,
        datasets: Mapping[str, Dataset[EncodedExample]],
        batching: BatchingConfig,
        mixing: MixingConfig,
        *,
        num_epochs: int,
        pad_id: int,
        seed: int,
    ) -> None:
        self.datasets, self.batching, self.mixing = datasets, batching, mixing
        self.num_epochs, self.pad_id, self.seed = num_epochs, pad_id, seed
        self._lengths = {task: lengths_of(dataset) for task, dataset in datasets.items()}

    def num_steps(self, epoch: int) -> int:
        """Batches in one epoch; epochs count from 0."""
        return sum(map(len, self.rounds(epoch)))

    def rounds(self, epoch: int) -> list[tuple[str, ...]]:
        """The tasks of each round of an epoch."""
        num_batches = {task: -(-len(lengths) // self.batching.batch_size) for task, lengths in self._lengths.items()}
        return plan_epoch(self.mixing, num_batches, epoch=epoch, num_epochs=self.num_epochs, seed=self.seed)

    def epoch(self, epoch: int) -> Iterator[tuple[str, list[Batch]]]:
        """Task and micro-batches of every step of an epoch: one batch of each task in turn."""
        iterators = {task: self._batches(task, epoch) for task in self.datasets}
        for tasks_of_round in self.rounds(epoch):
            for task in tasks_of_round:
                yield task, next(iterators[task])

    def _batches(self, task: str, epoch: int) -> Iterator[list[Batch]]:
        """A task's batches in a fresh order, without end: pass after pass, each example once per pass."""
        num_passes = 0
        while True:
            purpose = (task, epoch, num_passes)
            batches = plan_batches(self._lengths[task], self.batching, purpose=purpose, seed=self.seed)
            yield from make_loader(
                self.datasets[task],
                batches,
                task,
                micro_batch_size=self.batching.micro_batch_size,
                pad_id=self.pad_id,
                num_workers=self.batching.num_workers,
            )
            num_passes += 1

"""Steps 3 and 4 of the flow together: the batches of a training run, in the order of its steps.

The order is a pure function of config, sizes, seed and epoch: nothing depends on what was drawn before.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from multitask_bert.config.schema import BatchingConfig, MixingConfig
from multitask_bert.data.batching import plan_batches, split_step
from multitask_bert.data.collation import Indices
from multitask_bert.data.loading import Loader
from multitask_bert.data.mixing import plan_epoch
from multitask_bert.data.splits import EncodedSplit, as_split
from multitask_bert.records import Batch, EncodedExample
from multitask_bert.utils.ranks import this_run

log = logging.getLogger(__name__)

SAMPLE_SIZE = 10_000  # examples, evenly over a split, from which its mean number of known targets is estimated


class TrainingStream:
    """Epochs of steps over several tasks' training sets; a step is the indices of its examples, by task.

    `update`: a step is one batch of one `task`, or a `round`, one batch of each task that is in it. `num_epochs`: of
    the run, at least; more where they would be fewer than `min_steps` steps and a task has no number of its own.
    `task_epochs`: by task with a number of epochs of its own: how often the whole run goes through its examples, evenly
    over the run's epochs.
    """

    def __init__(
        self,
        datasets: Mapping[str, Dataset[EncodedExample]],
        batching: BatchingConfig,
        mixing: MixingConfig,
        *,
        num_epochs: int,
        min_steps: int | None = None,
        task_epochs: Mapping[str, float] | None = None,
        pad_id: int,
        seed: int,
        update: str = "task",
    ) -> None:
        self.splits = {task: as_split(dataset) for task, dataset in datasets.items()}
        self._batching, self._mixing, self._update = batching, mixing, update
        self.num_epochs, self._pad_id, self._seed = num_epochs, pad_id, seed
        is_spread = mixing.rule == "round_robin" and mixing.when_exhausted == "spread"
        of_tasks = task_epochs if is_spread else None
        self._task_epochs = {task: number for task, number in (of_tasks or {}).items() if task in self.splits}
        self._lengths = {task: split.lengths() for task, split in self.splits.items()}
        for task, lengths in self._lengths.items():
            _warn_of_long_examples(task, lengths, batching.max_tokens)
        self._planned: tuple[int, list[Indices]] | None = None
        self._loader = Loader(
            self.splits, pad_id=pad_id, layout=batching.layout, micro_batch_size=batching.micro_batch_size,
            micro_batch_tokens=batching.micro_batch_tokens, num_workers=batching.num_workers,
        )  # fmt: skip
        if min_steps is not None:
            self._add_epochs(min_steps)

    @property
    def total_steps(self) -> int:
        """Updates in all epochs."""
        return self.count_steps(None)

    def count_steps(self, most: int | None) -> int:
        """Updates in all epochs, at most `most`; epochs beyond that are not planned."""
        num_steps = 0
        for epoch in range(self.num_epochs):
            num_steps += self.num_steps(epoch)
            if most is not None and num_steps >= most:
                return most
        return num_steps

    def count_epochs(self, num_steps: int) -> int:
        """The number of epochs in which the first `num_steps` updates lie, the last one perhaps in part."""
        for epoch in range(self.num_epochs):
            num_steps -= self.num_steps(epoch)
            if num_steps <= 0:
                return epoch + 1
        return self.num_epochs

    @property
    def tasks_without_batches(self) -> list[str]:
        """Tasks whose own number of epochs is so small that no update learns from them."""
        numbers = self._task_epochs.items()
        return [task for task, number in numbers if round(number * len(self._pass(task, 0, 0))) == 0]

    def num_steps(self, epoch: int) -> int:
        """Updates in one epoch; epochs count from 0."""
        return len(self.plan(epoch))

    def plan(self, epoch: int) -> list[Indices]:
        """The steps of an epoch."""
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, list(self._plan(epoch))
        return self._planned[1]

    def epoch(self, epoch: int, *, start: int = 0) -> Iterator[list[Batch]]:
        """The steps of an epoch from `start` on, each as its micro-batches, or as this process's share of them."""
        steps = [self._share(step) for step in self.plan(epoch)]
        while start < len(steps):
            limit = self.micro_batch_tokens
            for micro_batches in self._loader.load(steps[start:]):
                yield micro_batches
                start += 1
                if self.micro_batch_tokens != limit:
                    break  # the steps that were loaded ahead have micro-batches of the old size

    def step(self, epoch: int, index: int) -> list[Batch]:
        """One step of an epoch, as `epoch` yields it."""
        return self._loader.make(self._share(self.plan(epoch)[index]))

    @property
    def micro_batch_tokens(self) -> int | None:
        """The limit on the tokens of a micro-batch, padding included."""
        return self._loader.micro_batch_tokens

    def limit(self, micro_batch_tokens: int | None) -> None:
        """From the next step on, at most so many tokens per forward pass."""
        self._loader.limit(micro_batch_tokens)

    def mean_counts(self) -> dict[tuple[str, str], float]:
        """The mean number of known targets of a batch, at least 1, by task and head; empty where batches are random and
        of one size, so that each step divides by its own count.

        A batch of short sentences has fewer words than one of long sentences. Divided by its own count, its loss would
        give each of them more weight; divided by the mean, every target weighs the same, and the expected gradient is
        that of random batches.
        """
        if self._batching.sort_window == 1 and self._batching.max_tokens is None:
            return {}
        means = {}
        for task, split in self.splits.items():
            size, number = len(self._lengths[task]), len(self._pass(task, 0, 0))
            for head, per_example in _known_per_example(split).items():
                means[task, head] = max(1.0, per_example * size / number)
        return means

    def used_ids(self) -> Tensor:
        """The ids of all tokens that any batch can hold, padding included, sorted."""
        ids = [np.array([self._pad_id]), *(split.used_ids() for split in self.splits.values())]
        return torch.from_numpy(np.unique(np.concatenate(ids)))

    @property
    def num_workers(self) -> int:
        """The number of processes that work ahead."""
        return self._loader.num_workers

    def fingerprint(self) -> str:
        """sha256 of the lengths of all examples, to compare the data of several processes."""
        return hashlib.sha256(repr(sorted(self._lengths.items())).encode()).hexdigest()

    def _share(self, step: Indices) -> Indices:
        """This process's share of a step."""
        ranks = this_run()
        return step if ranks.size == 1 else split_step(step, self._lengths, ranks.size)[ranks.rank]

    def _add_epochs(self, min_steps: int) -> None:
        """Add epochs until there are `min_steps` steps; tasks with a number of epochs of their own add none."""
        has_more = set(self.splits) - set(self._task_epochs)
        while has_more and (missing := min_steps - self.total_steps) > 0:
            self.num_epochs += math.ceil(missing / self.num_steps(0))
            self._planned = None  # it may depend on the number of epochs

    def _plan(self, epoch: int) -> Iterator[Indices]:
        first = {task: self._pass(task, 0 if task in self._task_epochs else epoch, 0) for task in self.splits}
        num_batches = {task: len(batches) for task, batches in first.items()}
        batches = {task: self._batches(task, epoch, first[task]) for task in self.splits}
        for task, num_epochs in self._task_epochs.items():
            # The task's passes follow one another over the whole run; each epoch takes its share of them.
            start, end = (
                round(num_epochs * num_batches[task] * number / self.num_epochs) for number in (epoch, epoch + 1)
            )
            num_batches[task] = end - start
            batches[task] = itertools.islice(self._batches(task, 0, first[task]), start, None)
        rounds = plan_epoch(self._mixing, num_batches, epoch=epoch, num_epochs=self.num_epochs, seed=self._seed)
        for tasks_of_round in rounds:
            for tasks in [tasks_of_round] if self._update == "round" else [(task,) for task in tasks_of_round]:
                yield {task: next(batches[task]) for task in tasks}

    def _pass(self, task: str, epoch: int, number: int) -> list[list[int]]:
        """The batches of one pass over a task, in a fresh order: each example once."""
        return plan_batches(self._lengths[task], self._batching, purpose=(task, epoch, number), seed=self._seed)

    def _batches(self, task: str, epoch: int, first: list[list[int]]) -> Iterator[list[int]]:
        """The batches of pass after pass, without end."""
        yield from first
        number = 0
        while True:
            number += 1
            yield from self._pass(task, epoch, number)


def _warn_of_long_examples(task: str, lengths: Sequence[int], max_tokens: int | None) -> None:
    if max_tokens is None:
        return
    num_longer = int((np.asarray(lengths) > max_tokens).sum())
    if num_longer:
        log.warning(
            "batching.max_tokens=%d: %s of %s training examples of %s are longer (up to %s tokens); each is a batch of "
            "its own",
            max_tokens, f"{num_longer:,}", f"{len(lengths):,}", task, f"{max(lengths):,}",
        )  # fmt: skip


def _known_per_example(split: EncodedSplit) -> dict[str, float]:
    """By head, the mean number of targets that are not missing; of a large split, estimated from a sample."""
    size = len(split)
    indices = np.unique(np.linspace(0, size - 1, min(size, SAMPLE_SIZE)).astype(int)).tolist()
    counts: Counter[str] = Counter()
    for index in indices:
        counts.update({head: target.num_known for head, target in split[index].targets.items()})
    return {head: count / len(indices) for head, count in counts.items()}

"""What a config makes of its data: how many steps, and what each task gets of them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch.utils.data import Dataset

from multitask_bert.config import BatchingConfig, ExperimentConfig
from multitask_bert.data.batching import lengths_of, plan_batches
from multitask_bert.data.streaming import TrainingStream
from multitask_bert.records import EncodedExample


@dataclass(frozen=True)
class TaskPlan:
    """What a run trains on of one task."""

    task: str
    num_steps: int  # batches
    num_examples: int  # repeats count; windows of long contexts count as examples
    num_tokens: int  # pieces, without padding
    num_epochs: float  # times through the task's training set
    share_of_tokens: float  # of the run's, from 0 to 1


@dataclass(frozen=True)
class TrainingPlan:
    """What a run trains on, if it is not stopped early."""

    num_steps: int
    num_epochs: float  # of the run; the last may be cut short by trainer.max_steps
    num_warmup_steps: int
    tasks: list[TaskPlan]


def plan_training(
    config: ExperimentConfig, datasets: Mapping[str, Dataset[EncodedExample]], *, pad_id: int
) -> TrainingPlan:
    """The run of `Trainer.train`, without a model: the same batches, counted."""
    datasets = dict(sorted(datasets.items()))  # as the Trainer turns through them
    num_epochs, max_steps = config.trainer.num_epochs, config.trainer.max_steps
    stream = TrainingStream(
        datasets, config.batching, config.mixing, num_epochs=num_epochs, pad_id=pad_id, seed=config.seed
    )
    lengths = {task: lengths_of(dataset) for task, dataset in datasets.items()}
    steps: Counter[str] = Counter()
    examples: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    epochs = 0.0
    for epoch in itertools.count():
        left = None if max_steps is None else max_steps - sum(steps.values())
        if epoch == num_epochs or left == 0:
            break
        order = [task for tasks in stream.rounds(epoch) for task in tasks]
        for task, count in Counter(order[:left]).items():
            for batch in itertools.islice(_batches(task, lengths[task], config.batching, epoch, config.seed), count):
                steps[task] += 1
                examples[task] += len(batch)
                tokens[task] += sum(lengths[task][index] for index in batch)
        epochs += len(order[:left]) / len(order)
    num_steps, num_tokens = sum(steps.values()), sum(tokens.values())
    return TrainingPlan(
        num_steps=num_steps,
        num_epochs=epochs,
        num_warmup_steps=math.ceil(num_steps * config.scheduler.warmup_ratio),
        tasks=[
            TaskPlan(
                task, steps[task], examples[task], tokens[task],
                num_epochs=examples[task] / len(lengths[task]), share_of_tokens=tokens[task] / num_tokens,
            )
            for task in datasets
        ],
    )  # fmt: skip


def _batches(task: str, lengths: list[int], batching: BatchingConfig, epoch: int, seed: int) -> Iterator[list[int]]:
    """As `TrainingStream` draws them: pass after pass, each in an order of its own."""
    for num_passes in itertools.count():
        yield from plan_batches(lengths, batching, purpose=(task, epoch, num_passes), seed=seed)

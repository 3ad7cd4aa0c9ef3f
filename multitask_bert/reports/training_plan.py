"""The training that a config asks for: how many steps, examples and tokens of each task."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch.utils.data import Dataset

from multitask_bert.config.schema import ExperimentConfig, task_epochs
from multitask_bert.data.splits import as_split
from multitask_bert.data.streaming import TrainingStream
from multitask_bert.records import EncodedExample


@dataclass(frozen=True)
class TaskPlan:
    """What a run trains on from one task."""

    task: str
    num_steps: int  # batches
    num_examples: int  # repeats count; windows of long contexts count as examples
    num_tokens: int  # without padding
    num_epochs: float  # times through the task's training set
    share_of_tokens: float  # of the run's, from 0 to 1


@dataclass(frozen=True)
class TrainingPlan:
    """What a run trains on, unless it stops early."""

    num_steps: int
    num_epochs: float  # of the run; the last may be cut short by trainer.max_steps
    num_warmup_steps: int
    tasks: list[TaskPlan]


def plan_training(
    config: ExperimentConfig, datasets: Mapping[str, Dataset[EncodedExample]], *, pad_id: int
) -> TrainingPlan:
    """Count the batches that `Trainer.train` would draw; no model is needed."""
    datasets = dict(sorted(datasets.items()))  # as the Trainer turns through them
    max_steps = config.trainer.max_steps
    stream = TrainingStream(
        datasets, config.batching, config.mixing, num_epochs=config.trainer.num_epochs,
        min_steps=config.trainer.min_steps, task_epochs=task_epochs(config.tasks),
        pad_id=pad_id, seed=config.seed, update=config.trainer.update,
    )  # fmt: skip
    lengths = {task: as_split(dataset).lengths() for task, dataset in datasets.items()}
    steps: Counter[str] = Counter()
    examples: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    epochs = 0.0
    num_steps = 0
    for epoch in range(stream.num_epochs):
        planned = stream.plan(epoch)
        taken = planned if max_steps is None else planned[: max_steps - num_steps]
        for step in taken:
            for task, indices in step.items():
                steps[task] += 1
                examples[task] += len(indices)
                tokens[task] += sum(lengths[task][index] for index in indices)
        num_steps += len(taken)
        epochs += len(taken) / max(1, len(planned))
        if num_steps == max_steps:
            break
    num_tokens = sum(tokens.values())
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

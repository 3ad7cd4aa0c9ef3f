"""A forecast of what a training costs: its work, which is counted, and the machine's speed, measured over a few steps.

Data, tokenizer and weights that are loaded for this are shared with later trainings of the process.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import Dataset

from multitask_bert.config.schema import ExperimentConfig, task_epochs
from multitask_bert.data.splits import InMemorySplit, as_split
from multitask_bert.data.streaming import TrainingStream
from multitask_bert.records import EncodedExample
from multitask_bert.training.preparation import prepare
from multitask_bert.training.trainer import Trainer
from multitask_bert.utils.cost import EVALUATION_SPEEDUP, Speed, Work
from multitask_bert.utils.schedules import steps_at
from multitask_bert.utils.sharing import sharing

MEASURED_SECONDS = 4.0  # spent on training steps; more if two steps take longer
FEWEST_STEPS, MOST_STEPS = 2, 16
EVALUATED_SECONDS = 2.0  # spent on evaluating
MOST_EVALUATED = 256  # examples per task


def count_work(config: ExperimentConfig) -> Work:
    """Count the work of a training that is not ended early; reads and encodes the data.

    Raises:
        InputError: bad config or data.
    """
    with _preserving_global_state(), sharing():
        data = prepare(config).data
    trainer, datasets = config.trainer, dict(sorted(data.train.items()))
    stream = TrainingStream(
        datasets, config.batching, config.mixing, num_epochs=trainer.num_epochs, min_steps=trainer.min_steps,
        task_epochs=task_epochs(config.tasks), pad_id=0, seed=config.seed, update=trainer.update,
    )  # fmt: skip
    lengths = {task: as_split(dataset).lengths() for task, dataset in datasets.items()}
    num_steps = num_tokens = 0
    ends = []  # step at the end of each epoch
    for epoch in range(stream.num_epochs):
        steps = stream.plan(epoch)
        steps = steps if trainer.max_steps is None else steps[: trainer.max_steps - num_steps]
        num_tokens += sum(lengths[task][i] for step in steps for task, indices in step.items() for i in indices)
        num_steps += len(steps)
        ends.append(num_steps)
    if trainer.eval_shares:
        evaluated = {*steps_at(trainer.eval_shares, num_steps), num_steps}
    elif trainer.eval_every is not None:
        evaluated = {*range(trainer.eval_every, num_steps, trainer.eval_every), num_steps}
    else:
        evaluated = set(ends)
    num_dev_passes = len(evaluated)
    if config.averaging.kind != "none":
        num_dev_passes += sum(step > config.averaging.start * num_steps for step in evaluated)
    return Work(num_steps, num_tokens, num_dev_passes, _num_tokens(data.dev), _num_tokens(data.test))


def measure_speed(config: ExperimentConfig, *, num_threads: int | None = None) -> Speed:
    """Measure the speed of training for a few seconds and of evaluating a few examples; leaves nothing behind.

    `num_threads`: of the training to forecast; None: as many as the process has.

    Raises:
        InputError: bad config or data.
    """
    with _preserving_global_state(num_threads), sharing():
        prepare(config)
        with _without_warnings():
            _trained(config, 1)  # warm-up: the first step of a process takes longest
            trainer = _trained(config, FEWEST_STEPS)
            wanted = int(FEWEST_STEPS * MEASURED_SECONDS / max(trainer.state.train_seconds, 1e-9))
            if wanted > FEWEST_STEPS:
                trainer = _trained(config, min(wanted, MOST_STEPS))
            trainer.eval_datasets = _some(trainer)
            began = time.perf_counter()
            trainer.evaluate()
            seconds = time.perf_counter() - began
    return Speed(
        tokens_per_second=trainer.state.tokens_per_second,
        eval_tokens_per_second=_num_tokens(trainer.eval_datasets) / seconds,
        num_steps=trainer.state.step,
    )


def _trained(config: ExperimentConfig, num_steps: int) -> Trainer:
    """A trainer after `num_steps` steps and an evaluation of one example per task; nothing is written."""
    options = replace(
        config.trainer, max_steps=num_steps, min_steps=None, eval_every=None, eval_shares=[], patience=None,
        restart_collapsed=False, keep_best_per_head=False, compile=False,
    )  # fmt: skip
    trainer = Trainer.from_config(replace(config, trainer=options, resume=False))
    eval_datasets = trainer.eval_datasets
    trainer.eval_datasets = {task: _first(dataset, 1) for task, dataset in eval_datasets.items()}
    trainer.train()
    trainer.eval_datasets = eval_datasets
    return trainer


def _some(trainer: Trainer) -> dict[str, Dataset[EncodedExample]]:
    """So many examples of each dev set that evaluating takes about EVALUATED_SECONDS."""
    num_tokens = (
        EVALUATED_SECONDS * EVALUATION_SPEEDUP * trainer.state.tokens_per_second / max(1, len(trainer.eval_datasets))
    )
    some: dict[str, Dataset[EncodedExample]] = {}
    for task, dataset in trainer.eval_datasets.items():
        lengths = as_split(dataset).lengths()
        number = int(num_tokens * len(lengths) / sum(lengths))
        some[task] = _first(dataset, max(1, min(MOST_EVALUATED, len(lengths), number)))
    return some


def _first(dataset: Dataset[EncodedExample], number: int) -> InMemorySplit:
    return InMemorySplit([dataset[index] for index in range(number)])


def _num_tokens(datasets: Mapping[str, Dataset[EncodedExample]]) -> int:
    return sum(sum(as_split(dataset).lengths()) for dataset in datasets.values())


@contextmanager
def _preserving_global_state(num_threads: int | None = None) -> Iterator[None]:
    """Restore the random generators, the number of threads and torch's determinism on exit."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    of_cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    threads, is_deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    if num_threads is not None:
        torch.set_num_threads(num_threads)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if of_cuda is not None:
            torch.cuda.set_rng_state_all(of_cuda)
            torch.cuda.empty_cache()
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(is_deterministic)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress warnings: a training of a few steps warns, for instance, that it learned nothing."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

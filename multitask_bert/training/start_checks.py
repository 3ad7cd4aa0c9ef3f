"""What only the data shows of a config: whether its epochs, steps and dev sets are enough for what it asks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch.utils.data import Dataset

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.data.streaming import TrainingStream
from multitask_bert.errors import InputError
from multitask_bert.training.collapse import FEWEST_EXAMPLES

log = logging.getLogger(__name__)


def check_run_length(config: ExperimentConfig, stream: TrainingStream, num_steps: int) -> None:
    """Compare what the config asks of a run with its number of steps, which only the data shows.

    Raises:
        InputError: a task has not a single batch, or the plan of unfreezing is longer than the run.
    """
    if tasks := stream.tasks_without_batches:
        raise InputError(
            f"tasks.{tasks[0]}.num_epochs={config.tasks[tasks[0]].num_epochs:g}: gives not a single batch of this "
            f"task; choose a greater number, or leave the task out"
        )
    plan = config.optimizer.unfreezing
    if plan and len(plan) > (num_epochs := stream.count_epochs(num_steps)):
        raise InputError(
            f"optimizer.unfreezing={plan}: has {len(plan)} entries, one per epoch, and this run has {num_steps} steps "
            f"(epochs: {num_epochs}); shorten it, or train for longer (trainer.num_epochs, trainer.max_steps)"
        )
    least = config.trainer.min_steps
    if least not in (None, config.model.recipe.min_steps) and num_steps < least:
        log.warning(
            "trainer.min_steps=%d is not reached: each task has its own number of epochs (tasks.<task>.num_epochs), "
            "which make %d steps",
            least, num_steps,
        )  # fmt: skip


def warn_of_small_dev(config: ExperimentConfig, eval_datasets: Mapping[str, Dataset[Any]]) -> None:
    """Warn where a run is to be restarted if a head learns nothing, and too few examples could show that it does."""
    for task, dataset in eval_datasets.items() if config.trainer.restart_collapsed else ():
        if (size := len(dataset)) < FEWEST_EXAMPLES:  # type: ignore[arg-type]
            log.warning(
                "trainer.restart_collapsed: %s has %d dev examples, and only from %d on it is judged whether a head "
                "learns nothing; tasks.%s.source.dev_fraction or .dev gives it more",
                task, size, FEWEST_EXAMPLES, task,
            )  # fmt: skip

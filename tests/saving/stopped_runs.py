"""What the tests of resuming share: runs that are stopped after a step and resumed, and the comparison of two runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.training.loop import Stopped
from multitask_bert.training.output import RunOutput
from multitask_bert.training.trainer import Trainer
from tests.trained_runs import logged_without_times


def make_trainer(config: ExperimentConfig, folder: Path) -> Trainer:
    return Trainer.from_config(config, RunOutput(folder))


def stop_after(trainer: Trainer, step: int) -> None:
    """Ask the run to stop in its step number `step`, from 1 on."""
    after_step(trainer, step, lambda: trainer.ask_to_stop("SIGTERM"))


def after_step(trainer: Trainer, step: int, act: Callable[[], None]) -> None:
    """Call `act` once the update of this step is made, when its losses are reported."""
    queue = trainer.reporter.queue

    def queue_and_act(metrics: Any, **options: Any) -> None:
        queue(metrics, **options)
        if options["step"] == step:
            act()

    trainer.reporter.queue = queue_and_act  # type: ignore[method-assign]


def train_until(config: ExperimentConfig, folder: Path, step: int) -> None:
    """Train, and stop after this step."""
    trainer = make_trainer(config, folder)
    stop_after(trainer, step)
    with pytest.raises(Stopped):
        trainer.train()
    trainer.close()
    assert trainer.state.step == step


def train(config: ExperimentConfig, folder: Path, stops: tuple[int, ...] = ()) -> Trainer:
    """Train, stopped and resumed after each of these steps, with all objects made anew, as in another process."""
    for step in stops:
        train_until(config, folder, step)
        config = replace(config, resume=True)
    trainer = make_trainer(config, folder)
    trainer.train()
    trainer.close()
    return trainer


def assert_same(one: Trainer, other: Trainer) -> None:
    for name, weight in one.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], weight), name
    assert one.state.best_metrics == other.state.best_metrics
    assert replace(one.state, train_seconds=0.0) == replace(other.state, train_seconds=0.0)
    assert one.folder is not None
    assert other.folder is not None
    assert [line for line in logged_without_times(other.folder) if len(line) > 1] == [
        line for line in logged_without_times(one.folder) if len(line) > 1
    ]

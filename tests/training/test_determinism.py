"""Two runs with the same seed have the same weights and scores, to the bit, however their batches are loaded."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.data import loading
from multitask_bert.training.loop import Stopped
from multitask_bert.training.trainer import Trainer
from tests.saving.stopped_runs import after_step, assert_same, make_trainer, stop_after, train, train_until

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]


def with_workers(config: ExperimentConfig, num_workers: int, **more: Any) -> ExperimentConfig:
    return replace(config, batching=replace(config.batching, num_workers=num_workers), **more)


@pytest.mark.parametrize(
    "options",
    [{}, {"layout": "packed", "micro_batch_size": 3}, {"layout": "packed", "update": "round", "max_tokens": 60}],
    ids=["padded", "packed-in-parts", "packed-rounds"],
)
def test_the_number_of_loader_workers_changes_nothing(
    make_config: MakeConfig, tmp_path: Path, options: dict[str, Any]
) -> None:
    config = make_config(**options)
    one = train(config, tmp_path / "one")
    assert_same(one, train(with_workers(config, 2), tmp_path / "two"))


def test_the_number_of_loader_workers_may_change_when_a_run_is_resumed(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(layout="packed", micro_batch_size=3)
    train_until(with_workers(config, 2), tmp_path / "stopped", 4)
    train_until(with_workers(config, 0, resume=True), tmp_path / "stopped", 11)
    stopped = train(with_workers(config, 1, resume=True), tmp_path / "stopped")
    assert_same(train(config, tmp_path / "whole"), stopped)


@pytest.mark.parametrize("step", [1, 3])
def test_a_loader_worker_that_is_killed_costs_nothing(
    make_config: MakeConfig, tmp_path: Path, slow_workers: None, caplog: pytest.LogCaptureFixture, step: int
) -> None:
    config = make_config(micro_batch_size=3)
    whole = train(config, tmp_path / "whole")
    trainer = make_trainer(with_workers(config, 2), tmp_path / "killed")
    kill_the_workers_after(trainer, step)
    trainer.train()
    trainer.close()
    assert_same(whole, trainer)
    (record,) = (record for record in caplog.records if "batching.num_workers=2" in record.getMessage())
    assert "a worker process was killed (SIGKILL)" in record.getMessage()


def test_a_run_that_lost_a_worker_can_be_stopped_and_resumed(
    make_config: MakeConfig, tmp_path: Path, slow_workers: None
) -> None:
    config = make_config()
    whole = train(config, tmp_path / "whole")
    trainer = make_trainer(with_workers(config, 2), tmp_path / "killed")
    stop_after(trainer, 6)
    kill_the_workers_after(trainer, 1)
    with pytest.raises(Stopped, match="SIGTERM"):
        trainer.train()
    trainer.close()
    assert_same(whole, train(replace(config, resume=True), tmp_path / "killed"))


def kill_the_workers_after(trainer: Trainer, step: int) -> None:
    """Kill the loader's workers after this step, as the system does when memory runs out."""

    def kill_the_workers() -> None:
        for worker in multiprocessing.active_children():
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)

    after_step(trainer, step, kill_the_workers)


@pytest.fixture
def slow_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a loader worker send two batches of an epoch and then sleep, so that it is killed before it is done."""
    work = loading._work

    def work_a_little(make: Any, batches: Any, pipe: Any, others: Any) -> None:
        work(make, batches[:2], pipe, others)
        time.sleep(60)

    monkeypatch.setattr(loading, "_work", work_a_little)

"""Processes that are killed without warning at any moment, and go on: nothing is lost, and nothing is different."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config import ExperimentConfig
from multitask_bert.training.loggers import JsonlLogger, TensorBoardLogger
from multitask_bert.training.signals import asking
from multitask_bert.training.trainer import Trainer

NUM_KILLS = int(os.environ.get("MULTITASK_BERT_NUM_KILLS", "12"))  # the nightly fuzz run has many more
OF_TIME = {"time", "train_tokens_per_second"}


def run(config: ExperimentConfig, folder: Path) -> None:
    """What a process of its own does."""
    trainer = Trainer.from_config(config, folder=folder)
    trainer.reporter.loggers = [JsonlLogger(), TensorBoardLogger()]
    with asking(trainer.ask_to_stop):
        trainer.train()
    trainer.evaluate(test=True)
    trainer.close()
    trainer.best.publish(folder / "model")


@pytest.fixture(scope="module")
def processes() -> Any:
    """Processes that begin with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["multitask_bert.training.trainer", "torch.utils.tensorboard"])
    return context


@pytest.fixture
def config(make_config: Callable[..., ExperimentConfig]) -> ExperimentConfig:
    return make_config(num_epochs=8, eval_every=11, save_every=3, log_every=4)


def outcome(folder: Path) -> tuple[str, list[dict[str, Any]]]:
    """The hash of the final weights, and all that was logged but for times."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    logged = [{key: value for key, value in line.items() if key not in OF_TIME} for line in lines]
    weights = (folder / "model" / "model.safetensors").read_bytes()
    return hashlib.sha256(weights).hexdigest(), [line for line in logged if len(line) > 1]


def run_to_the_end(processes: Any, config: ExperimentConfig, folder: Path) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    process = processes.Process(target=run, args=(config, folder))
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - began


def test_killed_at_any_moment_a_run_ends_as_if_nothing_had_happened(
    processes: Any, config: ExperimentConfig, tmp_path: Path
) -> None:
    run_to_the_end(processes, config, tmp_path / "warm-up")
    seconds = run_to_the_end(processes, config, tmp_path / "whole")
    expected = outcome(tmp_path / "whole")
    draw = random.Random(1)
    num_kills = num_runs = 0
    while num_kills < NUM_KILLS:
        num_runs += 1
        folder, resumed = tmp_path / f"killed_{num_runs}", config
        while True:
            process = processes.Process(target=run, args=(resumed, folder))
            process.start()
            process.join(draw.uniform(0.2, 1.1) * seconds)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            num_kills += 1
            resumed = replace(config, resume=True)
        assert process.exitcode == 0, f"run {num_runs}"
        assert outcome(folder) == expected, f"run {num_runs}"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_asked_to_end_a_run_leaves_a_checkpoint_of_that_step(
    processes: Any, config: ExperimentConfig, tmp_path: Path, name: str
) -> None:
    config = replace(config, trainer=replace(config.trainer, save_every=1000, num_epochs=200))
    process = processes.Process(target=run, args=(config, tmp_path))
    process.start()
    metrics = tmp_path / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_text(encoding="utf-8").count("train_loss") < 20:
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, getattr(signal, name))
    process.join(30)
    assert process.exitcode not in (None, 0)
    (snapshot,) = (tmp_path / "checkpoints" / "last").iterdir()
    lines = metrics.read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert snapshot.name == f"step_{max(steps):08d}"

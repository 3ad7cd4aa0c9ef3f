"""What the tests of training share: trained weights, and a logger that keeps what it is given in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.tracking.loggers import RunLogger, RunStart
from multitask_bert.training.output import RunOutput
from multitask_bert.training.trainer import Trainer


class Recorder(RunLogger):
    """A logger that keeps everything in memory."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.statuses: list[str] = []

    def start(self, run: RunStart) -> None:
        self.run = run

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        self.metrics.append((step, dict(metrics)))

    def close(self, status: str = "FINISHED") -> None:
        self.statuses.append(status)

    def values(self, name: str) -> dict[int, float]:
        return {step: metrics[name] for step, metrics in self.metrics if name in metrics}


def recorded(config: ExperimentConfig, folder: Path) -> tuple[Trainer, Recorder]:
    """A trainer whose only logger is a `Recorder`."""
    trainer, recorder = Trainer.from_config(config, RunOutput(folder)), Recorder()
    trainer.reporter.loggers = [recorder]
    return trainer, recorder


def weights_after_training(config: ExperimentConfig) -> dict[str, torch.Tensor]:
    trainer = Trainer.from_config(config)
    trainer.train()
    return {name: weight.clone() for name, weight in trainer.model.state_dict().items()}


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], atol: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for name, weight in one.items():
        torch.testing.assert_close(other[name], weight, atol=atol, rtol=1e-4, msg=name)

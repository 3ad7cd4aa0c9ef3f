"""`trainer.precision=auto`: what decides, what is said of it, and that a run keeps what it began with."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.model import acceleration
from multitask_bert.saving.run_folder import config_of
from multitask_bert.tracking.console import Console
from multitask_bert.training.output import RunOutput
from multitask_bert.training.run import run_training
from multitask_bert.training.trainer import Trainer
from multitask_bert.utils.ranks import Ranks
from tests.trained_runs import trained

MakeConfig = Callable[..., ExperimentConfig]
CPU = torch.device("cpu")


def pretend(monkeypatch: pytest.MonkeyPatch, speedup: float) -> None:
    """Let products in bf16 be so many times as fast as in fp32."""
    monkeypatch.setattr(acceleration, "speedup_of_bf16", lambda device, *, tf32: speedup)


@pytest.mark.parametrize(
    ("speedup", "precision", "dtype"), [(2.84, "bf16", torch.bfloat16), (1.4, "fp32", None), (0.5, "fp32", None)]
)
def test_auto_is_bf16_only_where_its_products_are_clearly_faster(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, speedup: float, precision: str, dtype: torch.dtype | None
) -> None:
    pretend(monkeypatch, speedup)
    said = StringIO()
    trainer = Trainer.from_config(make_config(precision="auto"), RunOutput(console=Console(file=said)))
    assert trainer.config.trainer.precision == precision
    assert trainer.model.autocast == dtype
    assert (
        f"trainer.precision=auto: {precision}; on this cpu, products in bf16 are {speedup:g} times as fast"
        in " ".join(said.getvalue().split())
    )


def test_the_slowest_of_several_processes_decides_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 3.0)
    monkeypatch.setattr(Ranks, "smallest", lambda self, number: min(number, 120))
    monkeypatch.setattr(acceleration, "this_run", lambda: Ranks(rank=0, size=2))
    precision, reason = acceleration.precision_here(CPU, tf32=False)
    assert precision == "fp32"
    assert "1.2 times as fast as in fp32, in the slowest of 2 processes" in reason


def test_the_speed_of_bf16_is_that_of_its_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by a second for each product in bf16, and by three for each in fp32."""
    now = 0.0

    def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        nonlocal now
        now += 1.0 if left.dtype == torch.bfloat16 else 3.0
        return torch.zeros(1, 1)

    monkeypatch.setattr(torch.nn.functional, "linear", product)
    monkeypatch.setattr(acceleration.time, "perf_counter", lambda: now)
    acceleration.speedup_of_bf16.cache_clear()
    assert acceleration.speedup_of_bf16(CPU, tf32=False) == pytest.approx(3.0)
    acceleration.speedup_of_bf16.cache_clear()


def test_a_device_without_bf16_is_not_fast_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("not implemented for 'BFloat16'")

    monkeypatch.setattr(torch.nn.functional, "linear", refuse)
    acceleration.speedup_of_bf16.cache_clear()
    assert acceleration.speedup_of_bf16(CPU, tf32=False) == 0.0
    acceleration.speedup_of_bf16.cache_clear()


def test_a_run_keeps_the_precision_that_it_began_with(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped, resumed, evaluated and predicted for where `auto` stands for another one."""
    pretend(monkeypatch, 3.0)
    config, folder = make_config(max_steps=4, eval_every=2, precision="auto"), tmp_path / "run"
    queue = Trainer.log_steps

    def stop(self: Trainer) -> None:
        signal.raise_signal(signal.SIGTERM)
        queue(self)

    with monkeypatch.context() as stopping:
        stopping.setattr(Trainer, "log_steps", stop)
        with pytest.raises(SystemExit):
            trained(config, folder)
    pretend(monkeypatch, 0.5)
    run_training(replace(config, resume=True), folder, tags={})
    described = json.loads((folder / "provenance.json").read_text())
    assert described["precision"] == "bf16"
    assert config_of(folder).trainer.precision == "bf16"
    assert "precision: auto" in (folder / ".hydra" / "config.yaml").read_text()
    assert actions.precision_of(actions.tree_of_run(folder)) == "bf16"

    scored = tmp_path / "scored"
    actions.evaluate(ExperimentConfig(action="evaluate", run_dir=str(folder)), scored)
    results = [json.loads((one / "results.json").read_text())["metrics"]["test"] for one in (folder, scored)]
    assert results[0] == results[1]

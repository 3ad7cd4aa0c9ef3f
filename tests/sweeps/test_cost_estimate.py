"""The cost that a sweep announces, what its first trial is, and which trials collapsed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.sweep_config import SweepConfig
from multitask_bert.sweeps.cost_estimate import USUAL_SHARE, CostEstimate
from multitask_bert.sweeps.spec import _report_points
from multitask_bert.training.cost import count_work, measure_speed
from multitask_bert.training.trainer import Trainer
from multitask_bert.utils.cost import Speed, Work
from tests.composing import config_of, run_line
from tests.sweeps.support import FakeTraining, sweep


@pytest.mark.parametrize(
    "options",
    [
        {"num_epochs": 2},
        {"num_epochs": 2, "max_steps": 13, "eval_every": 5},
        {"num_epochs": 1, "min_steps": 20, "eval_shares": [0.25, 0.5]},
    ],
)
def test_the_counted_work_is_that_of_the_training(
    make_config: Callable[..., ExperimentConfig], options: dict[str, Any]
) -> None:
    config = make_config(**options)
    work = count_work(config)
    trainer = Trainer.from_config(config)
    state = trainer.train()
    assert (work.num_steps, work.num_tokens, work.num_dev_passes) == (
        state.step, state.num_tokens, state.num_evaluations,
    )  # fmt: skip
    dev = [len(dataset[i].input_ids) for dataset in trainer.eval_datasets.values() for i in range(len(dataset))]  # type: ignore[arg-type]
    assert work.num_dev_tokens == sum(dev)


@pytest.mark.parametrize(("kind", "num_dev_passes"), [("none", 4), ("ema", 6), ("last", 6)])
def test_where_an_average_begins_each_evaluation_is_two_passes_over_dev(
    make_config: Callable[..., ExperimentConfig], kind: str, num_dev_passes: int
) -> None:
    config = make_config(num_epochs=4)
    config.averaging.kind, config.averaging.start = kind, 0.5
    assert count_work(config).num_dev_passes == num_dev_passes


def test_measuring_the_speed_changes_no_later_run(make_config: Callable[..., ExperimentConfig], tmp_path: Path) -> None:
    config = make_config(max_steps=3)
    losses = []
    for is_measured in (False, True):
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)
        num_threads, files = torch.get_num_threads(), sorted(tmp_path.rglob("*"))
        if is_measured:
            speed = measure_speed(config, num_threads=1)
            assert speed.num_steps >= 2
            assert min(speed.tokens_per_second, speed.eval_tokens_per_second) > 0
        drawn = random.random(), np.random.rand(), torch.rand(1).item()
        assert torch.get_num_threads() == num_threads
        assert sorted(tmp_path.rglob("*")) == files
        trainer = Trainer.from_config(config)
        trainer.train()
        losses.append((drawn, trainer.evaluate()))
    assert losses[0] == losses[1]


def test_the_estimated_seconds_are_those_of_training_evaluations_and_test() -> None:
    work = Work(num_steps=9, num_tokens=1000, num_dev_passes=3, num_dev_tokens=100, num_test_tokens=60)
    assert Speed(10.0, 30.0, num_steps=2).seconds(work) == pytest.approx(1000 / 10 + (3 * 100 + 60) / 30)


def work_by_epochs_and_size(config: ExperimentConfig) -> Work:
    """800 examples of 10 tokens per epoch."""
    num_epochs = config.trainer.num_epochs
    return Work(num_epochs * 800 // config.batching.batch_size, num_epochs * 8000, num_epochs, 100, 0)


@pytest.mark.slow
def test_the_upper_bound_is_the_cost_of_the_longest_trial(
    fake_training: FakeTraining, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The longest has most epochs and the smallest batches, the least value of one and the greatest of the other."""
    monkeypatch.setattr("multitask_bert.training.cost.count_work", work_by_epochs_and_size)
    line = ("trainer=default", "trainer.num_epochs=2,10", "batching.batch_size=8,80", "optimizer.lr=1e-4")
    sweep(*line, "scheduler.warmup_ratio=0.1", "hydra.sweeper.n_trials=2", "hydra.sweeper.pruner=none")
    out = capsys.readouterr().out
    # 10 epochs of 8,000 tokens at 100 a second, and 10 evaluations of 100 tokens at 200: 805 s a trial.
    assert "2 trials of 20 to 1,000 steps each: at most 2,000 steps, about 27 min; usually " in out
    assert "(measured on this machine with 7 steps)" in out


def test_trials_side_by_side_take_as_long_as_the_rounds_that_they_need() -> None:
    five_at_two = CostEstimate(
        num_trials=5, num_trainings=10, least_steps=100, most_steps=100, most_seconds=60, mean_steps=100,
        mean_seconds=60, num_jobs=2, is_pruned=False, is_study=False, note="here",
    )  # fmt: skip
    assert str(five_at_two) == "5 trials of 2 trainings of 100 steps each: at most 1,000 steps, about 6 min (here)"


@pytest.mark.slow
def test_the_usual_cost_has_the_share_that_pruning_leaves(
    fake_training: FakeTraining, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep("hydra.sweeper.n_trials=4")
    usual = float(f"{USUAL_SHARE * 400:.2g}")
    assert f"4 trials of 100 steps each: at most 400 steps, about 7 min; with pruning usually {usual:.0f} steps" in (
        capsys.readouterr().out
    )
    sweep("hydra.sweeper.n_trials=5", "hydra.sweeper.measure=false")
    assert "at most" not in capsys.readouterr().out
    sweep("hydra.sweeper.n_trials=6")
    assert "1 trial of 100 steps each: at most 100 steps" in capsys.readouterr().out  # those that are left


@pytest.mark.parametrize(("num_dev_tokens", "num_points"), [(600, 11), (1000, 5), (2000, 0)])
def test_trials_evaluate_as_often_as_is_cheap(num_dev_tokens: int, num_points: int) -> None:
    """An evaluation costs a third of a step per token: 11 points cost a quarter at most up to a dev set of 6.8%."""
    work = Work(100, num_tokens=10_000, num_dev_passes=1, num_dev_tokens=num_dev_tokens, num_test_tokens=0)
    found = _report_points(SweepConfig(), config_of("model=tiny"), lambda config: work)
    assert [override.count(",") + 1 for override in found] == ([num_points] if num_points else [])


@pytest.mark.parametrize(
    ("override", "settings"),
    [
        ("trainer.eval_every=2", {}),
        ("trainer.patience=1", {}),
        ("averaging=last", {}),
        ("model=tiny", {"seeds": 2}),
        ("model=tiny", {"pruner": "none"}),
        ("model=tiny", {"metric": ["eval_mean_f1", "eval_loss"]}),
    ],
)
def test_evaluations_stay_as_configured_if_something_depends_on_them(override: str, settings: dict[str, Any]) -> None:
    def refuse(config: ExperimentConfig) -> Work:
        raise AssertionError("the data is not needed")

    assert _report_points(SweepConfig(**settings), config_of(override), refuse) == []


@pytest.mark.slow
def test_a_sweep_starts_without_an_estimate_if_the_data_cannot_be_read(
    fake_training: FakeTraining, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from multitask_bert.errors import InputError

    def fail(config: ExperimentConfig) -> Work:
        raise InputError("train.csv: is not there")

    monkeypatch.setattr("multitask_bert.training.cost.count_work", fail)
    sweep("hydra.sweeper.n_trials=1")
    assert (
        "the cost of the trials could not be estimated: InputError: train.csv: is not there" in capsys.readouterr().out
    )


@pytest.mark.slow
def test_the_first_trial_has_the_recipe_of_the_encoder(
    fake_training: FakeTraining, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ("-m", "sweep=recipe", "tasks=ner+sentiment", "model=minilm", "logger=none", "hydra.sweeper.n_trials=2")
    run_line(*line)
    (first, _), (second, _) = fake_training.runs
    recipe = first.model.recipe
    assert (recipe.name, first.optimizer.lr, first.optimizer.head_lr_factor) == ("minilm", recipe.lr, 5.0)
    assert (first.trainer.num_epochs, first.trainer.min_steps, first.model.head_init) == (5, 400, "uniform")
    assert second.optimizer.lr != recipe.lr
    out = capsys.readouterr().out
    assert "the first trial has the config's values: model.head_init=uniform  optimizer.head_lr_factor=5.0" in out
    assert "(the config's values)" in " ".join(out.split())  # a row of the table may be broken


@pytest.mark.slow
def test_a_recipe_outside_of_the_space_is_named_and_not_tried(
    fake_training: FakeTraining, capsys: pytest.CaptureFixture[str]
) -> None:
    run_line(
        "-m",
        "sweep=recipe",
        "tasks=ner",
        "model=tiny",
        "model.recipe.lr=0.5",
        "logger=none",
        "hydra.sweeper.n_trials=1",
    )
    assert fake_training.runs[0][0].optimizer.lr < 0.5
    assert "the config's optimizer.lr=0.5 is outside of the space, so it is not tried first" in capsys.readouterr().out


@pytest.mark.slow
def test_trials_with_a_head_that_learned_nothing_are_counted(
    fake_training: FakeTraining, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    from multitask_bert.reports.sweep import read_sweep
    from tests.sweeps.support import FOLDER

    fake_training.collapsed = {
        0: {"ner.ner_head": {"evaluations": 1, "best_model": None}},  # it recovered
        1: {"ner.ner_head": {"evaluations": 3, "best_model": "answers nothing to everything"}},
    }
    study = sweep("hydra.sweeper.n_trials=3", "hydra.sweeper.pruner=none")
    out = capsys.readouterr().out
    assert "3 of 3 trials done, 0 pruned, 0 failed; best" in out
    assert "1 trial with a head that learned nothing (0 of them pruned)" in out
    assert "(learned nothing: ner.ner_head)" in " ".join(out.split())
    assert json.loads((FOLDER / "sweep.json").read_text(encoding="utf-8"))["collapsed"] == 1
    report = read_sweep(study)
    assert [trial.number for trial in report.trials if trial.collapsed] == [1]
    assert report.num_collapsed == 1

"""Trials that really train: what is shared, what a pruned one leaves, and what MLflow sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertConfig

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.training import preparation
from multitask_bert.training.output import RunOutput
from multitask_bert.training.trainer import Trainer
from multitask_bert.utils.sharing import forget, shared, sharing
from tests.conftest import TINY
from tests.sweeps.support import FOLDER, refusal, states_of, sweep

pytestmark = pytest.mark.slow

QUICK = ("trainer.max_steps=2", "trainer.eval_every=1", "hydra.sweeper.n_trials=2")


@pytest.fixture(autouse=True)
def _nothing_kept() -> Any:
    forget()
    yield
    forget()


def test_a_pruned_trial_leaves_a_whole_folder_and_says_so_in_mlflow(
    database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("optuna.trial.Trial.should_prune", lambda trial: np.bool_(trial.number == 1))  # as Optuna's own
    calls: list[Any] = []
    original = preparation._process
    monkeypatch.setattr(preparation, "_process", lambda *args: (calls.append(args), original(*args))[1])
    study = sweep(*QUICK, "logger=mlflow", f"logger.mlflow.tracking_uri=sqlite:///{database}")
    assert states_of(study) == ["complete", "pruned"]
    assert len(calls) == 1  # the second trial finds the data of the first
    names = {path.name for path in (FOLDER / "trial_0001").iterdir()}
    assert names >= {"results.json", "metrics.jsonl", "model", "checkpoints", "run.log", ".hydra", "mlflow.json"}
    results = json.loads((FOLDER / "trial_0001" / "results.json").read_text(encoding="utf-8"))
    assert (results["pruned"], results["steps"]) == (True, 1)
    assert "pruned at step 1 of 2: other trials do better" in capsys.readouterr().out
    left = {path.name for path in FOLDER.iterdir()}
    assert left >= {"report.html", "report.json", "plots", "best.yaml", "sweep.json"}
    (FOLDER / "report.html").unlink()
    actions.report(ExperimentConfig(action="report", run_dir=str(FOLDER)), FOLDER)
    assert {path.name for path in FOLDER.iterdir()} == left

    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    runs = client.search_runs([client.get_experiment_by_name("multitask_bert").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.data.tags["trial"]: run for run in runs if run is not parent}
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["pruned"] == 1
    assert {run.data.tags["mlflow.parentRunId"] for run in children.values()} == {parent.info.run_id}
    assert [children[trial].info.status for trial in "01"] == ["FINISHED", "KILLED"]
    assert [children[trial].data.tags.get("pruned") for trial in "01"] == [None, "true"]
    assert {run.info.run_name for run in children.values()} == {f"ner+sentiment, trial {n}, seed 1" for n in "01"}


def test_trainings_of_a_trial_that_is_pruned_between_seeds_say_so_in_mlflow(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optuna.trial.Trial.should_prune", lambda trial: trial.number == 1)
    sweep(*QUICK, "hydra.sweeper.seeds=2", "logger=mlflow", f"logger.mlflow.tracking_uri=sqlite:///{database}")
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    runs = client.search_runs([client.get_experiment_by_name("multitask_bert").experiment_id])
    tags = sorted((run.data.tags["trial"], run.data.tags.get("pruned", "")) for run in runs if "trial" in run.data.tags)
    assert tags == [("0", ""), ("0", ""), ("1", "true")]


@pytest.fixture
def config(make_config: Callable[..., ExperimentConfig], tmp_path: Path) -> ExperimentConfig:
    """Of a run with pretrained weights."""
    torch.manual_seed(3)
    AutoModel.from_config(BertConfig(**{**TINY, "model_type": "bert"})).save_pretrained(tmp_path / "encoder")
    config = make_config(max_steps=3, eval_every=1)
    config.model.pretrained, config.model.architecture = str(tmp_path / "encoder"), {}
    return config


def losses_of(config: ExperimentConfig) -> list[float]:
    """By evaluation of a training."""
    found: list[float] = []
    output = RunOutput(watcher=lambda step, num_steps, scores: bool(found.append(scores["eval_loss"])))
    Trainer.from_config(config, output).train()
    return found


def test_trials_of_one_process_load_once_and_learn_the_same(
    config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    alone = losses_of(config)
    for name in ("load_tokenizer", "_process", "load_encoder"):
        original = getattr(preparation, name)
        monkeypatch.setattr(
            preparation, name, lambda *args, n=name, f=original: (loaded.append(n), f(*args))[1]
        )  # fmt: skip
    with sharing():
        assert losses_of(config) == alone
        config.tasks["mood"].heads["polarity"].weight = 0.5  # nothing that is loaded depends on it
        assert losses_of(config) != alone
        config.tasks["mood"].heads["polarity"].weight = 1.0
        assert losses_of(config) == alone
    assert loaded == ["load_tokenizer", "_process", "load_encoder"]
    config.batching.max_length = 16
    with sharing():
        losses_of(config)
    assert loaded[3:] == ["_process"]


def test_what_draws_random_numbers_is_not_shared() -> None:
    with sharing():
        torch.manual_seed(1)
        first = shared("weights", "key", lambda: torch.rand(2))
        second = shared("weights", "key", lambda: torch.rand(2))
    assert not torch.equal(first, second)


def test_a_single_run_shares_nothing() -> None:
    assert shared("kind", "key", object) is not shared("kind", "key", object)


def test_a_trial_that_cannot_be_composed_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multitask_bert.sweeps.trials.overrides_of", lambda *_: ["no.such.key=1"])
    error = refusal(*QUICK, "hydra.sweeper.max_failures=0")
    assert "max_failures=0: 1 trials failed, the last (0) with ConfigCompositionException" in error

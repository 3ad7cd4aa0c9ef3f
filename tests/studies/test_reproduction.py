"""A run can be reproduced from its folder, and what has changed since is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import from_tree, to_dict
from multitask_bert.errors import InputError
from multitask_bert.saving import run_folder
from multitask_bert.studies.reproduction import (
    DIFFERENT,
    SAME,
    WITHIN_SPREAD,
    read_earlier,
    verdict,
)
from multitask_bert.training import provenance
from multitask_bert.training.provenance import refuse_other_inputs
from multitask_bert.training.trainer import Trainer
from tests.composing import composed, error_of, run_line
from tests.trained_runs import trained

MakeConfig = Callable[..., ExperimentConfig]
pytestmark = pytest.mark.slow


@pytest.fixture
def run_dir(make_config: MakeConfig, tmp_path: Path) -> Path:
    """The folder of a finished run."""
    trained(make_config(num_epochs=1), tmp_path / "run")
    return tmp_path / "run"


def reproduce(run_dir: Path, folder: Path, **changes: Any) -> None:
    actions.reproduce(replace(ExperimentConfig(action="reproduce", run_dir=str(run_dir)), **changes), folder)


def test_a_reproduction_with_identical_results_says_so(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reproduce(run_dir, tmp_path / "again")
    assert f"again beside {run_dir}: the same, to the bit" in capsys.readouterr().out
    finals = [provenance.read(folder)["final"] for folder in (run_dir, tmp_path / "again")]
    assert finals[0] == finals[1]


def test_the_config_files_of_a_run_are_recorded_and_copied_to_its_reproduction(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    files = {"tasks/mood": "/mine/tasks/mood.yaml", "model/tiny": "/ours/model/tiny.yaml"}
    run, again = tmp_path / "run", tmp_path / "again"
    config = make_config(num_epochs=1)
    for folder, found in ((run, files), (again, {"config": "/ours/config.yaml"})):
        run_folder.save_config(config, folder)
        OmegaConf.save({"hydra": {"runtime": {"files": found}}}, folder / ".hydra" / "hydra.yaml")
    actions.train(config, run)
    reproduce(run, again)
    assert [provenance.read(folder)["config_files"] for folder in (run, again)] == [files, files]
    trained(make_config(num_epochs=1), run / "seed_1")  # as a sweep or a verification has them
    assert provenance.read(run / "seed_1")["config_files"] == files


def test_data_in_another_folder_is_the_same_data(run_dir: Path, tmp_path: Path, data_root: Path) -> None:
    shutil.copytree(data_root, tmp_path / "copy")
    reproduce(run_dir, tmp_path / "again", data_root=str(tmp_path / "copy"))
    assert provenance.read(tmp_path / "again")["data"] == provenance.read(run_dir)["data"]


def test_changed_data_is_named_before_anything_is_trained(
    run_dir: Path, tmp_path: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(data_root, tmp_path / "copy")
    train_file = tmp_path / "copy" / "mood" / "train.tsv"
    train_file.write_text(train_file.read_text(encoding="utf-8").replace("\tgood", "\tbad", 1), encoding="utf-8")
    monkeypatch.setattr(Trainer, "train", lambda self: pytest.fail("it was trained"))
    with pytest.raises(
        InputError, match=r"have changed since.*\n  data\.mood\.train: \w+…, now \w+…\nrestore them"
    ) as told:
        reproduce(run_dir, tmp_path / "again", data_root=str(tmp_path / "copy"))
    assert "people" not in str(told.value)


def test_changed_weights_are_named(run_dir: Path) -> None:
    before = provenance.read(run_dir)
    with pytest.raises(InputError, match=r"\n  weights: \w+…, now 0000\n"):
        refuse_other_inputs(before, {**before, "weights": "0000"})
    refuse_other_inputs(before, {**before, "threads": 99})


def test_scores_in_the_interval_are_the_same_within_the_spread(run_dir: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    assert verdict(read_earlier(run_dir), read_earlier(other))[0] == SAME
    described = provenance.read(other)
    described["final"]["weights"] = "0000"
    (other / "provenance.json").write_text(json.dumps(described), encoding="utf-8")
    assert verdict(read_earlier(run_dir), read_earlier(other))[0] == WITHIN_SPREAD
    results = json.loads((other / "results.json").read_text(encoding="utf-8"))
    results["metrics"]["test"]["eval_mood_polarity_f1"] = 2.0
    described["final"]["metrics"] = provenance.hash_of_metrics(results["metrics"])
    (other / "provenance.json").write_text(json.dumps(described), encoding="utf-8")
    (other / "results.json").write_text(json.dumps(results), encoding="utf-8")
    assert verdict(read_earlier(run_dir), read_earlier(other))[0] == DIFFERENT


def test_a_different_result_ends_with_status_1_and_names_what_else_differs(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = provenance.read(run_dir)
    described["packages"]["torch"] = "1.0.0"
    described["final"]["weights"] = "0000"
    (run_dir / "provenance.json").write_text(json.dumps(described), encoding="utf-8")
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    results["test_intervals"]["eval_mood_polarity_f1"] = [2.0, 3.0]
    (run_dir / "results.json").write_text(json.dumps(results), encoding="utf-8")
    with pytest.raises(SystemExit, match="1"):
        reproduce(run_dir, tmp_path / "again")
    told = capsys.readouterr().out
    assert ": different\n" in told
    assert "  packages.torch: 1.0.0, now " in told


@pytest.mark.parametrize(
    "content", [None, "{", "{}", "[]", '{"final": {}}', '{"final": {"weights": "a", "metrics": "b"}}']
)
@pytest.mark.parametrize("name", ["provenance.json", "results.json"])
def test_an_unfinished_or_damaged_run_is_refused_before_anything_is_trained(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: str | None
) -> None:
    monkeypatch.setattr(Trainer, "train", lambda self: pytest.fail("it was trained"))
    path = run_dir / name
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=f"run_dir={run_dir}: .*(has no {name}|is damaged|is not finished)"):
        reproduce(run_dir, tmp_path / "again")


def test_a_complete_run_is_not_mistaken_for_one_with_another_config(
    run_dir: Path, make_config: MakeConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(make_config(num_epochs=1), resume=True)
    actions.train(config, run_dir)
    assert "this run is complete; there is nothing to resume" in capsys.readouterr().out
    config.optimizer.lr = 0.25
    with pytest.raises(InputError, match=r"optimizer\.lr was 5e-05, now 0\.25"):
        actions.train(config, run_dir)


@pytest.mark.parametrize(
    "overrides", [(), ("tasks=snips+sick", "model=tiny", "logger=none", "optimizer=sgd", "seed=5")]
)
def test_reproduce_yaml_composes_to_the_very_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...]
) -> None:
    config = from_tree(composed(*overrides))
    run_folder.write_reproduction(config, tmp_path)
    run_line("--config-dir", str(tmp_path), "--config-name", "reproduce", "--cfg", "job")
    tree = OmegaConf.create(capsys.readouterr().out)
    assert isinstance(tree, DictConfig)
    assert to_dict(from_tree(tree)) == to_dict(config)
    assert "${" not in OmegaConf.to_yaml(to_dict(config))


def test_keys_of_reproduce_yaml_can_be_overridden_and_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder.write_reproduction(from_tree(composed()), tmp_path)
    command = ("--config-dir", str(tmp_path), "--config-name", "reproduce")
    error = error_of(*command, "logger=none")
    assert error.startswith("error: logger: this config has no such group")
    assert "~logger.mlflow" in error
    run_line(*command, "~logger.mlflow", "seed=7", "--cfg", "job")
    tree = OmegaConf.create(capsys.readouterr().out)
    assert set(tree.logger) == set(composed().logger) - {"mlflow"}
    assert tree.seed == 7


def test_provenance_tells_code_packages_machine_and_hashes(run_dir: Path) -> None:
    described = provenance.read(run_dir)
    assert set(described["packages"]) >= {"torch", "transformers", "numpy"}
    assert set(described["data"]) == {"people", "mood"}
    assert set(described["data"]["mood"]) == {"train", "dev", "test"}
    assert described["threads"] >= 1
    assert len(described["final"]["weights"]) == len(described["weights"]) == 64


def test_scores_that_were_edited_after_the_run_are_refused(run_dir: Path, tmp_path: Path) -> None:
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    results["metrics"]["test"]["eval_mean_f1"] = 0.99
    (run_dir / "results.json").write_text(json.dumps(results), encoding="utf-8")
    with pytest.raises(InputError, match=r"scores in results\.json do not match the hash in provenance\.json"):
        reproduce(run_dir, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_changed_config_is_refused_even_without_a_checkpoint(make_config: MakeConfig, run_dir: Path) -> None:
    for name in ("results.json", "provenance.json"):
        (run_dir / name).unlink()
    with pytest.raises(InputError, match=r"batching\.batch_size was 8, now 4"):
        actions.train(replace(make_config(num_epochs=1, batch_size=4), resume=True), run_dir)
    actions.train(replace(make_config(num_epochs=1), resume=True), run_dir)
    assert (run_dir / "results.json").is_file()

"""`action=report` over a folder of runs: which are in the table, what differs between them, and the files."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from multitask_bert import actions
from multitask_bert.command_line.ending import errors_in_run_log
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.reports.run_curves import Curves, curves_of
from multitask_bert.reports.run_table import FinishedRun, SkippedRun, read_runs, runs_in, tables_of, write_run_table
from multitask_bert.utils.visible import VisibleFormatter
from tests.composing import CONF
from tests.reports.sweep_studies import check_page

TASKS = {"ner": {"heads": {"h": {"type": "tagging"}, "h_x": {"type": "tagging"}}}}


def run_of(folder: Path, *, is_finished: bool = True, action: str = "train", **changes: Any) -> Path:
    """The folder of a run with the files that the table reads; `changes`: top-level keys of its config."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(f"action: {action}\n", encoding="utf-8")
    tree = {"defaults": ["schema"], "tasks": TASKS, **changes}
    (folder / "reproduce.yaml").write_text(json.dumps(tree), encoding="utf-8")
    if is_finished:
        (folder / "metrics.jsonl").touch()
        scores = {"eval_ner_h_f1": 0.5, "eval_ner_h_recall": 0.4, "eval_ner_h_x_f1": 0.6, "eval_mean_f1": 0.55}
        results = {
            "metrics": {"eval": scores, "test": scores | {"eval_ner.hard_h_f1": 0.25}},
            "test_intervals": {"eval_ner_h_f1": [0.45, 0.55], "eval_ner.hard_h_f1": [0.2, 0.3]},
            "best": {"metric": "eval_mean_f1", "value": 0.55},
            "steps": 1200, "train_seconds": 3.2, "pruned": False,
        }  # fmt: skip
        (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def test_the_table_has_settings_that_differ_and_headlines_with_intervals(tmp_path: Path) -> None:
    run_of(tmp_path / "one", seed=1, optimizer={"lr": 0.1})
    run_of(tmp_path / "two", seed=2, optimizer={"lr": 0.1}, data_root="/elsewhere")
    table, left_out = tables_of(read_runs(tmp_path))
    assert table.columns == (
        "run", "seed", "test_ner_h_f1", "test_ner_h_x_f1", "test_ner.hard_h_f1", "best on dev", "steps", "seconds",
    )  # fmt: skip
    scores = ("0.5000 [0.4500, 0.5500]", "0.6000", "0.2500 [0.2000, 0.3000]", "0.5500 eval_mean_f1", "1,200", "3")
    assert table.rows == [("one", "1", *scores), ("two", "2", *scores)]
    assert left_out.rows == []


def test_a_setting_that_an_older_run_does_not_know_has_its_default(tmp_path: Path) -> None:
    run_of(tmp_path / "old")
    run_of(tmp_path / "new", optimizer={"lr": 5e-5, "layer_decay": 1.0}, mixing={"rule": "proportional"})
    table, _ = tables_of(read_runs(tmp_path))
    assert table.columns[:2] == ("run", "mixing.rule")
    assert [row[:2] for row in table.rows] == [("new", "proportional"), ("old", "round_robin")]


def test_broken_and_unfinished_runs_are_named_and_skipped(tmp_path: Path) -> None:
    run_of(tmp_path / "good")
    run_of(tmp_path / "running", is_finished=False)
    (run_of(tmp_path / "broken") / "results.json").write_text("{", encoding="utf-8")
    (run_of(tmp_path / "mad") / "results.json").write_text('{"metrics": 3}', encoding="utf-8")
    (run_of(tmp_path / "linked") / "link").symlink_to("/etc")
    path = run_of(tmp_path / "pruned") / "results.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"pruned": True}), encoding="utf-8")
    (run_of(tmp_path / "garbled") / "reproduce.yaml").write_text("a: [", encoding="utf-8")
    runs = read_runs(tmp_path)
    assert [run.name for run in runs if isinstance(run, FinishedRun)] == ["good"]
    reasons = {run.name: run.reason for run in runs if isinstance(run, SkippedRun)}
    assert set(reasons) == {"running", "broken", "mad", "linked", "pruned", "garbled"}
    assert "no results.json" in reasons["running"]
    assert "results.json is damaged" in reasons["broken"]
    assert "results.json is damaged" in reasons["mad"]
    assert "leads out of this folder" in reasons["linked"]
    assert reasons["pruned"] == "it was pruned at step 1200"
    assert "reproduce.yaml" in reasons["garbled"]


@contextmanager
def logging_as_a_job(folder: Path) -> Iterator[None]:
    """Write run.log in the format of Hydra's configuration."""
    conf = yaml.safe_load((CONF / "hydra_settings.yaml").read_text(encoding="utf-8"))
    handler = logging.FileHandler(folder / "run.log", encoding="utf-8")
    handler.setFormatter(VisibleFormatter(conf["hydra"]["job_logging"]["formatters"]["simple"]["format"]))
    log = logging.getLogger("multitask_bert")
    log.addHandler(handler)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        handler.close()


def test_a_run_that_failed_is_told_apart_from_one_that_runs_or_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Settings:
        mode = RunMode.MULTIRUN
        job = SimpleNamespace(num=0)

    monkeypatch.setattr(HydraConfig, "get", Settings)
    for name, error in {
        "bad_data": InputError("ner/train.txt:3: tag 'B_LOC' is not IOB2\nand more"),
        "bug": RuntimeError("a tensor is missing\nsecond line"),
        "resumed": InputError("no test set"),
        "stopped": KeyboardInterrupt(),
    }.items():
        folder = run_of(tmp_path / name, is_finished=False)
        with logging_as_a_job(folder), suppress(InputError, RuntimeError, KeyboardInterrupt):
            logging.getLogger("multitask_bert.cli").info("error: of an earlier start")
            logging.getLogger("multitask_bert.cli").info("the data was read")
            with errors_in_run_log():
                raise error from ValueError("its cause\nin two lines")
    with logging_as_a_job(tmp_path / "resumed"):
        logging.getLogger("multitask_bert.cli").info("the data was read")
    runs = read_runs(tmp_path)
    assert {run.name: run.reason.partition(": it is")[0] for run in runs if isinstance(run, SkippedRun)} == {
        "bad_data": "it failed: ner/train.txt:3: tag 'B_LOC' is not IOB2",
        "bug": "it failed: RuntimeError: a tensor is missing",
        "resumed": "it has no results.json",
        "stopped": "it has no results.json",
    }


def test_seeds_of_a_trial_are_runs_and_the_trial_and_other_actions_are_none(tmp_path: Path) -> None:
    trial = run_of(tmp_path / "trial", is_finished=False)
    (trial / "results.json").write_text('{"metrics": {"eval": {}}, "seeds": {}}', encoding="utf-8")
    run_of(trial / "seed_1", seed=1)
    run_of(tmp_path / "evaluation", action="evaluate")
    assert [path.name for path in runs_in(tmp_path)] == ["seed_1"]


def test_names_and_settings_never_become_html_markdown_or_a_formula(tmp_path: Path) -> None:
    evil = "=<b>|`x"
    run_of(tmp_path / "runs" / "<i>one", model={"pretrained": evil})
    run_of(tmp_path / "runs" / "two", model={"pretrained": "-1"})
    write_run_table(read_runs(tmp_path / "runs"), tmp_path / "runs", tmp_path / "out")
    page = (tmp_path / "out" / "runs.html").read_text(encoding="utf-8")
    check_page(page)
    assert "&lt;i&gt;one" in page
    assert "<b>" not in page
    assert "=&lt;b&gt;|`x" in page
    markdown = (tmp_path / "out" / "runs.md").read_text(encoding="utf-8")
    assert r"=\<b\>\|\`x" in markdown
    with (tmp_path / "out" / "runs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model.pretrained"][0] for row in rows] == ["'", "'"]  # quoted text, not a formula
    assert (rows[0]["test_ner_h_f1"], rows[0]["test_ner_h_f1_low"], rows[0]["test_ner_h_x_f1_low"]) == (
        "0.5", "0.45", "",
    )  # fmt: skip


def learned(num_train: int = 1, **settings: str) -> FinishedRun:
    """A finished run; its score is 0.5 and a tenth of its seed."""
    scores = {"test_ner_h_f1": (0.5 + 0.1 * int(settings["seed"]), 0.4, 0.7)}
    name = "-".join(settings.values())
    return FinishedRun(name, settings, scores, best="", steps=1, seconds=1.0, num_train={"ner": num_train})


def test_runs_that_differ_in_one_number_and_in_seeds_give_a_curve_with_the_seeds_at_one_value() -> None:
    runs = [learned(seed=seed, size=size) for size in ("500", "50", "100") for seed in ("1", "2")]
    both = pytest.approx([0.6, 0.7])
    assert curves_of([*runs, learned(seed="1", size="null")]) == Curves(
        "size", {"test_ner_h_f1": {500.0: both, 50.0: both, 100.0: both}}, num_left_out=1
    )
    assert curves_of(runs[:4]) is None  # two values make no curve
    assert curves_of([*runs, learned(seed="1", size="50", rate="2")]) is None  # two settings differ


def test_a_learning_curve_is_over_the_examples_that_there_were() -> None:
    key = "tasks.ner.source.max_train_examples"
    runs = [
        learned(num, **{"seed": "1", key: asked}) for num, asked in ((10, "10"), (20, "20"), (33, "500"), (33, "null"))
    ]
    curves = curves_of(runs)
    assert curves is not None
    assert (curves.name, list(curves.points["test_ner_h_f1"])) == ("training examples of ner", [10, 20, 33])
    assert curves.num_left_out == 0


def test_a_curve_stands_on_the_page_and_as_a_picture(tmp_path: Path) -> None:
    for size in (50, 100, 1000):
        run_of(tmp_path / "runs" / str(size), trainer={"max_steps": size})
    write_run_table(read_runs(tmp_path / "runs"), tmp_path / "runs", tmp_path / "out")
    assert "Scores by trainer.max_steps" in (tmp_path / "out" / "runs.html").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_report_of_a_folder_of_runs_is_written_by_the_action(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(tmp_path / "runs" / "one", seed=1)
    run_of(tmp_path / "runs" / "two", seed=2, optimizer={"lr": 0.1})
    actions.report(ExperimentConfig(action="report", run_dir=str(tmp_path / "runs")), tmp_path / "out")
    printed = capsys.readouterr().out
    assert "Runs: one seed=1 optimizer.lr=5e-05: test_ner_h_f1 0.5000 [0.4500, 0.5500]" in printed
    assert "Runs: two seed=2 optimizer.lr=0.1: test_ner_h_f1" in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"runs.html", "runs.md", "runs.csv"}
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds neither a sweep nor finished runs"):
        actions.report(ExperimentConfig(action="report", run_dir=str(tmp_path / "none")), tmp_path / "out")

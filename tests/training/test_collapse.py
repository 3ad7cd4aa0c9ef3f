"""Heads that have learned nothing are recognised and counted, and their run is restarted once."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask_bert.config.schema import ExperimentConfig, HeadConfig
from multitask_bert.config.without_effect import settings_without_effect
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import Prediction, TargetBatch
from multitask_bert.training.collapse import collapse_of
from multitask_bert.training.loop import TrainingLoop
from multitask_bert.training.restart import prepare_restart, read_restart, set_first_attempt_aside
from multitask_bert.training.run import run_training
from multitask_bert.training.trainer import Trainer
from tests.trained_runs import logged

MakeConfig = Callable[..., ExperimentConfig]
MOODS = ["bad"] * 6 + ["good"] * 14


def moods_head(**options: Any) -> Head:
    return make_head(HeadConfig("classification", **options), LabelSet(("bad", "good"), counts=(6, 14)))


def collapse(head: Head, golds: list[Any], answers: list[Any], loss: float = 0.1, frequency_loss: float = 0.6) -> Any:
    predictions = [Prediction(answer) for answer in answers]
    score = next(iter(head.score(golds, predictions).values()))
    return collapse_of(head, golds, predictions, score=score, loss=loss, frequency_loss=frequency_loss)


def test_one_answer_to_everything_is_named() -> None:
    assert collapse(moods_head(), MOODS, ["good"] * 20) == "answers 'good' to everything"
    assert collapse(moods_head(), MOODS, ["bad", *["good"] * 19]) is None


def test_one_answer_is_no_collapse_if_it_is_right_or_hardly_any_label_is_known() -> None:
    assert collapse(moods_head(), ["good"] * 20, ["good"] * 20) is None
    assert collapse(moods_head(), MOODS[:9], ["good"] * 9) is None
    assert collapse(moods_head(), [None] * 11 + MOODS[-9:], ["good"] * 20) is None


def test_a_loss_above_that_of_the_frequencies_counts_only_where_the_score_is_no_better_than_one_answer() -> None:
    worse, better = ["good", *["bad"] * 6, *["good"] * 13], MOODS
    head = moods_head(metrics=["accuracy"])
    assert "knows no more than the label frequencies" in collapse(head, MOODS, ["bad"] * 19 + ["good"], loss=0.61)
    assert collapse(head, MOODS, ["bad"] * 19 + ["good"], loss=0.59) is None
    assert collapse(head, MOODS, better, loss=2.0) is None
    assert collapse(head, MOODS, worse, loss=2.0) is None  # 18 of 20 are right, 14 with one answer


def test_a_users_own_headline_metric_is_compared_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTITASK_BERT_ALLOW", "owner/agreement")
    monkeypatch.setattr("multitask_bert.utils.metrics.compute_module", lambda place, inputs: 0.25)
    head = moods_head(metrics=["owner/agreement"])
    found = collapse(head, MOODS, ["bad"] * 19 + ["good"], loss=0.7)
    assert "agreement not above 0.250, that of always answering 'good'" in found


def test_taggers_collapse_word_by_word() -> None:
    head = make_head(HeadConfig("tagging"), LabelSet(("O", "B-PER", "I-PER"), counts=(90, 9, 1)))
    golds = [("O", "B-PER"), ("O",)] * 10
    assert collapse(head, golds, [("O", "O"), ("O",)] * 10) == "answers 'O' to everything"
    assert collapse(head, golds, [("O", "B-PER"), ("O",)] * 10) is None


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"class_weights": {"bad": 5.0, "good": 1.0}}])
def test_no_constant_has_a_lower_loss_than_the_label_frequencies(options: dict[str, Any]) -> None:
    head = moods_head(**options)
    values = torch.tensor([head.labels.ids[mood] for mood in MOODS])
    none = torch.zeros(len(values), dtype=torch.long)
    target = TargetBatch(none, none, none, values, len(values))

    def loss_of(logits: torch.Tensor) -> float:
        return float(head.loss(logits.expand(len(values), 2), target).loss_sum)

    logits = head.frequency_logits()
    assert logits is not None
    found = loss_of(torch.tensor(logits))
    assert all(loss_of(torch.tensor([0.0, step / 10])) >= found - 1e-4 for step in range(-50, 51))
    if not options:
        entropy = -(0.3 * math.log(0.3) + 0.7 * math.log(0.7))
        assert found / 20 == pytest.approx(entropy, rel=1e-6)


def collapsing(make_config: MakeConfig, **trainer: Any) -> ExperimentConfig:
    """A head whose weight is 0 stays at its start: zero weights answer the same to everything."""
    config = make_config("mood", num_epochs=2, **trainer)
    config.tasks["mood"].heads["polarity"].weight = 0.0
    return config


@pytest.fixture
def _heads_begin_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    from multitask_bert.heads import options

    def build(*arguments: Any) -> Any:
        module = options_build(*arguments)
        for weight in module.parameters():
            torch.nn.init.zeros_(weight)
        return module

    options_build = options.build
    monkeypatch.setattr(options, "build", build)


@pytest.mark.usefixtures("_heads_begin_at_zero")
def test_a_head_that_learns_nothing_is_named_at_each_evaluation_and_counted(
    make_config: MakeConfig, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_training(collapsing(make_config), tmp_path, tags={})
    told = [line for line in capsys.readouterr().out.splitlines() if "to everything" in line]
    assert [message.partition(";")[0] for message in told] == [
        "step 4: mood.polarity answers 'bad' to everything", "step 8: mood.polarity answers 'bad' to everything",
    ]  # fmt: skip
    assert "scheduler.warmup_ratio" in told[0]
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["collapsed"] == {
        "mood.polarity": {"evaluations": 2, "best_model": "answers 'bad' to everything"},
    }
    assert (results["evaluations"], results["restarted"]) == (2, None)


def test_a_head_that_learns_is_not_named(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config("mood", num_epochs=6, dropout=0.0)
    config.optimizer.lr = 5e-3
    run_training(config, tmp_path, tags={})
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["best"]["value"] > 0.9
    of_last_step = capsys.readouterr().out.partition(f"step {results['steps']}: ")[2]
    assert "to everything" not in of_last_step
    assert results["collapsed"].get("mood.polarity", {"best_model": None})["best_model"] is None


@pytest.mark.usefixtures("_heads_begin_at_zero")
def test_a_run_whose_warmup_cannot_be_longer_is_not_restarted(make_config: MakeConfig, tmp_path: Path) -> None:
    config = collapsing(make_config, restart_collapsed=True)
    config.scheduler.warmup_ratio = 0.8
    told = [line for line in settings_without_effect(config) if line.startswith("trainer.restart_collapsed=true")]
    assert "and scheduler.warmup_ratio is 0.8" in told[0]
    run_training(config, tmp_path, tags={})
    assert not (tmp_path / "first_attempt").exists()


@pytest.mark.usefixtures("_heads_begin_at_zero")
def test_a_run_that_learns_nothing_is_restarted_once_with_a_longer_warmup(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from omegaconf import OmegaConf

    run_training(collapsing(make_config, restart_collapsed=True), tmp_path, tags={})
    out = capsys.readouterr().out
    assert "mood.polarity learned nothing so far; restarting with scheduler.warmup_ratio=0.3" in out
    assert (
        "Second attempt, with scheduler.warmup_ratio=0.3; the first: step 4 of 8: mood.polarity learned nothing" in out
    )
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["restarted"]["warmup_ratio"] == 0.3
    assert results["steps"] == 8
    reproduced = OmegaConf.load(tmp_path / "reproduce.yaml")
    assert (reproduced.scheduler.warmup_ratio, reproduced.trainer.restart_collapsed) == (0.3, False)
    assert max(line["step"] for line in logged(tmp_path / "first_attempt")) == 4  # half of the run
    assert max(line["step"] for line in logged(tmp_path)) == 8


def test_a_dev_set_too_small_to_show_that_a_head_learns_nothing_is_warned_of_where_a_restart_is_asked_for(
    make_config: MakeConfig, data_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (data_root / "mood" / "dev.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (data_root / "mood" / "few.tsv").write_text("".join(lines[:9]), encoding="utf-8")  # one is the header
    for restarts, is_warned in (True, True), (False, False):
        config = make_config("mood", restart_collapsed=restarts, max_steps=1)
        config.tasks["mood"].source.dev = "few.tsv"
        caplog.clear()
        Trainer.from_config(config).train()
        assert ("restart_collapsed: mood has 8 dev examples, and only from 10 on" in caplog.text) == is_warned


@pytest.mark.parametrize(("first", "second"), [(0.0, 0.3), (0.1, 0.3), (0.3, 0.6), (0.5, 0.8), (0.7, 0.8)])
def test_the_warmup_of_a_restarted_run_is_longer_than_the_first_one(
    make_config: MakeConfig, tmp_path: Path, first: float, second: float
) -> None:
    config = make_config("mood")
    config.scheduler.warmup_ratio = first
    assert prepare_restart(tmp_path, config, "learned nothing").warmup_ratio == second


def test_a_first_attempt_that_was_set_aside_in_part_when_it_was_killed_is_set_aside_whole(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metrics.jsonl").write_text("of the first attempt", encoding="utf-8")
    (tmp_path / "checkpoints").mkdir()

    def move_metrics_only(folder: Path) -> None:
        (folder / "first_attempt.unfinished").mkdir()
        (folder / "metrics.jsonl").rename(folder / "first_attempt.unfinished" / "metrics.jsonl")

    with monkeypatch.context() as killed:
        killed.setattr("multitask_bert.training.restart.set_first_attempt_aside", move_metrics_only)
        prepare_restart(tmp_path, make_config("mood"), "learned nothing")
    assert read_restart(tmp_path) is not None
    set_first_attempt_aside(tmp_path)
    first = tmp_path / "first_attempt"
    assert {path.name for path in first.iterdir()} == {"metrics.jsonl", "checkpoints"}
    (tmp_path / "metrics.jsonl").write_text("of the second attempt", encoding="utf-8")
    set_first_attempt_aside(tmp_path)
    assert (first / "metrics.jsonl").read_text(encoding="utf-8") == "of the first attempt"


def test_a_complete_run_without_a_best_score_is_left_as_it_is(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("mood", max_steps=1)
    config.resume = True
    (tmp_path / "results.json").write_text('{"best": {"value": null}}', encoding="utf-8")
    assert math.isnan(run_training(config, tmp_path, tags={}))


@pytest.mark.slow
@pytest.mark.usefixtures("_heads_begin_at_zero")
def test_a_restarted_run_that_was_stopped_is_resumed_with_the_longer_warmup(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    config = collapsing(make_config, restart_collapsed=True)
    run_training(config, whole, tags={})
    step = TrainingLoop._step

    def stop_in_the_second_attempt(self: TrainingLoop, *arguments: Any) -> None:
        step(self, *arguments)
        if (stopped / "first_attempt").is_dir() and self.state.step == 5:
            self.trainer.ask_to_stop("SIGTERM")

    monkeypatch.setattr(TrainingLoop, "_step", stop_in_the_second_attempt)
    with pytest.raises(SystemExit):
        run_training(config, stopped, tags={})
    monkeypatch.setattr(TrainingLoop, "_step", step)
    config.resume = True
    run_training(config, stopped, tags={})
    rates = [
        {line["step"]: line["train_lr"] for line in logged(folder) if "train_lr" in line} for folder in (whole, stopped)
    ]
    assert rates[0] == rates[1]
    assert len(rates[0]) == 8


@pytest.mark.parametrize("content", ["{", "[]", '{"warmup_ratio": "a"}', '{"warmup_ratio": 5.0, "reason": "x"}'])
def test_a_damaged_restart_file_is_named_in_the_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "restart.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"restart\.json: "):
        read_restart(tmp_path)


def test_a_task_without_any_batch_is_refused(make_config: MakeConfig) -> None:
    config = make_config("mood")
    config.tasks["mood"].num_epochs = 0.001
    with pytest.raises(InputError, match=r"tasks\.mood\.num_epochs=0\.001: gives not a single batch"):
        Trainer.from_config(config).train()

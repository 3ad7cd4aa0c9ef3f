"""The console prints tables and a progress bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest

from multitask_bert.data.processor import SplitReport
from multitask_bert.records import TaskResult
from multitask_bert.tracking.console import Console
from multitask_bert.train_state import TrainState

RESULTS = {
    "mood": TaskResult(
        {"polarity": 0.25}, {"polarity": {"f1": 0.5, "accuracy": 0.75}}, joint_accuracy=0.25, joint_interval=(0.1, 0.4)
    ),
    "people": TaskResult({"entities": 1.5}, {"entities": {"f1": 0.1, "precision": 0.2, "recall": 0.3}}),
}
REPORTS = [
    SplitReport("mood", "train", 1500, 30000, 7, {"polarity": 3}, False),
    SplitReport("mood", "dev", 100, 2000, 0, {}, True),
]
STATE = TrainState(
    step=40, num_steps=100, num_tokens=9000, train_seconds=3.0, best_score=0.5, best_step=20, best_epoch=0.4
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(console_file: io.StringIO, act: Any, **environment: str) -> str:
    act(Console(file=console_file))
    return console_file.getvalue()


def everything(console: Console) -> None:
    console.show_data(REPORTS)
    console.start_training(100)
    console.show_step(STATE, 0.75)
    console.show_scores("step 40", RESULTS, is_best=True)
    console.end_training()
    console.show_end(STATE, "eval_mean_f1", {"best": RESULTS, "test": RESULTS}, {"Results": "outputs/run/results.json"})
    console.close()


def test_without_a_terminal_every_line_can_be_read_by_itself() -> None:
    lines = shown(io.StringIO(), everything).splitlines()
    assert "mood train: 1,500 examples, 30,000 tokens; truncated 7, no label polarity 3" in lines
    assert "mood dev (cut from train): 100 examples, 2,000 tokens; truncated 0, no label 0" in lines
    assert "step 40/100  loss 0.7500  3,000 tokens/s" in lines
    assert "step 40 (best so far): mood  polarity  f1 0.5000  accuracy 0.7500  loss 0.2500" in lines
    assert "Best eval_mean_f1 0.5000 at step 20 of 40, epoch 0.40" in lines
    assert "step 40 (best so far): mood  all heads right  accuracy 0.2500 [0.1000, 0.4000]" in lines
    assert "Results      outputs/run/results.json" in lines
    assert not any("\x1b" in line or "━" in line for line in lines)


def test_a_terminal_shows_tables_and_a_bar_with_loss_and_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    text = shown(Terminal(), everything)
    assert "loss 0.7500" in text
    assert "3,000 tokens/s" in text
    assert "40/100 steps" in text
    assert "━" in text
    for cell in ("truncated", "30,000", "accuracy 0.7500", "recall 0.3000", "Test scores of the best model"):
        assert cell in text


def test_a_narrow_terminal_cuts_no_figure_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "50")
    text = shown(Terminal(), lambda console: console.show_scores("step 40", RESULTS))
    assert all(figure in text for figure in ("0.5000", "0.7500", "0.2500", "0.1000", "0.2000", "0.3000", "1.5000"))
    assert "…" not in text


def test_plain_lines_stay_few_however_many_steps_there_are() -> None:
    def train(console: Console) -> None:
        console.start_training(10_000)
        for step in range(10, 10_001, 10):
            console.show_step(TrainState(step=step, num_steps=10_000), 1.0)

    assert len(shown(io.StringIO(), train).splitlines()) == 20


def test_plain_lines_tell_the_time_left_from_the_steps_since_this_process_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([100.0, 160.0, 700.0, 900.0, 910.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))

    def resume_and_begin_anew(console: Console) -> None:
        for steps in ((40, 50, 90, 100), (50, 60)):
            console.start_training(100)
            for step in steps:
                console.show_step(TrainState(step=step, num_steps=100), 1.0)

    ends = [line.partition("tokens/s")[2] for line in shown(io.StringIO(), resume_and_begin_anew).splitlines()]
    assert ends == ["", "  about 5 min left", "  about 2 min left", "", "", "  about 40 s left"]


def test_a_quiet_console_says_nothing() -> None:
    file = io.StringIO()
    everything(Console(quiet=True, file=file))
    assert file.getvalue() == ""


def test_labels_are_shown_as_they_are_in_a_terminal_and_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    scores = {"f1_of_[neg]": 0.5, "f1_of_[/s]": 0.5, "f1_of_:joy:": 0.5, "f1_of_\x1b[31mred": 0.5, "f1_of_a\nb": 0.5}
    results = {"mood": TaskResult({"polarity": 0.25}, {"polarity": scores})}
    for file in (io.StringIO(), Terminal()):
        text = shown(file, lambda console: console.show_scores("step 1", results))
        for label in ("[neg]", "[/s]", ":joy:", r"\x1b[31mred", r"a\nb"):
            assert f"f1_of_{label} 0.5000" in text


def test_the_last_screen_shows_each_score_once() -> None:
    def end(console: Console) -> None:
        console.show_scores("step 20", RESULTS, is_best=True)
        console.show_end(STATE, "eval_mean_f1", {"best": RESULTS}, {})

    lines = shown(io.StringIO(), end).splitlines()
    assert len([line for line in lines if "polarity" in line]) == 1
    assert "Best eval_mean_f1 0.5000 at step 20 of 40, epoch 0.40" in lines  # a mean that no line above has


def test_the_last_screen_shows_the_best_scores_again_when_others_came_after() -> None:
    later = {**RESULTS}

    def end(console: Console) -> None:
        console.show_scores("step 20", RESULTS, is_best=True)
        console.show_scores("step 40", later)
        console.show_end(STATE, "eval_mean_f1", {"best": RESULTS}, {})

    lines = shown(io.StringIO(), end).splitlines()
    assert "Evaluation scores of the best model: mood  polarity  f1 0.5000  accuracy 0.7500  loss 0.2500" in lines


@pytest.mark.parametrize("metric", ["eval_mean_f1", "eval_mood_polarity_f1"])
def test_the_score_of_a_single_head_is_not_printed_again_as_the_best(metric: str) -> None:
    results = {"mood": TaskResult({"polarity": 0.25}, {"polarity": {"f1": 0.5}})}
    lines = shown(io.StringIO(), lambda console: console.show_end(STATE, metric, {"best": results}, {})).splitlines()
    assert [line for line in lines if "0.5000" in line] == [
        "Evaluation scores of the best model: mood  polarity  f1 0.5000  loss 0.2500"
    ]
    assert f"Best by {metric} at step 20 of 40, epoch 0.40" in lines

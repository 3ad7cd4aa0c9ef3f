"""The line between two trials."""

from __future__ import annotations

import io
from datetime import datetime, timedelta

import optuna
from optuna.trial import TrialState, create_trial
from rich.console import Console

from multitask_bert.reports.sweep import read_sweep
from multitask_bert.sweeps.progress import Progress


def progress_after(*states: TrialState, num_jobs: int = 1) -> Progress:
    """Of a study of ten trials that took a minute each, with values 0.5, 0.6, …."""
    study = optuna.create_study(study_name="s", direction="maximize")
    study.set_user_attr("metrics", ["eval_mean_f1"])
    for number, state in enumerate(states):
        value = 0.5 + number / 10 if state == TrialState.COMPLETE else None
        trial = create_trial(state=state, value=value)
        trial.datetime_start = datetime(2026, 1, 1)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=60)
        study.add_trial(trial)
    return Progress(study, 10, num_jobs, file=io.StringIO())


def test_the_line_counts_and_tells_the_best_and_the_time_left() -> None:
    done = (TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    assert progress_after(*done).line() == (
        "sweep s: 4 of 10 trials done, 1 pruned, 1 failed; best eval_mean_f1 0.6000 (trial 1); about 6 min left"
    )
    assert progress_after(*done, num_jobs=2).line().endswith("about 3 min left")
    assert progress_after(*done, num_jobs=4).line().endswith("about 2 min left")  # four trials, then two
    assert progress_after().line() == "sweep s: 0 of 10 trials done, 0 pruned, 0 failed"


def test_a_terminal_shows_a_bar_before_the_line() -> None:
    progress = progress_after(TrialState.COMPLETE)
    screen = io.StringIO()
    progress._console = Console(file=screen, force_terminal=True, color_system=None, width=200)
    progress.show()
    (line,) = screen.getvalue().splitlines()
    bar, _, text = line.partition(" sweep s: ")
    assert (len(bar), bar.count("━")) == (24, 2)  # a tenth, without the colour of the rest
    assert text.startswith("1 of 10 trials done")


def test_no_time_is_negative_where_the_clock_was_set_back_meanwhile() -> None:
    begin = datetime(2026, 1, 1)
    study = optuna.create_study(study_name="s", direction="maximize")
    study.set_user_attr("metrics", ["eval_mean_f1"])
    for measured in ({}, {"seconds": 30.0}):
        trial = create_trial(state=TrialState.COMPLETE, value=0.5, user_attrs=measured)
        trial.datetime_start, trial.datetime_complete = begin, begin - timedelta(hours=1)
        study.add_trial(trial)
    assert Progress(study, 10, 1, file=io.StringIO()).line().endswith("about 2 min left")  # 8 of 15 s, on average
    report = read_sweep(study)
    assert [trial.seconds for trial in report.trials] == [0.0, 30.0]
    assert (report.elapsed_seconds, report.training_seconds) == (0.0, 30.0)

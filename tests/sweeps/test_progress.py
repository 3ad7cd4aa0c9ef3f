"""The line between two trials."""

from __future__ import annotations

import io
from datetime import datetime, timedelta

import optuna
from optuna.trial import TrialState, create_trial
from rich.console import Console

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

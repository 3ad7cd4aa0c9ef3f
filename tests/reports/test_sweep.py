"""What is read from a study: the best trials, the spread over seeds, the importances, the cost."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from optuna.trial import FrozenTrial, TrialState

from multitask_bert.reports.sweep import range_without_outliers, read_sweep
from tests.reports.sweep_studies import (
    LR,
    TASKS,
    WARMUP,
    busy_study,
    make_study,
    make_trial,
    page_without_plots,
    table,
)


def test_best_so_far_is_the_running_maximum() -> None:
    study = busy_study()
    values = {trial.number: trial.value for trial in study.trials if trial.value is not None}
    expected = dict(zip(values, np.maximum.accumulate(list(values.values())).tolist(), strict=True))
    assert read_sweep(study).best_so_far == expected


def test_with_minimize_the_lowest_is_best() -> None:
    study = make_study(("minimize",))
    study.add_trials([make_trial(number, value=value) for number, value in enumerate([0.5, 0.7, 0.2])])
    report = read_sweep(study)
    assert report.best == [2, 0, 1]
    assert report.best_so_far == {0: 0.5, 1: 0.5, 2: 0.2}
    assert "(lower is better)" in page_without_plots(study)


def test_one_diverged_trial_does_not_decide_the_importances() -> None:
    with_diverged = make_study()
    with_diverged.add_trials([*busy_study().trials, make_trial(24, value=-1e6)])
    assert read_sweep(with_diverged).importances[LR] > 0.5


@pytest.mark.parametrize(
    ("trials", "note"),
    [
        (
            [make_trial(number) for number in range(9)],
            "10 complete trials are needed to estimate importances; there are 9.",
        ),
        ([make_trial(number, value=0.5) for number in range(12)], "All complete trials have the same value"),
        (
            [make_trial(0, value=float(number), params={WARMUP: 0.1}) for number in range(12)],
            "No parameter of all complete trials took more than one value.",
        ),
    ],
)
def test_the_page_says_why_there_are_no_importances(trials: list[FrozenTrial], note: str) -> None:
    study = make_study()
    study.add_trials(trials)
    assert read_sweep(study).importances == {}
    assert note in page_without_plots(study)


def test_a_parameter_that_only_some_trials_have_is_left_out_of_the_importances_and_named() -> None:
    study = make_study()
    study.add_trials([make_trial(number) for number in range(12)])
    params = {LR: 1e-4, WARMUP: 0.1, TASKS: "ner", "adapter.rank": 8}
    study.add_trial(make_trial(12, params=params))
    report = read_sweep(study)
    assert report.importances.keys() == {LR, WARMUP, TASKS}
    assert report.importances_note.endswith("some trials lack them or they never varied: adapter.rank.")
    header, *rows = table(page_without_plots(study), "Best trials")
    by_number = {row[0]: row[header.index("adapter.rank")] for row in rows}
    assert (by_number["12"], by_number["3"]) == ("8", "-")


def test_a_value_over_seeds_has_its_spread_and_the_single_scores() -> None:
    study = make_study(seeds=3)
    scores = [0.8123, 0.8001, 0.7903]
    by_seed = {str(seed): score for seed, score in enumerate(scores, start=42)}
    study.add_trial(make_trial(0, value=statistics.mean(scores), user_attrs={"seed_scores": by_seed}))
    study.add_trial(make_trial(1, value=0.7, user_attrs={"seed_scores": [0.6, 0.7, 0.8]}))
    report = read_sweep(study)
    assert report.trials[0].deviations == [pytest.approx(np.std(scores, ddof=1))]
    assert report.trials[1].seed_scores == {"#1": [0.6], "#2": [0.7], "#3": [0.8]}


def test_a_trial_that_was_tried_again_counts_once() -> None:
    study = make_study()
    study.add_trials([make_trial(0, TrialState.FAIL), make_trial(1, user_attrs={"retry_of": 0})])
    report = read_sweep(study)
    assert (report.counts["failed"], report.counts["complete"], report.num_tried_again) == (0, 1, 1)
    assert [trial.number for trial in report.trials] == [1]


def test_only_outliers_at_the_worse_end_are_left_out_of_the_range() -> None:
    values = [0.70, 0.72, 0.74, 0.75, 0.76, 0.78, 0.80, 0.0, 5.0, math.inf]
    assert range_without_outliers(values, "maximize") == (0.70, 5.0)
    assert range_without_outliers(values, "minimize") == (0.0, 0.80)
    assert range_without_outliers(values[4:], "maximize") == (0.0, 5.0)  # too few to tell


def test_the_steps_of_all_trials_are_added_up_as_far_as_they_are_known() -> None:
    study = make_study()
    study.add_trials(
        [make_trial(0, user_attrs={"steps": 1200}), make_trial(1, TrialState.PRUNED, user_attrs={"steps": 34})]
    )
    study.add_trial(make_trial(2, TrialState.FAIL))
    assert read_sweep(study).training_steps == 1234
    assert "<dd>1,234 training steps of the trials that ended</dd>" in page_without_plots(study)

"""The report of a sweep: what its page says of real studies, whole or not."""

from __future__ import annotations

import base64
import io
import math
import re
from pathlib import Path

import optuna
import pytest
from matplotlib.image import imread
from optuna.trial import FrozenTrial, TrialState

from multitask_bert.reports.sweep_page import _clock, _duration, _number, write_sweep_report
from tests.reports.sweep_studies import (
    LR,
    TASKS,
    WARMUP,
    busy_study,
    check_page,
    make_study,
    make_trial,
    page_without_plots,
    plots,
    read_json_report,
    read_page,
    table,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study() -> optuna.Study:
    return busy_study()


@pytest.fixture(scope="module")
def folder(study: optuna.Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the report on `study`."""
    folder = tmp_path_factory.mktemp("sweep")
    write_sweep_report(study, folder)
    return folder


def test_the_head_says_the_best_value_and_its_parameters_first(study: optuna.Study, folder: Path) -> None:
    best, page = study.best_trial, read_page(folder)
    facts = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page)
    params = f"{LR}={best.params[LR]:.4g}, {WARMUP}={best.params[WARMUP]:.4g}, {TASKS}={best.params[TASKS]}"
    assert facts[:2] == [
        ("Best value", f"{best.value:.4f} (trial {best.number})"),
        ("Best parameters", params),
    ]
    assert page.index("<pre>python run.py") < page.index("<h2>Best trials</h2>") < page.index("<img")


def test_the_head_says_what_was_searched_for_and_how_the_trials_ended(folder: Path) -> None:
    page = read_page(folder)
    assert "<h1>Sweep lr_warmup</h1>" in page
    assert "<dd>eval_mean_f1 (higher is better)</dd>" in page
    assert "<dd>24 trials: 18 complete, 3 pruned, 2 failed, 1 running</dd>" in page
    assert "<dd>model=tiny</dd>" in page
    assert read_json_report(folder)["counts"] == {"complete": 18, "pruned": 3, "failed": 2, "running": 1, "waiting": 0}


def test_the_best_trials_stand_in_the_order_of_their_values(study: optuna.Study, folder: Path) -> None:
    header, *rows = table(read_page(folder), "Best trials")
    assert header == ["trial", "folder", "eval_mean_f1", LR, WARMUP, TASKS, "time"]
    values = {trial.number: trial.value for trial in study.trials if trial.value is not None}
    assert [int(row[0]) for row in rows] == sorted(values, key=lambda number: -values[number])
    best = study.best_trial
    lr, warmup = f"{best.params[LR]:.4g}", f"{best.params[WARMUP]:.4g}"
    assert rows[0][1:6] == [f"trial_{best.number:04d}", f"{best.value:.4f}", lr, warmup, best.params[TASKS]]
    assert f"<pre>python run.py model=tiny {best.user_attrs['overrides'][0]}</pre>" in read_page(folder)
    assert table(read_page(folder), f"Scores of trial {best.number}")[1] == ["eval_loss", "0.4321"]


def test_the_parameter_that_decides_is_the_most_important(folder: Path) -> None:
    importances = read_json_report(folder)["importances"]
    assert next(iter(importances)) == LR
    assert importances[LR] > 0.6
    assert sum(importances.values()) == pytest.approx(1.0)
    assert f"{LR} {100 * importances[LR]:.1f}%" in read_page(folder)


def test_failed_trials_are_named_with_one_line_of_their_error(folder: Path) -> None:
    _, *rows = table(read_page(folder), "Failed trials")
    assert [row[:3] for row in rows] == [
        ["7", "trial_0007", "OutOfMemoryError: <b>2 GiB</b>"],
        ["9", "trial_0009", "no error was recorded; the process may have died"],
    ]
    (seventh,) = [trial for trial in read_json_report(folder)["trials"] if trial["number"] == 7]
    assert seventh["error"].endswith("second line")


def test_all_trials_are_listed_with_their_last_intermediate_value(folder: Path) -> None:
    header, *rows = table(read_page(folder), "All trials")
    last = header.index("last intermediate value, at step")
    assert [row[0] for row in rows] == [str(number) for number in range(24)]
    assert (rows[5][1], rows[5][last]) == ("pruned", "0.3125 at 50")
    assert (rows[23][1], rows[23][last]) == ("running", "0.5000 at 50")
    assert (rows[3][1], rows[3][last]) == ("complete", "0.4300 at 100")


def test_the_search_space_is_listed_with_its_scale(folder: Path) -> None:
    _, *rows = table(read_page(folder), "Search space")
    assert rows == [
        [LR, "float", "1e-05 to 0.001, on a logarithmic scale"],
        [WARMUP, "float", "0 to 0.3"],
        [TASKS, "categorical", "ner, sentiment, ner+sentiment"],
    ]


def test_the_page_holds_the_very_images_that_are_written_as_files(folder: Path) -> None:
    page = read_page(folder)
    check_page(page)
    assert plots(folder) == {"history", "curves", "importances", "contour", "parallel", "slices", "timeline"}
    embedded = {base64.b64decode(image) for image in re.findall(r"base64,([^\"]+)", page)}
    assert embedded == {path.read_bytes() for path in (folder / "plots").iterdir()}
    widths = {imread(io.BytesIO(png), format="png").shape[1] // 2 for png in embedded}
    assert widths == set(map(int, re.findall(r'<img width="(\d+)"', page)))


def test_the_page_shows_each_seed() -> None:
    study = make_study(("maximize", "minimize"), seeds=2)
    by_seed = {"42": [0.8, 0.31], "43": [0.7, 0.29]}
    study.add_trial(make_trial(0, values=[0.75, 0.3], user_attrs={"seed_scores": by_seed}))
    header, row = table(page_without_plots(study), "Pareto front: trials that no other one dominates")
    shown = dict(zip(header, row, strict=True))
    assert shown["eval_mean_f1"] == "0.7500\u00a0±\u00a00.0707"
    assert shown["eval_mean_f1 by seed"] == "42: 0.8000, 43: 0.7000"
    assert shown["eval_loss by seed"] == "42: 0.3100, 43: 0.2900"


def test_several_metrics_give_the_front_that_no_trial_beats(tmp_path: Path) -> None:
    study = make_study(("maximize", "minimize"))
    numbers = range(20)
    values = [[0.5 + 0.4 * math.sin(3 * number), 0.5 + 0.4 * math.cos(5 * number)] for number in numbers]
    study.add_trials([make_trial(number, values=values[number]) for number in numbers])
    write_sweep_report(study, tmp_path)
    front = [
        number
        for number in numbers
        if not any(
            other != values[number] and other[0] >= values[number][0] and other[1] <= values[number][1]
            for other in values
        )
    ]
    _, *rows = table(read_page(tmp_path), "Pareto front: trials that no other one dominates")
    assert [int(row[0]) for row in rows] == sorted(front, key=lambda number: -values[number][0])
    assert plots(tmp_path) == {"front", "slices", "slices_2", "timeline"}
    check_page(read_page(tmp_path))


def test_three_metrics_are_drawn_two_by_two(tmp_path: Path) -> None:
    study = make_study(("maximize", "minimize", "minimize"))
    study.add_trials([make_trial(number, values=[number, number, -number], params={}) for number in range(3)])
    report = write_sweep_report(study, tmp_path)
    assert report.best == [2, 1, 0]
    assert plots(tmp_path) == {"front", "front_2", "front_3", "timeline"}


@pytest.mark.parametrize(
    ("trials", "sentences", "drawn"),
    [
        ([], ["No trial has started.", "No trial is complete yet."], set()),
        (
            [make_trial(0, TrialState.RUNNING, intermediate_values={10: 0.5})],
            ["1 trial: 1 running", "No trial is complete yet."],
            {"curves", "timeline"},
        ),
        (
            [make_trial(0, TrialState.FAIL), make_trial(1, TrialState.FAIL)],
            ["2 trials: 2 failed", "No trial is complete, so there is no best one."],
            {"timeline"},
        ),
        (
            [make_trial(0, TrialState.PRUNED, intermediate_values={10: 0.5, 20: math.nan})],
            ["1 trial: 1 pruned", "No trial is complete, so there is no best one."],
            {"curves", "timeline"},
        ),
        ([make_trial(0)], ["1 trial: 1 complete", "there are 1."], {"history", "slices", "timeline"}),
        (
            [make_trial(0, value=math.inf), make_trial(1, value=-math.inf)],
            ["2 trials: 2 complete", "there are 0."],
            {"timeline"},
        ),
    ],
)
def test_an_unfinished_study_has_a_page_that_says_so(
    trials: list[FrozenTrial], sentences: list[str], drawn: set[str], tmp_path: Path
) -> None:
    study = make_study()
    study.add_trials(trials)
    write_sweep_report(study, tmp_path)
    check_page(read_page(tmp_path))
    assert [sentence for sentence in sentences if sentence not in read_page(tmp_path)] == []
    assert plots(tmp_path) == drawn
    assert sum(read_json_report(tmp_path)["counts"].values()) == len(trials)


def test_an_empty_study_shows_the_space_that_it_was_made_for(tmp_path: Path) -> None:
    space = {LR: {"type": "float", "low": 1e-5, "high": 1e-3, "log": True, "step": None}}
    write_sweep_report(make_study(space=space), tmp_path)
    assert table(read_page(tmp_path), "Search space")[1:] == [[LR, "float", "1e-05 to 0.001, on a logarithmic scale"]]


def test_odd_names_and_values_are_whole_in_the_table_and_never_become_markup(tmp_path: Path) -> None:
    study = make_study(metrics=["<script>alert(1)</script>"], fixed_overrides=["name='a b'"])
    for number, choice in enumerate(["中文 $", "z" * 400, None]):
        params = {"$x^{_%": 0.1 * number, "<i>": choice}
        study.add_trial(make_trial(number, value=0.1, params=params, intermediate_values={1: 0.1}))
    study.add_trial(make_trial(3, TrialState.FAIL, user_attrs={"error": "bad \udc80 file <img src=x>"}))
    write_sweep_report(study, tmp_path)
    check_page(read_page(tmp_path))
    assert "<script>alert" not in read_page(tmp_path)
    assert plots(tmp_path) == {"history", "curves", "slices", "timeline"}
    header, *rows = table(read_page(tmp_path), "Best trials")
    assert [row[header.index("<i>")] for row in rows] == ["中文 $", "z" * 400, "null"]
    assert table(read_page(tmp_path), "Failed trials")[1][2] == "bad ? file <img src=x>"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(4.24, "4.2 s"), (200, "3 min 20 s"), (59.97, "1 min 00 s"), (3720, "1 h 02 min")]
)
def test_a_duration_has_at_most_two_units(seconds: float, shown: str) -> None:
    assert _duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.81234, "0.8123"), (0.0, "0.0000"), (0.00001234, "1.234e-05"), (-12345.6, "-1.235e+04")]
)
def test_a_small_number_is_not_shown_as_zero(value: float, shown: str) -> None:
    assert _number(value) == shown


def test_durations_in_tables_sort_as_text() -> None:
    assert [_clock(seconds) for seconds in (4.24, 200, 3720)] == ["0:00:04", "0:03:20", "1:02:00"]

"""A table of finished runs: the settings in which they differ, and their scores with intervals.

A folder -> the runs in it, at any depth -> `FinishedRun` or why there is none -> page, Markdown and CSV.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multitask_bert.errors import InputError
from multitask_bert.reports.pages import TextTable, render
from multitask_bert.reports.run_curves import curves_of, draw_curves
from multitask_bert.reports.run_settings import UNSET, differing, settings_of, task_names
from multitask_bert.reports.text_files import csv_file, markdown_page
from multitask_bert.saving.run_folder import HYDRA_CONFIG, RESULTS, last_error, read_results
from multitask_bert.tracking.loggers import METRICS_FILE
from multitask_bert.trust import foreign_folders
from multitask_bert.trust.yaml_files import read_tree
from multitask_bert.utils.files import write_bytes

PAGE, MARKDOWN, CSV = "runs.html", "runs.md", "runs.csv"
NO_RUNS_INSIDE = (".hydra", "checkpoints", "model", "tensorboard", "predictions")
Score = tuple[float, ...]  # a value, and the two ends of its 95% interval where it has one


@dataclass(frozen=True)
class FinishedRun:
    """What the table shows of one run."""

    name: str  # its folder, below that of the table
    settings: dict[str, str]  # by full name; see `settings_of`
    scores: dict[str, Score]  # by key, as in the logs: each head's headline, on test or else on dev
    best: str  # metric and value that decided which model was kept
    steps: int | None
    seconds: float | None
    num_train: dict[str, int]  # training examples, by task


@dataclass(frozen=True)
class SkippedRun:
    """A folder of a run that is not in the table."""

    name: str
    reason: str


def runs_in(folder: Path) -> list[Path]:
    """The folders of training runs, at any depth, sorted; links are not followed."""
    found = []
    for parent, folders, _ in os.walk(folder):
        folders[:] = [name for name in folders if name not in NO_RUNS_INSIDE]
        if (Path(parent) / HYDRA_CONFIG).is_file():
            found.append(Path(parent))
    containers = {above for path in found for above in path.parents}  # of the seeds of a trial or verification
    return sorted(
        path for path in found if _is_training(path) and (path not in containers or (path / METRICS_FILE).is_file())
    )


def read_runs(folder: Path) -> list[FinishedRun | SkippedRun]:
    """All runs in the folder, with those that are broken or unfinished as `SkippedRun`."""
    return [_read_run(path, str(path.relative_to(folder))) for path in runs_in(folder)]


def write_run_table(runs: Sequence[FinishedRun | SkippedRun], of_folder: Path, folder: Path) -> list[Path]:
    """Write the page, Markdown, CSV and curves, if there are any, in `folder`; `of_folder`: where the runs are.

    Returns:
        The pictures of the curves.
    """
    title, facts, tables = f"Runs in {of_folder}", {"Runs": f"{len(finished(runs)):,}"}, tables_of(runs)
    curves = curves_of(finished(runs))
    plots = [] if curves is None else [draw_curves(curves)]
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / PAGE, render("tables.html", title=title, facts=facts, notes=[], plots=plots, tables=tables))
    pictures = {folder / f"{plot.name}.png": plot.png for plot in plots}
    for path, png in pictures.items():
        write_bytes(path, png)
    write_bytes(folder / MARKDOWN, markdown_page(title, facts, tables))
    write_bytes(folder / CSV, _csv(finished(runs)))
    return list(pictures)


def finished(runs: Sequence[FinishedRun | SkippedRun]) -> list[FinishedRun]:
    return [run for run in runs if isinstance(run, FinishedRun)]


def tables_of(runs: Sequence[FinishedRun | SkippedRun]) -> list[TextTable]:
    """The runs, and those that were skipped."""
    rows, done = [], finished(runs)
    settings, scores = _settings(done), _score_keys(done)
    for run in done:
        values = [_shown(run.scores[key]) if key in run.scores else UNSET for key in scores]
        steps = UNSET if run.steps is None else f"{run.steps:,}"
        seconds = UNSET if run.seconds is None else f"{run.seconds:,.0f}"
        rows.append((run.name, *(_setting(run, key) for key in settings), *values, run.best, steps, seconds))
    columns = ("run", *settings, *scores, "best on dev", "steps", "seconds")
    note = "Settings that are the same in all runs are left out. In brackets: 95% bootstrap interval over examples."
    skipped = [(run.name, run.reason) for run in runs if isinstance(run, SkippedRun)]
    return [
        TextTable("Runs", columns, rows, num_names=1 + len(settings), note=note, num_settings=len(settings)),
        TextTable("Left out", ("run", "why"), skipped, num_names=2),
    ]


def _is_training(path: Path) -> bool:
    """Whether a job was one of training; one whose config cannot be read may have been."""
    try:
        return bool(read_tree(path / HYDRA_CONFIG).get("action", "train") == "train")
    except InputError:
        return True


def _read_run(path: Path, name: str) -> FinishedRun | SkippedRun:
    if problems := list(foreign_folders.link_problems(path)):
        return SkippedRun(name, problems[0])
    if not (path / RESULTS).is_file():
        if (error := last_error(path)) is not None:
            return SkippedRun(name, f"it failed: {error}")
        return SkippedRun(name, f"it has no {RESULTS}: it is running, or was stopped (resume=true)")
    try:
        results = read_results(path)
        if results["pruned"]:
            return SkippedRun(name, f"it was pruned at step {results['steps']}")
        settings, metrics, sizes = settings_of(path), results["metrics"], results.get("data", ())
        split = "test" if metrics.get("test") else "eval"
        intervals = results["test_intervals"] if split == "test" else {}
        scores = _headlines(metrics[split], intervals, settings)
        return FinishedRun(
            name, settings, {key.replace("eval_", f"{split}_", 1): score for key, score in scores.items()},
            best=f"{_number(results['best']['value'])} {results['best']['metric']}",
            steps=int(results["steps"]), seconds=float(results["train_seconds"]),
            num_train={one["task"]: int(one["num_examples"]) for one in sizes if one["split"] == "train"},
        )  # fmt: skip
    except InputError as error:
        return SkippedRun(name, str(error))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return SkippedRun(name, f"{RESULTS} is damaged, or of an older version ({type(error).__name__}: {error})")


def _headlines(
    metrics: Mapping[str, Any], intervals: Mapping[str, Sequence[float]], settings: Mapping[str, str]
) -> dict[str, Score]:
    """Each head's headline, the first of its scores, on each test set; in the order of `metrics`."""
    heads = {tuple(key.split(".")[1:4:2]) for key in settings if re.match(r"tasks\.[^.]+\.heads\.", key)}
    found: dict[str, str] = {}
    for key, value in metrics.items():
        owners = [owner for head in heads if (owner := _owner(key, *head)) is not None]
        if owners and isinstance(value, int | float):
            found.setdefault(max(owners, key=len), key)
    keys = [key for key in metrics if key in {*found.values(), *intervals}]
    return {key: (float(metrics[key]), *map(float, intervals.get(key, ()))) for key in keys}


def _owner(key: str, task: str, head: str) -> str | None:
    """The part of a score's key that names task, test set and head, if it is one of this head's."""
    match = re.match(rf"eval_{re.escape(task)}(\.[A-Za-z0-9_-]+?)?_{re.escape(head)}_", key)
    return None if match is None else match[0]


def _settings(runs: Sequence[FinishedRun]) -> list[str]:
    """The columns of settings: those that differ, after the tasks."""
    are_tasks_different = len({task_names(run.settings) for run in runs}) > 1
    return [*(["tasks"] if are_tasks_different else []), *differing([run.settings for run in runs])]


def _setting(run: FinishedRun, key: str) -> str:
    return task_names(run.settings) if key == "tasks" else run.settings.get(key, UNSET)


def _score_keys(runs: Sequence[FinishedRun]) -> list[str]:
    return list(dict.fromkeys(key for run in runs for key in run.scores))


def _shown(score: Score) -> str:
    value, *ends = score
    interval = f" [{', '.join(_number(end) for end in ends)}]" if ends else ""
    return f"{_number(value)}{interval}"


def _number(value: float | None) -> str:
    return UNSET if value is None else f"{value:.4f}"


def _csv(runs: Sequence[FinishedRun]) -> bytes:
    """A row per run, the ends of intervals in columns of their own."""
    settings, scores = _settings(runs), _score_keys(runs)
    columns = [part for key in scores for part in (key, f"{key}_low", f"{key}_high")]
    rows = []
    for run in runs:
        values = [run.scores.get(key, ()) for key in scores]
        cells = ["" if index >= len(value) else repr(value[index]) for value in values for index in range(3)]
        rows.append([run.name, *(_setting(run, key) for key in settings), *cells, f"{run.steps}", f"{run.seconds}"])
    return csv_file(["run", *settings, *columns, "steps", "seconds"], rows)

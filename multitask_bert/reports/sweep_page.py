"""The report of a sweep, at any time of it: `report.html`, its plots as files, and `report.json`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna

from multitask_bert.reports.pages import Plot, TextTable, render
from multitask_bert.reports.sweep import Parameter, SweepReport, TrialReport, read_sweep
from multitask_bert.reports.sweep_plots import draw_plots, reading_of
from multitask_bert.utils.files import finite, write_bytes, write_json

PAGE, VALUES, PLOTS = "report.html", "report.json", "plots"
NUM_BEST = 20
UNITS = {
    "steps": "training steps", "permille": "thousandths of the trial's own training steps",
    "seeds": "the number of seeds trained",
}  # fmt: skip
ERROR_LENGTH = 300  # characters of an error's first line; report.json has all of it


def write_sweep_report(study: optuna.Study, folder: Path) -> SweepReport:
    """Write `report.html`, `report.json` and `plots/*.png` in `folder`, of what the study holds by now."""
    report = read_sweep(study)
    plots = draw_plots(study, report)
    (folder / PLOTS).mkdir(parents=True, exist_ok=True)
    for plot in plots:
        write_bytes(folder / PLOTS / f"{plot.name}.png", plot.png)
    write_bytes(folder / PAGE, page_of(report, plots))
    write_json(folder / VALUES, finite(asdict(report)))
    return report


def page_of(report: SweepReport, plots: Sequence[Plot]) -> bytes:
    """The page, with its plots in it."""
    return render(
        "sweep.html",
        title=f"Sweep {report.study}",
        facts=_facts(report),
        report=report,
        command=_command(report),
        best=_best(report) if report.best else None,
        nothing_yet=_nothing_yet(report),
        plots=plots,
        failed=_failed(report),
        space=_space(report),
        scores=_scores(report),
        all_trials=_all(report),
    )


def _facts(report: SweepReport) -> dict[str, str]:
    metrics = ", ".join(
        f"{metric} ({reading_of(direction)})"
        for metric, direction in zip(report.metrics, report.directions, strict=True)
    )
    best = report.best_trials[0] if report.best and len(report.metrics) == 1 else None
    per_trial = "one training per trial"
    if report.seeds > 1:
        per_trial = f"{report.seeds} trainings per trial, one per seed; a trial's value is their mean"
    return {
        "Best value": f"{_with_spread(best, 0)} (trial {best.number})" if best else "",
        "Best parameters": _params(best) if best else "",
        "Metric" if len(report.metrics) == 1 else "Metrics": metrics,
        "Trials": _trials_by_state(report),
        "Learned nothing": _collapsed(report),
        "Steps": f"{report.training_steps:,} training steps of the trials that ended" if report.training_steps else "",
        "Time": f"{_duration(report.elapsed_seconds)} from the first start to the last end, "
        f"{_duration(report.training_seconds)} of all trials together",
        "Seeds": per_trial,
        "Same in every trial": shlex.join(report.fixed_overrides) or "no overrides",
        "Configs": f"sha256 {report.conf_hash[:12]}" if report.conf_hash else "",
        "Written": report.written,
    }


def _trials_by_state(report: SweepReport) -> str:
    """`24 trials: 14 complete, 7 pruned, 2 failed, 1 running`."""
    total = sum(report.counts.values())
    if total == 0:
        return "No trial has started."
    counted = ", ".join(f"{count} {state}" for state, count in report.counts.items() if count)
    again = f"; {report.num_tried_again} more died and were retried" if report.num_tried_again else ""
    return f"{total} {'trial' if total == 1 else 'trials'}: {counted}{again}"


def _collapsed(report: SweepReport) -> str:
    """`3 trials with a head that learned nothing, 2 of them pruned: 4, 7, 9`; empty if there are none."""
    found = [trial for trial in report.trials if trial.collapsed]
    num_pruned = sum(trial.state == "pruned" for trial in found)
    if not found:
        return ""
    numbers = ", ".join(str(trial.number) for trial in found)
    noun = "trial" if len(found) == 1 else "trials"
    return f"{len(found)} {noun} with a head that learned nothing, {num_pruned} of them pruned: {numbers}"


def _nothing_yet(report: SweepReport) -> str:
    is_going_on = bool(report.in_state("running", "waiting")) or not report.trials
    return "No trial is complete yet." if is_going_on else "No trial is complete, so there is no best one."


def _command(report: SweepReport) -> str:
    """The command that trains the best trial again; empty with several metrics, or without a complete trial."""
    if not report.best or len(report.metrics) > 1 or not report.best_trials[0].overrides:
        return ""
    return shlex.join(["python", "run.py", *report.fixed_overrides, *report.best_trials[0].overrides])


def _scores(report: SweepReport) -> TextTable:
    """All scores of the best trial; no rows with several metrics, or without a complete trial."""
    if not report.best or len(report.metrics) > 1:
        return TextTable("Scores", (), [])
    best = report.best_trials[0]
    rows = [(name, _number(score)) for name, score in best.scores.items()]
    return TextTable(f"Scores of trial {best.number}", ("metric", "value"), rows, num_names=1)


def _best(report: SweepReport) -> TextTable:
    names = list(dict.fromkeys(name for trial in report.best_trials[:NUM_BEST] for name in trial.params))
    by_seed = [f"{metric} by seed" for metric in report.metrics if report.seeds > 1]
    rows = []
    for trial in report.best_trials[:NUM_BEST]:
        indices = range(len(report.metrics))
        scores = [_scores_by_seed(trial, index) for index in indices if report.seeds > 1]
        params = [_shown(trial.params[name]) if name in trial.params else "-" for name in names]
        values = [_with_spread(trial, index) for index in indices]
        rows.append((str(trial.number), trial.folder or "", *values, *scores, *params, _clock(trial.seconds or 0.0)))
    note = "Numbers are rounded; report.json has all digits. A dash: this trial has no such parameter."
    if report.seeds > 1:
        note = f"±: sample standard deviation over seeds. {note}"
    if len(report.best) > NUM_BEST:
        note = f"{len(report.best) - NUM_BEST} more are among all trials below. {note}"
    title = "Best trials" if len(report.metrics) == 1 else "Pareto front: trials that no other one dominates"
    return TextTable(title, ("trial", "folder", *report.metrics, *by_seed, *names, "time"), rows, note=note)


def _failed(report: SweepReport) -> TextTable:
    rows = [
        (str(trial.number), trial.folder or "", _first_line(trial.error or ""), _params(trial))
        for trial in report.in_state("failed")
    ]
    note = "The first line of each error; run.log in the trial's folder has the rest."
    return TextTable("Failed trials", ("trial", "folder", "error", "parameters"), rows, num_names=4, note=note)


def _first_line(error: str) -> str:
    line = next(iter(error.strip().splitlines()), "")
    return line if len(line) <= ERROR_LENGTH else f"{line[: ERROR_LENGTH - 1]}…"


def _space(report: SweepReport) -> TextTable:
    rows = [(parameter.name, parameter.type, _range(parameter)) for parameter in report.parameters]
    note = "" if rows else "The space is defined by a function, which no trial has called yet."
    return TextTable("Search space", ("parameter", "type", "values"), rows, num_names=3, note=note)


def _range(parameter: Parameter) -> str:
    if not parameter.is_numeric:
        return ", ".join(_shown(choice) for choice in parameter.choices)
    scale = ", on a logarithmic scale" if parameter.log else ""
    step = f", in steps of {_shown(parameter.step)}" if parameter.step not in (None, 1) else ""
    return f"{_shown(parameter.low)} to {_shown(parameter.high)}{scale}{step}"


def _all(report: SweepReport) -> TextTable:
    rows = []
    for trial in report.trials:
        values = [_with_spread(trial, index) if trial.values else "" for index in range(len(report.metrics))]
        last = ""
        if trial.reports:
            step = max(trial.reports)
            last = f"{_number(trial.reports[step])} at {step:,}"
        time = "" if trial.seconds is None else _clock(trial.seconds)
        state = f"{trial.state}; learned nothing: {', '.join(trial.collapsed)}" if trial.collapsed else trial.state
        rows.append((str(trial.number), state, trial.folder or "", _params(trial), *values, last, time))
    columns = ("trial", "state", "folder", "parameters", *report.metrics, "last intermediate value, at step", "time")
    return TextTable(
        "All trials", columns, rows, num_names=4, note=f"Steps of intermediate values: {UNITS[report.reports]}."
    )


def _params(trial: TrialReport) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in trial.params.items())


def _with_spread(trial: TrialReport, index: int) -> str:
    value = _number(trial.values[index])
    return f"{value}\u00a0±\u00a0{_deviation(trial.deviations[index])}" if trial.deviations else value


def _scores_by_seed(trial: TrialReport, index: int) -> str:
    return ", ".join(f"{seed}: {_number(scores[index])}" for seed, scores in trial.seed_scores.items())


def _number(value: float) -> str:
    """Four decimals; four digits for numbers that four decimals would hide."""
    return f"{value:.4f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.4g}"


def _deviation(value: float) -> str:
    return _number(value) if value >= 0.001 else f"{value:.4f}"


def _shown(value: Any) -> str:
    """The value of a parameter: `5.012e-05`, `true`, `null`, or the whole text."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `1 h 02 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _clock(seconds: float) -> str:
    """`0:03:20`, which a table can sort by."""
    return str(timedelta(seconds=round(seconds)))

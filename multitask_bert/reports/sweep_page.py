"""The report of a sweep as one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from multitask_bert.reports.page import document, escape, html_table
from multitask_bert.reports.sweep_axes import better
from multitask_bert.reports.sweep_figures import Parameter, SweepReport, TrialFigures
from multitask_bert.reports.sweep_plots import Plot
from multitask_bert.reports.tables import Rows

NUM_BEST = 20
UNITS = {
    "steps": "training steps", "permille": "thousandths of the trial's own training steps",
    "seeds": "the number of seeds trained",
}  # fmt: skip
ERROR_LENGTH = 300  # characters of an error's first line; all of it is in report.json
STYLE = """
dl { display: grid; grid-template-columns: max-content auto; gap: .2em 1.2em; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
dt { color: #5a6775; } td { vertical-align: top; font-variant-numeric: tabular-nums; }
td.name { white-space: normal; overflow-wrap: anywhere; min-width: 3rem; }
figure { max-width: 100%; margin-bottom: 1em; } figure h2 { margin-top: 1em; }
img { max-width: 100%; height: auto; display: block; background: white; border-radius: 4px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f1f4f7; padding: .7em 1em; border-radius: 4px; }
summary { margin-top: 1.5em; cursor: pointer; }
@media (prefers-color-scheme: dark) { pre { background: #1f2730; } dt { color: #93a1af; } }
"""


def page_of(report: SweepReport, plots: Sequence[Plot]) -> bytes:
    """The page, with its plots in it."""
    parts = [
        *_facts(report),
        *(f"<p><strong>Note:</strong> {escape(caveat)}</p>" for caveat in report.caveats),
        *(html_table(_best(report)) if report.best else _nothing_yet(report)),
        *_best_in_full(report),
        '<div class="plots">',
        *(_figure(plot) for plot in plots),
        "</div>",
    ]
    if report.best and not report.importances:
        parts.append(f'<p class="note">{escape(report.importances_note)}</p>')
    if report.in_state("failed"):
        parts += html_table(_failed(report))
    parts += html_table(_space(report))
    if report.trials:
        parts += ["<details><summary>All trials</summary>", *html_table(_all(report)), "</details>"]
    return document(f"Sweep {report.study}", parts, style=STYLE)


def _facts(report: SweepReport) -> Iterator[str]:
    metrics = ", ".join(
        f"{metric} ({better(direction)})" for metric, direction in zip(report.metrics, report.directions, strict=True)
    )
    per_trial = "one training per trial"
    if report.seeds > 1:
        per_trial = f"{report.seeds} trainings per trial, one per seed; a trial's value is their mean"
    facts = {
        "Metric" if len(report.metrics) == 1 else "Metrics": metrics,
        "Trials": _state_of(report),
        "Learnt nothing": _collapsed(report),
        "Seeds": per_trial,
        "Time": f"{_duration(report.elapsed_seconds)} from the first start to the last end, "
        f"{_duration(report.training_seconds)} of all trials together",
        "Same in every trial": shlex.join(report.fixed_overrides) or "nothing was overridden",
        "Configs": f"sha256 {report.conf_hash[:12]}" if report.conf_hash else "",
        "Written": report.written,
    }
    yield "<dl>"
    yield from (f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items() if fact)
    yield "</dl>"


def _state_of(report: SweepReport) -> str:
    """`24 trials: 14 complete, 7 pruned, 2 failed, 1 running`."""
    total = sum(report.counts.values())
    if total == 0:
        return "No trial has begun."
    counted = ", ".join(f"{count} {state}" for state, count in report.counts.items() if count)
    again = f"; {report.num_tried_again} more died and were tried again" if report.num_tried_again else ""
    return f"{total} {'trial' if total == 1 else 'trials'}: {counted}{again}"


def _collapsed(report: SweepReport) -> str:
    """`3 trials with a head that learnt nothing, 2 of them pruned: 4, 7, 9`; empty where there are none."""
    found = [trial for trial in report.trials if trial.collapsed]
    num_pruned = sum(trial.state == "pruned" for trial in found)
    if not found:
        return ""
    numbers = ", ".join(str(trial.number) for trial in found)
    noun = "trial" if len(found) == 1 else "trials"
    return f"{len(found)} {noun} with a head that learnt nothing, {num_pruned} of them pruned: {numbers}"


def _nothing_yet(report: SweepReport) -> Iterator[str]:
    is_going_on = bool(report.in_state("running", "waiting")) or not report.trials
    text = "No trial is complete yet." if is_going_on else "No trial is complete, so there is no best one."
    yield f"<h2>Best trials</h2><p>{text}</p>"


def _best(report: SweepReport) -> Rows:
    names = list(dict.fromkeys(name for trial in report.best_trials[:NUM_BEST] for name in trial.params))
    by_seed = [f"{metric} by seed" for metric in report.metrics if report.seeds > 1]
    rows = []
    for trial in report.best_trials[:NUM_BEST]:
        places = range(len(report.metrics))
        scores = [_scores_by_seed(trial, place) for place in places if report.seeds > 1]
        params = [_shown(trial.params[name]) if name in trial.params else "-" for name in names]
        rows.append((str(trial.number), trial.folder or "", *(_with_spread(trial, i) for i in places), *scores, *params,
                     _duration(trial.seconds or 0.0)))  # fmt: skip
    note = "Numbers are rounded; report.json has them whole. A dash: this trial has no such parameter."
    if report.seeds > 1:
        note = f"±: sample standard deviation over seeds. {note}"
    if len(report.best) > NUM_BEST:
        note = f"{len(report.best) - NUM_BEST} more are among all trials below. {note}"
    title = "Best trials" if len(report.metrics) == 1 else "Trials that no other one beats (Pareto front)"
    return Rows(title, ("trial", "folder", *report.metrics, *by_seed, *names, "time"), rows, note=note)


def _best_in_full(report: SweepReport) -> Iterator[str]:
    """Of one metric: what to type for the best trial again, and its scores."""
    if not report.best or len(report.metrics) > 1:
        return
    best = report.best_trials[0]
    if best.overrides:
        command = shlex.join(["python", "run.py", *report.fixed_overrides, *best.overrides])
        yield f"<h3>To train trial {best.number} again</h3><pre>{escape(command)}</pre>"
    if best.scores:
        rows = [(name, _number(score)) for name, score in best.scores.items()]
        yield f"<details><summary>All scores of trial {best.number}</summary>"
        yield from html_table(Rows(f"Scores of trial {best.number}", ("metric", "value"), rows, num_names=1))
        yield "</details>"


def _figure(plot: Plot) -> str:
    image = f"data:image/png;base64,{base64.b64encode(plot.png).decode()}"
    title, caption = escape(plot.title), escape(plot.caption)
    return (
        f'<figure style="width: {plot.width}px"><h2>{title}</h2>'
        f'<img width="{plot.width}" alt="{title}" src="{image}"><figcaption>{caption}</figcaption></figure>'
    )


def _failed(report: SweepReport) -> Rows:
    rows = [
        (str(trial.number), trial.folder or "", _first_line(trial.error or ""), _params(trial))
        for trial in report.in_state("failed")
    ]
    note = "The first line of each error; run.log in the trial's folder has the rest."
    return Rows("Failed trials", ("trial", "folder", "error", "parameters"), rows, num_names=4, note=note)


def _first_line(error: str) -> str:
    line = next(iter(error.strip().splitlines()), "")
    return line if len(line) <= ERROR_LENGTH else f"{line[: ERROR_LENGTH - 1]}…"


def _space(report: SweepReport) -> Rows:
    rows = [(parameter.name, parameter.type, _range(parameter)) for parameter in report.parameters]
    note = "" if rows else "The space is defined by a function, and no trial has asked it yet."
    return Rows("Search space", ("parameter", "type", "values"), rows, num_names=3, note=note)


def _range(parameter: Parameter) -> str:
    if not parameter.is_numeric:
        return ", ".join(_shown(choice) for choice in parameter.choices)
    scale = ", on a logarithmic scale" if parameter.log else ""
    step = f", in steps of {_shown(parameter.step)}" if parameter.step not in (None, 1) else ""
    return f"{_shown(parameter.low)} to {_shown(parameter.high)}{scale}{step}"


def _all(report: SweepReport) -> Rows:
    rows = []
    for trial in report.trials:
        values = [_with_spread(trial, place) if trial.values else "" for place in range(len(report.metrics))]
        last = ""
        if trial.reports:
            step = max(trial.reports)
            last = f"{_number(trial.reports[step])} at {step:,}"
        time = "" if trial.seconds is None else _duration(trial.seconds)
        state = f"{trial.state}; learnt nothing: {', '.join(trial.collapsed)}" if trial.collapsed else trial.state
        rows.append((str(trial.number), state, trial.folder or "", _params(trial), *values, last, time))
    columns = ("trial", "state", "folder", "parameters", *report.metrics, "last report, at step", "time")
    return Rows("All trials", columns, rows, num_names=4, note=f"Steps of the last report: {UNITS[report.reports]}.")


def _params(trial: TrialFigures) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in trial.params.items())


def _with_spread(trial: TrialFigures, place: int) -> str:
    value = _number(trial.values[place])
    return f"{value}\u00a0±\u00a0{_deviation(trial.deviations[place])}" if trial.deviations else value


def _scores_by_seed(trial: TrialFigures, place: int) -> str:
    return ", ".join(f"{seed}: {_number(scores[place])}" for seed, scores in trial.seed_scores.items())


def _number(value: float) -> str:
    """Four decimals; four digits where that would hide it."""
    return f"{value:.4f}" if value == 0 or 0.001 <= abs(value) < 1000 else f"{value:.4g}"


def _deviation(value: float) -> str:
    return _number(value) if value >= 0.001 else f"{value:.4f}"


def _shown(value: Any) -> str:
    """A parameter's value: `5.012e-05`, `true`, `null`, and text whole."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `1 h 02 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

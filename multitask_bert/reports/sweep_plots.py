"""The plots of a sweep as PNG, each with a caption that says what its axes and marks are.

Drawn on matplotlib's Figure objects, without pyplot: no global state, so any thread may draw.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from multitask_bert.reports.sweep_axes import (
    BEST,
    BLUE,
    GREY,
    RED,
    RUNNING,
    ValueAxis,
    better,
    blank,
    drawable,
    panel,
)  # fmt: skip
from multitask_bert.reports.sweep_figures import SweepReport, TrialFigures
from multitask_bert.reports.sweep_slices import contour, slices
from multitask_bert.reports.tables import percent

PIXELS_PER_INCH, SHARPNESS = 100, 2  # of the page; image pixels per pixel of the page
NUM_PAIRS = 6  # of metrics, drawn against each other
ROOM_FOR_NUMBER = 0.05  # of the plot's width and height


@dataclass(frozen=True)
class Plot:
    """One image; `name`: of its file, without .png."""

    name: str
    title: str
    caption: str
    width: int  # in pixels of the page; the image has twice as many
    png: bytes


def draw_plots(report: SweepReport) -> list[Plot]:
    """Those for which the study has data: none while nothing was reported."""
    drawn = _several_metrics(report) if len(report.metrics) > 1 else _one_metric(report)
    return [_plot(*parts) for parts in drawn]


def _plot(name: str, title: str, caption: str, figure: Figure) -> Plot:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=PIXELS_PER_INCH * SHARPNESS)
    return Plot(name, title, caption, round(figure.get_figwidth() * PIXELS_PER_INCH), file.getvalue())


def _one_metric(report: SweepReport) -> Iterator[tuple[str, str, str, Figure]]:
    metric = report.metrics[0]
    if any(trial.reports for trial in report.trials) or report.best:
        yield "history", "History", _history_caption(report), _history(report)
    if any(trial.reports for trial in report.trials):
        yield "curves", "Learning curves", _curves_caption(report), _curves(report)
    if report.importances:
        shares = ", ".join(f"{name} {percent(share)}" for name, share in report.importances.items())
        caption = (
            f"How much of the variation of {metric} each parameter explains by itself (fANOVA over "
            f"{len(report.best)} complete trials; shares of what they explain together; a trial far worse than the "
            f"others counts as the worst of those): {shares}. {report.importances_note}"
        )
        yield "importances", "Importance of the parameters", caption, _importances(report)
    yield from contour(report)
    yield from slices(report)


def _several_metrics(report: SweepReport) -> Iterator[tuple[str, str, str, Figure]]:
    if report.best:
        caption = (
            "Each dot is a complete trial. Orange, numbered where there is room: no other trial is better in one "
            "metric without being worse in another."
        )
        yield "front", "Metrics against each other", caption, _fronts(report)
    yield from slices(report)


def _history(report: SweepReport) -> Figure:
    figure = blank(10.6, 3.6)
    axes = panel(figure)
    complete = report.in_state("complete")
    unfinished = [trial for trial in report.in_state("pruned", "running") if trial.reports]
    lasts = [trial.reports[max(trial.reports)] for trial in unfinished]
    axis = ValueAxis.of([*(trial.values[0] for trial in complete), *lasts], report.directions[0])
    for trial in complete:
        if trial.deviations:
            axes.errorbar(trial.number, axis.clip(trial.values[0]), trial.deviations[0], ecolor=BLUE, alpha=0.4)
    axis.points(axes, [trial.number for trial in complete], [trial.values[0] for trial in complete], BLUE)
    for trial, last in zip(unfinished, lasts, strict=True):
        mark, color = ("x", GREY) if trial.state == "pruned" else ("o", RUNNING)
        axes.plot(trial.number, axis.clip(last), mark, color=color, markerfacecolor="none", markersize=6)
    for trial in report.in_state("failed"):
        axes.plot(trial.number, 0.02, "|", color=RED, markersize=10, transform=axes.get_xaxis_transform())
    numbers = [number for number, value in report.best_so_far.items() if np.isfinite(value)]
    bests = [axis.clip(report.best_so_far[number]) for number in numbers]
    last_number = max(trial.number for trial in report.trials)
    if numbers:
        axes.step([*numbers, last_number], [*bests, bests[-1]], where="post", color=BEST, linewidth=1.5, zorder=1)
    handles = [
        Line2D([], [], color=BLUE, marker="o", linestyle="", label="complete"),
        Line2D([], [], color=BEST, label="best so far"),
        Line2D([], [], color=GREY, marker="x", linestyle="", label="pruned, at its last report"),
        Line2D([], [], color=RUNNING, marker="o", markerfacecolor="none", linestyle="", label="running, last report"),
        Line2D([], [], color=RED, marker="|", markersize=10, linestyle="", label="failed"),
    ]
    is_shown = [complete, complete, report.in_state("pruned"), report.in_state("running"), report.in_state("failed")]
    _legend(axes, [handle for handle, trials in zip(handles, is_shown, strict=True) if trials])
    axes.set_xlim(-0.5, last_number + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial number")
    axis.label(axes, report.metrics[0])
    return figure


def _history_caption(report: SweepReport) -> str:
    spread = " Bars: ± one standard deviation over its seeds." if any(t.deviations for t in report.trials) else ""
    return (
        f"{report.metrics[0]} of each trial in the order of their start ({better(report.directions[0])}).{spread} "
        f"A pruned trial stands at the last score that it reported."
    )


UNITS = {
    "steps": "training step (optimizer updates)", "permille": "thousandths of the trial's own training steps",
    "seeds": "number of seeds trained",
}  # fmt: skip


def _curves(report: SweepReport) -> Figure:
    figure = blank(10.6, 3.6)
    axes = panel(figure)
    reported = [trial for trial in report.trials if trial.reports]
    axis = ValueAxis.of([value for trial in reported for value in trial.reports.values()], report.directions[0])
    best = report.best[:1]
    for trial in sorted(reported, key=lambda trial: (trial.number in best, trial.state == "complete")):
        color, style, width = _line_of(trial, best)
        steps = list(trial.reports)
        values = [axis.clip(value) for value in trial.reports.values()]
        marker = "." if len(steps) == 1 else ""
        axes.plot(steps, values, color=color, linestyle=style, linewidth=width, marker=marker, alpha=0.8)
        if trial.state == "pruned":
            axes.plot(steps[-1], values[-1], "x", color=color, markersize=5)
    handles = {
        "complete": Line2D([], [], color=BLUE, label="complete"),
        "pruned": Line2D([], [], color=GREY, marker="x", label="pruned"),
        "running": Line2D([], [], color=RUNNING, linestyle="--", label="running"),
        "failed": Line2D([], [], color=RED, linestyle=":", label="failed"),
    }
    shown = [handle for state, handle in handles.items() if any(trial.state == state for trial in reported)]
    if any(trial.number in best for trial in reported):
        shown.insert(0, Line2D([], [], color=BEST, linewidth=2.5, label=f"best (trial {best[0]})"))
    _legend(axes, shown)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(UNITS[report.reports])
    axis.label(axes, report.metrics[0])
    return figure


def _curves_caption(report: SweepReport) -> str:
    when = "at each evaluation of each trial"
    if report.seeds > 1:
        when = f"as reported to the pruner after the training of each of the {report.seeds} seeds"
    return f"{report.metrics[0]} {when}; pruned trials in grey, with a cross where they stopped."


def _line_of(trial: TrialFigures, best: list[int]) -> tuple[str, str, float]:
    if trial.number in best:
        return BEST, "-", 2.5
    return {"pruned": (GREY, "-", 1.0), "running": (RUNNING, "--", 1.2), "failed": (RED, ":", 1.2)}.get(
        trial.state, (BLUE, "-", 1.2)
    )


def _importances(report: SweepReport) -> Figure:
    names = list(report.importances)
    figure = blank(5.2, 1.0 + 0.32 * len(names))
    axes = panel(figure)
    shares = [100 * report.importances[name] for name in names]
    bars = axes.barh(range(len(names)), shares, color=BLUE, height=0.6)
    axes.bar_label(bars, [f"{share:.0f}%" for share in shares], padding=3)
    axes.set_yticks(range(len(names)), [drawable(name) for name in names])
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("share of the explained variation, in %")
    return figure


def _fronts(report: SweepReport) -> Figure:
    pairs = list(combinations(range(len(report.metrics)), 2))[:NUM_PAIRS]
    columns = min(len(pairs), 2)
    rows = -(-len(pairs) // columns)
    figure = blank(5.3 * columns, 4.0 * rows)
    for place, (across, up) in enumerate(pairs, start=1):
        axes = panel(figure, rows, columns, place)
        _front(axes, report, across, up)
    return figure


def _front(axes: Axes, report: SweepReport, across: int, up: int) -> None:
    others = [trial.values for trial in report.in_state("complete") if trial.number not in report.best]
    axes.plot([own[across] for own in others], [own[up] for own in others], "o", color=BLUE, alpha=0.6, markersize=5)
    front = sorted((trial.values[across], trial.values[up], trial.number) for trial in report.best_trials)
    linestyle = "-" if len(report.metrics) == 2 else ""  # of more than two metrics, a front is no line
    axes.plot([x for x, _, _ in front], [y for _, y, _ in front], "o", color=BEST, linestyle=linestyle, linewidth=1)
    _number(axes, front)
    axes.set_xlabel(f"{drawable(report.metrics[across])} ({better(report.directions[across])})")
    axes.set_ylabel(f"{drawable(report.metrics[up])}\n({better(report.directions[up])})")


def _number(axes: Axes, points: list[tuple[float, float, int]]) -> None:
    """Write the numbers of the trials where they do not hide each other."""
    numbered: list[NDArray[np.float64]] = []
    axes.autoscale_view()  # else the limits are not known before the figure is drawn
    for x, y, number in points:
        place = axes.transLimits.transform((x, y))
        if all(abs(place - other).max() > ROOM_FOR_NUMBER for other in numbered):
            numbered.append(place)
            axes.annotate(str(number), (x, y), xytext=(0, 5), textcoords="offset points", ha="center", fontsize=8)


def _legend(axes: Axes, handles: list[Line2D]) -> None:
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=5, frameon=False, borderaxespad=0.2)

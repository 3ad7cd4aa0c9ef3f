"""A sweep's values over its search space: a slice per parameter, and a contour of two of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import LinearTriInterpolator, Triangulation
from numpy.typing import NDArray

from multitask_bert.reports.sweep_axes import BEST, BLUE, ValueAxis, better, blank, drawable, panel
from multitask_bert.reports.sweep_figures import Parameter, SweepReport, TrialFigures

Drawn = tuple[str, str, str, Figure]  # name, title, caption, figure
Floats = NDArray[np.float64]
CONTOUR = ("scheduler.warmup_ratio", "optimizer.lr")  # across and up, where both were searched
NUM_LOG_TICKS = 4
NUM_PANELS, NUM_CHOICES = 24, 12  # slices of one metric, choices of one slice
NUM_FOR_SURFACE, NUM_CELLS, NUM_LEVELS = 10, 80, 9  # points; cells of the grid per side; shades


def slices(report: SweepReport) -> Iterator[Drawn]:
    """Two figures per metric, numbers and choices, with a panel per parameter: the more important first."""
    by_importance = sorted(report.parameters, key=lambda parameter: -report.importances.get(parameter.name, 0.0))
    known = [parameter for parameter in by_importance if _complete_with(report, parameter)]
    ring = "the best trial" if len(report.metrics) == 1 else "a trial that no other one beats"
    for place, metric in enumerate(report.metrics):
        what = f"{metric} ({better(report.directions[place])}) of each complete trial by"
        number = "" if place == 0 else f"_{place + 1}"
        numbers = [parameter for parameter in known if parameter.is_numeric]
        if numbers:
            caption = (
                f"{what} the value of one parameter, whatever the others were. Orange ring: {ring}.{_more(numbers)}"
            )
            yield f"slices{number}", f"{metric} by parameter", caption, _slices(report, numbers[:NUM_PANELS], place)
        choices = [parameter for parameter in known if not parameter.is_numeric]
        if choices:
            caption = f"{what} one choice, a dot each. Orange ring: {ring}; black line: median.{_more(choices)}"
            yield f"choices{number}", f"{metric} by choice", caption, _choices(report, choices[:NUM_PANELS], place)


def _more(parameters: Sequence[Parameter]) -> str:
    more = len(parameters) - NUM_PANELS
    return f" {more} more parameters are in report.json." if more > 0 else ""


def contour(report: SweepReport) -> Iterator[Drawn]:
    """Of learning rate by warmup, else of the two most important parameters that are numbers; of neither: nothing."""
    pair = _pair(report)
    if pair is None:
        return
    across, up = pair
    trials = [trial for trial in _complete_with(report, across) if up.name in trial.params]
    axis = ValueAxis.of([trial.values[0] for trial in trials], report.directions[0])
    points = np.array([[trial.params[across.name], trial.params[up.name]] for trial in trials], dtype=float)
    values = np.array([axis.clip(trial.values[0]) for trial in trials])
    surface = _surface(_straight(points, across, up), values)
    figure = blank(5.2, 4.0)
    axes = panel(figure)
    axes.grid(visible=False)
    low, high = float(values.min()), float(values.max())
    colors, norm = "viridis" if axis.is_highest_best else "viridis_r", Normalize(low, high)
    if surface is not None and high > low:
        xs, ys, heights = surface
        x = 10**xs if across.log else xs
        y = 10**ys if up.log else ys
        axes.contourf(x, y, heights, np.linspace(low, high, NUM_LEVELS + 1), alpha=0.75, cmap=colors, norm=norm)
    dots = axes.scatter(
        points[:, 0], points[:, 1], c=values, s=34, edgecolors="white", linewidths=0.8, cmap=colors, norm=norm
    )
    best = report.best_trials[0]
    if {across.name, up.name} <= best.params.keys():
        _ring(axes, best.params[across.name], best.params[up.name])
    _scale(axes, "x", across)
    _scale(axes, "y", up)
    figure.colorbar(dots, ax=axes, label=f"{drawable(report.metrics[0])} ({better(report.directions[0])})")
    between = "Shades between them are interpolated from the nearest trials." if surface is not None else ""
    caption = (
        f"Each dot is a complete trial, its colour {report.metrics[0]}: the brighter, the better. Orange ring: the "
        f"best trial. {between}"
    )
    yield "contour", f"{up.name} by {across.name}", caption, figure


def _slices(report: SweepReport, parameters: Sequence[Parameter], place: int) -> Figure:
    rows = -(-len(parameters) // 3)
    figure = blank(10.6, 2.9 * rows)
    axis = _axis(report, place)
    for number, parameter in enumerate(parameters, start=1):
        axes = panel(figure, rows, 3, number)
        trials = _finite(_complete_with(report, parameter), place)
        places = [trial.params[parameter.name] for trial in trials]
        axis.points(axes, places, [trial.values[place] for trial in trials], BLUE)
        for trial in trials:
            if trial.number in _ringed(report):
                _ring(axes, trial.params[parameter.name], axis.clip(trial.values[place]))
        _scale(axes, "x", parameter)
        axis.label(axes, report.metrics[place])
    return figure


def _choices(report: SweepReport, parameters: Sequence[Parameter], place: int) -> Figure:
    rows = -(-len(parameters) // 2)
    most = min(NUM_CHOICES, max(len(parameter.choices) for parameter in parameters))
    figure = blank(10.6, (1.4 + 0.32 * most) * rows)
    axis = _axis(report, place)
    for number, parameter in enumerate(parameters, start=1):
        axes = panel(figure, rows, 2, number)
        trials = _finite(_complete_with(report, parameter), place)
        heights = _strips(axes, axis, parameter, trials, place)
        for trial in trials:
            if trial.number in _ringed(report) and trial.number in heights:
                _ring(axes, axis.clip(trial.values[place]), heights[trial.number])
        axis.label_across(axes, report.metrics[place])
    return figure


def _axis(report: SweepReport, place: int) -> ValueAxis:
    return ValueAxis.of([trial.values[place] for trial in report.in_state("complete")], report.directions[place])


def _strips(
    axes: Axes, axis: ValueAxis, parameter: Parameter, trials: Sequence[TrialFigures], metric: int
) -> dict[int, float]:
    """A line of dots per choice, the first on top; -> height of each trial that is shown, by number."""
    heights: dict[int, float] = {}
    choices = parameter.choices[:NUM_CHOICES]
    for place, choice in enumerate(choices):
        chosen = [trial for trial in trials if _is(trial, parameter, choice)]
        values = [trial.values[metric] for trial in chosen]
        own = {trial.number: place + 0.12 * (trial.number % 5 - 2) for trial in chosen}  # apart, to be seen
        axis.points(axes, list(own.values()), values, BLUE, is_across=True)
        if chosen:
            median = axis.clip(statistics.median(values))
            axes.plot([median, median], [place - 0.36, place + 0.36], color="#1c2733", linewidth=1.5)
        heights |= own
    axes.set_yticks(range(len(choices)), [drawable(choice) for choice in choices])
    axes.set_ylim(len(choices) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    more = len(parameter.choices) - NUM_CHOICES
    axes.set_title(f"{drawable(parameter.name)}{f' (and {more} more)' if more > 0 else ''}", fontsize=10)
    return heights


def _is(trial: TrialFigures, parameter: Parameter, choice: Any) -> bool:
    """1, 1.0 and True are three choices."""
    value = trial.params[parameter.name]
    return type(value) is type(choice) and bool(value == choice)


def _complete_with(report: SweepReport, parameter: Parameter) -> list[TrialFigures]:
    return [trial for trial in _finite(report.in_state("complete"), 0) if parameter.name in trial.params]


def _finite(trials: Sequence[TrialFigures], place: int) -> list[TrialFigures]:
    return [trial for trial in trials if math.isfinite(trial.values[place])]


def _ringed(report: SweepReport) -> list[int]:
    return report.best if len(report.metrics) > 1 else report.best[:1]


def _pair(report: SweepReport) -> tuple[Parameter, Parameter] | None:
    varied = {
        parameter.name: parameter
        for parameter in report.parameters
        if parameter.is_numeric
        and len({trial.params[parameter.name] for trial in _complete_with(report, parameter)}) > 1
    }
    names = sorted(varied, key=lambda name: -report.importances.get(name, 0.0))
    if set(CONTOUR) <= varied.keys():
        names = list(CONTOUR)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            if any(second in trial.params for trial in _complete_with(report, varied[first])):
                return varied[first], varied[second]
    return None


def _straight(points: Floats, across: Parameter, up: Parameter) -> Floats:
    """As far apart as they look: logarithms where an axis is logarithmic."""
    columns = [
        np.log10(points[:, 0]) if across.log else points[:, 0],
        np.log10(points[:, 1]) if up.log else points[:, 1],
    ]
    return np.stack(columns, axis=1)


def _surface(points: Floats, values: Floats) -> tuple[Floats, Floats, Any] | None:
    """Values between the points, on a grid: x, y, masked heights; None where there are too few, or all on a line."""
    places, owners = np.unique(points, axis=0, return_inverse=True)
    if len(places) < NUM_FOR_SURFACE:
        return None
    means = np.bincount(owners.ravel(), values) / np.bincount(owners.ravel())
    low, high = places.min(axis=0), places.max(axis=0)
    unit = (places - low) / (high - low)  # else triangles would be slivers along the wider axis
    try:
        triangles = Triangulation(unit[:, 0], unit[:, 1])
    except RuntimeError:  # all on a line
        return None
    grid = np.linspace(0.0, 1.0, NUM_CELLS)
    heights = LinearTriInterpolator(triangles, means)(*np.meshgrid(grid, grid))
    return low[0] + grid * (high - low)[0], low[1] + grid * (high - low)[1], heights


def _ring(axes: Axes, x: float, y: float) -> None:
    axes.plot(x, y, "o", markersize=11, markerfacecolor="none", markeredgecolor=BEST, markeredgewidth=2)


def _scale(axes: Axes, side: str, parameter: Parameter) -> None:
    """Label, ticks and the whole range that was searched, or more where a function went beyond it; `side`: x or y."""
    assert parameter.low is not None
    assert parameter.high is not None
    seen = axes.dataLim.intervalx if side == "x" else axes.dataLim.intervaly
    low, high = min(parameter.low, seen[0]), max(parameter.high, seen[1])
    axes.set(**{f"{side}label": drawable(parameter.name)})
    if parameter.log:
        room = (high / low) ** 0.04 if high > low else 2.0
        ticks = _log_ticks(low, high)
        axes.set(**{f"{side}scale": "log", f"{side}lim": (low / room, high * room)})
        axes.set(**{f"{side}ticks": ticks, f"{side}ticklabels": [f"{tick:g}" for tick in ticks]})
        (axes.xaxis if side == "x" else axes.yaxis).minorticks_off()
    else:
        room = 0.04 * (high - low) if high > low else 1.0
        axes.set(**{f"{side}lim": (low - room, high + room)})
        (axes.xaxis if side == "x" else axes.yaxis).set_major_locator(
            MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=parameter.type == "int")
        )


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers, as many as have room; the ends where there is none between them."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        ticks = [float(f"{digit}e{decade}") for decade in decades for digit in digits]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) <= NUM_LOG_TICKS:
            break
    return inside[:: -(-len(inside) // NUM_LOG_TICKS)] if len(inside) > 1 else [low, high]

"""The plots of a sweep: those of `optuna.visualization.matplotlib`, as PNG with captions."""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import combinations
from typing import Any

import matplotlib.pyplot as plt
import optuna
from matplotlib.axes import Axes
from matplotlib.category import StrCategoryFormatter
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from optuna.importance import BaseImportanceEvaluator
from optuna.trial import FrozenTrial
from optuna.visualization import matplotlib as optuna_plots

from multitask_bert.reports.pages import Plot, percent, png_of
from multitask_bert.reports.sweep import SweepReport
from multitask_bert.reports.sweep_copy import drawable_copy, finite_trials, label_of, labels_of, value_range

log = logging.getLogger(__name__)

WIDE, SMALL = (10.6, 3.6), (5.2, 4.0)  # inches
SLICES_PER_ROW, MAX_PARAMETERS = 3, 24
NUM_FOR_CONTOUR = 10  # complete trials with both parameters
CONTOUR = ("optimizer.lr", "scheduler.warmup_ratio")  # preferred where both were searched
MAX_PAIRS = 6  # of metrics, drawn against each other
COLORS = {"best": "#e08b1a", "complete": "#3b7cb8", "pruned": "#9aa5b1", "running": "#2e8b57", "failed": "#c8553d"}
UNITS = {
    "steps": "training step", "permille": "thousandths of the trial's own training steps",
    "seeds": "number of seeds trained",
}  # fmt: skip


def draw_plots(study: optuna.Study, report: SweepReport) -> list[Plot]:
    """All plots that the study has data for. A plot that cannot be drawn is left out, and a warning is logged."""
    plots: list[Plot] = []
    copy = drawable_copy(study, report)
    one_metric = (_history, _curves, _importances, _contour, _parallel_coordinate, _slices, _timeline)
    for draw in one_metric if len(report.metrics) == 1 else (_fronts, _slices, _timeline):
        with _off_screen():
            try:
                plots += draw(copy, report)
            except Exception as error:  # Optuna calls these plots experimental
                name = draw.__name__.strip("_")
                log.warning("the plots of %s could not be drawn (%s)", name, error, exc_info=True)
    return plots


def reading_of(direction: str) -> str:
    """Which values of a metric are better."""
    return "higher is better" if direction == "maximize" else "lower is better"


def contour_parameters(report: SweepReport) -> tuple[str, str] | None:
    """Two numeric parameters with different values in enough complete trials: `CONTOUR`, else the most important."""
    names = [parameter.name for parameter in report.parameters if parameter.is_numeric]
    names.sort(key=lambda name: (name not in CONTOUR, -report.importances.get(name, 0.0)))
    for first, second in combinations(names, 2):
        trials = [trial for trial in finite_trials(report) if {first, second} <= trial.params.keys()]
        num_values = min(len({trial.params[name] for trial in trials}) for name in (first, second))
        if len(trials) >= NUM_FOR_CONTOUR and num_values > 1:
            return first, second
    return None


@contextmanager
def _off_screen() -> Iterator[None]:
    """Draw without a display; close the figures, restore pyplot's backend and style on exit, which Optuna changes."""
    backend, figures = plt.get_backend(), set(plt.get_fignums())
    plt.switch_backend("agg")
    try:
        with plt.style.context("default"), warnings.catch_warnings():
            plt.rcParams["text.parse_math"] = False  # names may have dollar signs
            warnings.simplefilter("ignore")  # of experimental functions, and of letters that the font lacks
            yield
    finally:
        for number in set(plt.get_fignums()) - figures:
            plt.close(number)
        with suppress(ImportError):  # a backend that needs a display, where there is none
            plt.switch_backend(backend)


def _history(study: optuna.Study, report: SweepReport) -> Iterator[Plot]:
    complete = finite_trials(report)
    if not complete:
        return
    axes = optuna_plots.plot_optimization_history(study, target_name=_target_name(report, 0))
    low, high = value_range(report, 0)
    for trial in complete:  # Optuna knows no seeds
        if trial.deviations and low <= trial.values[0] <= high:
            axes.errorbar(trial.number, trial.values[0], trial.deviations[0], ecolor=COLORS["complete"], alpha=0.4)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    bars = " Bars: ± one sample standard deviation over its seeds." if any(t.deviations for t in complete) else ""
    caption = f"{report.metrics[0]} of each complete trial, and the best so far.{bars}{_outliers(report, 0)}"
    yield _plot("history", "History", caption, axes, WIDE)


def _curves(study: optuna.Study, report: SweepReport) -> Iterator[Plot]:
    """Lines are coloured by the state of their trial; Optuna gives each its own colour and a line of the legend."""
    if not any(math.isfinite(value) for trial in report.trials for value in trial.reports.values()):
        return
    axes = optuna_plots.plot_intermediate_values(study)
    states = {trial.number: trial.state for trial in report.trials} | dict.fromkeys(report.best[:1], "best")
    lines = {line: states.get(int(re.sub(r"\D", "", str(line.get_label()))), "failed") for line in axes.get_lines()}
    for line, state in lines.items():
        line.set(color=COLORS[state], linewidth=2.5 if state == "best" else 1, zorder=3 if state == "best" else 2)
    shown = [state for state in COLORS if state in lines.values()]
    names = {"best": f"best (trial {report.best[0]})"} if report.best else {}
    axes.legend(handles=[Line2D([], [], color=COLORS[state], label=names.get(state, state)) for state in shown])
    axes.set(xlabel=UNITS[report.reports], ylabel=_target_name(report, 0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    when = "at each evaluation"
    if report.seeds > 1:
        when = f"as reported to the pruner after the training of each of the {report.seeds} seeds"
    yield _plot("curves", "Intermediate values", f"{report.metrics[0]} of each trial {when}.", axes, WIDE)


class _KnownImportances(BaseImportanceEvaluator):
    """Lets Optuna draw the importances that the report has."""

    def __init__(self, importances: Mapping[str, float]) -> None:
        self.importances = importances

    def evaluate(self, study: optuna.Study, params: list[str] | None = None, **options: Any) -> dict[str, float]:
        return dict(self.importances)


def _importances(study: optuna.Study, report: SweepReport) -> Iterator[Plot]:
    if not report.importances:
        return
    labels = labels_of(report)
    known = {labels[name]: importance for name, importance in report.importances.items()}
    axes = optuna_plots.plot_param_importances(study, evaluator=_KnownImportances(known), params=list(known))
    axes.legend().remove()  # it names the metric, as the caption does
    axes.set(xlabel="importance", ylabel="")
    listed = ", ".join(f"{name} {percent(importance)}" for name, importance in report.importances.items())
    caption = (
        f"How much of the variation of {report.metrics[0]} each parameter explains by itself (fANOVA over "
        f"{len(report.best)} complete trials; the importances add up to 100%; a trial far worse than the others counts "
        f"as the worst of those): {listed}. {report.importances_note}"
    )
    yield _plot("importances", "Importance of the parameters", caption, axes, (SMALL[0], 1 + 0.4 * len(known)))


def _contour(study: optuna.Study, report: SweepReport) -> Iterator[Plot]:
    if (pair := contour_parameters(report)) is None:
        return
    labels = labels_of(report)
    names = [labels[name] for name in pair]
    axes = optuna_plots.plot_contour(study, params=names, target_name=_target_name(report, 0))
    caption = "Each dot is a complete trial. Between the dots, and beyond them, the colours are estimates."
    yield _plot("contour", f"{pair[1]} by {pair[0]}", caption, axes, SMALL)


def _parallel_coordinate(study: optuna.Study, report: SweepReport) -> Iterator[Plot]:
    """Drawn for three parameters or more; with two, the contour says it better."""
    labels, complete = labels_of(report), finite_trials(report)
    varied = [name for name in labels if len({repr(trial.params.get(name)) for trial in complete}) > 1]
    if len(varied) < 3:
        return
    names = [labels[name] for name in varied[:MAX_PARAMETERS]]
    axes = optuna_plots.plot_parallel_coordinate(study, params=names, target_name=_target_name(report, 0))
    caption = "A line per complete trial through its value and its parameters: the darker, the better."
    yield _plot("parallel", "All parameters", caption, axes, WIDE)


def _slices(study: optuna.Study, report: SweepReport) -> Iterator[Plot]:
    """A panel per metric and parameter, the most important parameters first."""
    labels, complete = labels_of(report), finite_trials(report)
    known = [name for name in labels if any(name in trial.params for trial in complete)]
    shown = sorted(known, key=lambda name: -report.importances.get(name, 0.0))[:MAX_PARAMETERS]
    rows = [shown[start : start + SLICES_PER_ROW] for start in range(0, len(shown), SLICES_PER_ROW)]
    more = f" {len(known) - len(shown)} more parameters are in report.json." if len(known) > len(shown) else ""
    for number, (index, row) in enumerate(((i, row) for i in range(len(report.metrics)) for row in rows), start=1):
        axes = optuna_plots.plot_slice(
            study,
            params=[labels[name] for name in row],
            target=partial(_value_of, index),
            target_name=_target_name(report, index),
        )
        metric = report.metrics[index]
        caption = (
            f"{metric} of each complete trial by the value of one parameter, whatever the others were."
            f"{_outliers(report, index)}{more}"
        )
        size = (1.3 + 3.1 * len(row), 3.4)
        yield _plot(_numbered("slices", number), f"{metric} by {', '.join(row)}", caption, axes, size)


def _fronts(study: optuna.Study, report: SweepReport) -> Iterator[Plot]:
    """The metrics two by two."""
    pairs = list(combinations(range(len(report.metrics)), 2))[:MAX_PAIRS] if finite_trials(report) else []
    for number, (first, second) in enumerate(pairs, start=1):
        axes = optuna_plots.plot_pareto_front(
            study,
            targets=partial(_values_of, (first, second)),
            target_names=[_target_name(report, index) for index in (first, second)],
        )
        title = f"{report.metrics[second]} by {report.metrics[first]}"
        caption = (
            "Each dot is a complete trial. Red is the Pareto front: no other trial is better in one metric without "
            "being worse in another."
        )
        yield _plot(_numbered("front", number), title, caption, axes, SMALL)


def _timeline(study: optuna.Study, report: SweepReport) -> Iterator[Plot]:
    if any(trial.seconds is not None for trial in report.trials):
        caption = "When each trial ran, and how it ended. A trial whose process died counts as FAIL."
        yield _plot("timeline", "Timeline", caption, optuna_plots.plot_timeline(study), SMALL)


def _plot(name: str, title: str, caption: str, drawn: Any, size: tuple[float, float]) -> Plot:
    """The figure of these axes as an image of this size in inches.

    Titles go, since the page has them; logarithmic ticks become few and plain; names of choices are turned.
    """
    figure = (drawn if isinstance(drawn, Axes) else drawn.flat[0]).get_figure()
    assert isinstance(figure, Figure)
    figure.set_size_inches(*size)
    figure.suptitle("")
    for axes in figure.axes:
        for side in ("left", "center", "right"):
            axes.set_title("", loc=side)
        if isinstance(axes.xaxis.get_major_formatter(), StrCategoryFormatter):
            plt.setp(axes.get_xticklabels(), rotation=20, ha="right")
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                low, high = axis.get_view_interval()
                axis.set_major_locator(LogLocator(subs=(1, 3) if high / low < 100 else (1,), numticks=4))
                axis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))
                axis.set_minor_formatter(NullFormatter())
    return Plot(name, title, caption, png_of(figure))


def _value_of(index: int, trial: FrozenTrial) -> float:
    return float(trial.values[index])


def _values_of(indices: Sequence[int], trial: FrozenTrial) -> list[float]:
    return [trial.values[index] for index in indices]


def _target_name(report: SweepReport, index: int) -> str:
    return f"{label_of(report.metrics[index])}\n({reading_of(report.directions[index])})"


def _outliers(report: SweepReport, index: int) -> str:
    low, high = value_range(report, index)
    num_beyond = sum(not low <= trial.values[index] <= high for trial in finite_trials(report))
    return f" Far worse than the others, and drawn as the worst of them: {num_beyond}." if num_beyond else ""


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"

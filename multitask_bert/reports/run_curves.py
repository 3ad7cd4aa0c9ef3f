"""Score against the one number in which runs differ: a learning curve over training examples, or a curve over rates.

Finished runs -> `Curves`, where they differ in one numeric setting (and in seeds) -> plot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from multitask_bert.reports.pages import Plot, png_of
from multitask_bert.reports.run_settings import UNSET, differing

if TYPE_CHECKING:
    from multitask_bert.reports.run_table import FinishedRun

MOST_LINES = 10  # colours that can be told apart
MOST_EXAMPLES = re.compile(r"tasks\.([^.]+)\.source\.max_train_examples")


@dataclass(frozen=True)
class Curves:
    """Scores by a number; runs that differ in the seed alone have the same one."""

    name: str  # of the number
    points: dict[str, dict[float, list[float]]]  # by key of the score and value of the number: a score per run
    num_left_out: int  # runs in which it is no number, as null


def curves_of(runs: Sequence[FinishedRun]) -> Curves | None:
    """The curves of runs that differ in one numeric setting, with three values at least; None for any others.

    Where that is the greatest number of training examples, the curves are over the number that there were.
    """
    settings = [key for key in differing([run.settings for run in runs]) if key != "seed"]
    if len(settings) != 1:
        return None
    placed = [(value, run) for run in runs if (value := _value(run, settings[0])) is not None]
    if len({value for value, _ in placed}) < 3:
        return None
    points: dict[str, dict[float, list[float]]] = {}
    for value, run in placed:
        for key, score in run.scores.items():
            points.setdefault(key, {}).setdefault(value, []).append(score[0])
    task = MOST_EXAMPLES.fullmatch(settings[0])
    return Curves(f"training examples of {task[1]}" if task else settings[0], points, len(runs) - len(placed))


def draw_curves(curves: Curves) -> Plot:
    """A line per score through the mean over seeds, and a dot per run."""
    from matplotlib.figure import Figure

    from multitask_bert.reports.picture_plots import drawing

    with drawing():
        figure = Figure((7.6, 4.4), layout="constrained")
        axes = figure.add_subplot()
        for key, scores_at in list(curves.points.items())[:MOST_LINES]:
            xs = sorted(scores_at)
            (line,) = axes.plot(xs, [sum(scores_at[x]) / len(scores_at[x]) for x in xs], label=key)
            axes.scatter(
                [x for x in xs for _ in scores_at[x]], [score for x in xs for score in scores_at[x]],
                color=line.get_color(), s=18,
            )  # fmt: skip
        values = sorted({x for scores_at in curves.points.values() for x in scores_at})
        if values[0] > 0 and values[-1] >= 10 * values[0]:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xticks(values, [f"{x:g}" for x in values])
        axes.set(xlabel=curves.name, ylabel="score")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
        png = png_of(figure)
    caption = "A line goes through the mean of the runs that differ in the seed alone; a dot is a run."
    if curves.num_left_out:
        caption += f" Left out: {curves.num_left_out} run(s) in which it is no number."
    if len(curves.points) > MOST_LINES:
        caption += f" The first {MOST_LINES} of {len(curves.points)} scores."
    return Plot("curves", f"Scores by {curves.name}", caption, png)


def _value(run: FinishedRun, setting: str) -> float | None:
    if task := MOST_EXAMPLES.fullmatch(setting):
        return run.num_train.get(task[1])
    try:
        return float(run.settings.get(setting, UNSET))
    except ValueError:
        return None

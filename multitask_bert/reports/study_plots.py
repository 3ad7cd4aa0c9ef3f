"""The plots of a study: heat maps of gains or scores, and every gain with its intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from multitask_bert.reports.pages import Plot, png_of
from multitask_bert.reports.study import StudyReport
from multitask_bert.reports.study_gains import CANNOT_TELL, HELPS, HURTS, LANGUAGES, Gain
from multitask_bert.utils.bootstrap import Interval

MARKS = {HELPS: "helps", HURTS: "hurts", CANNOT_TELL: "?"}
COLORS = {HELPS: "#2e8b57", HURTS: "#c8553d", CANNOT_TELL: "#8a949e"}
CELL, LINE = (1.35, 0.62), 0.34  # inches
EVERYTHING = "+ all others"
CONTROLS = {"recipe": "the same recipe", "equal_updates": "equal numbers of updates"}


def draw_plots(report: StudyReport) -> Iterator[Plot]:
    """The plots that there is data for, for each control."""
    for control in report.controls:
        if report.subject == LANGUAGES and report.scores:
            yield _scores(report, control)
        if gains := report.gains_of(control):
            if report.subject != LANGUAGES:
                yield _gain_matrix(gains, control)
            yield _forest(gains, control)


def _scores(report: StudyReport, control: str) -> Plot:
    """A row per set of languages that was trained on, a column per language that was tested."""
    arms = report.arms_of(control)
    values = np.full((len(arms), len(report.heads)), np.nan)
    texts = np.full(values.shape, "", dtype=object)
    for row, arm in enumerate(arms):
        for column, head in enumerate(report.heads):
            if (score := report.score(arm, head)) is not None:
                values[row, column] = 100 * score.mean
                is_zero_shot = head.partition(".")[0] not in arm.trained
                texts[row, column] = f"{100 * score.mean:.1f}{' (zero-shot)' if is_zero_shot else ''}"
    figure = _heat_map(values, texts, [arm.shown for arm in arms], report.heads, "Blues")
    figure.axes[0].set(xlabel="tested on", ylabel="trained on")
    caption = "Mean headline score on test over the seeds, in points."
    return Plot(f"scores_{control}", f"Scores with {CONTROLS[control]}", caption, png_of(figure))


def _gain_matrix(gains: Sequence[Gain], control: str) -> Plot:
    """A row per head, a column per set of partners."""
    heads = list(dict.fromkeys(gain.head for gain in gains))
    most = max(len(gain.partners) for gain in gains)
    of_gain = {(gain.head, gain.arm): _column(gain, most) for gain in gains}
    partners = sorted(set(of_gain.values()), key=lambda name: (name == EVERYTHING, name.count("+"), name))
    values = np.full((len(heads), len(partners)), np.nan)
    texts = np.full(values.shape, "", dtype=object)
    for gain in gains:
        cell = heads.index(gain.head), partners.index(of_gain[gain.head, gain.arm])
        values[cell] = 100 * gain.test.gain
        texts[cell] = f"{100 * gain.test.gain:+.1f}\n{MARKS[gain.verdict]}"
    figure = _heat_map(values, texts, heads, partners, "RdBu", is_diverging=True)
    figure.axes[0].set(xlabel="trained with", ylabel="score of")
    caption = "Gain over training the task alone, in points; ?: one cannot tell."
    return Plot(f"gains_{control}", f"Gains with {CONTROLS[control]}", caption, png_of(figure))


def _column(gain: Gain, most: int) -> str:
    """The partners, in one column for all heads where they are all others."""
    return EVERYTHING if most > 1 and len(gain.partners) == most else gain.shown_partners


def _forest(gains: Sequence[Gain], control: str) -> Plot:
    """A line per gain, with its intervals over examples, over seeds and over both."""
    figure, axes = _figure((8.6, 1.0 + LINE * len(gains)))
    for index, gain in enumerate(gains):
        color, test = COLORS[gain.verdict], gain.test
        for interval, offset, width, alpha in (
            (None if test.is_equal else test.over_both, 0.0, 2.2, 1.0),
            (test.over_examples, 0.2, 1.2, 0.8), (test.over_seeds, -0.2, 1.2, 0.45),
        ):  # fmt: skip
            if interval is not None:
                axes.plot([100 * end for end in interval], [index + offset] * 2, color=color, lw=width, alpha=alpha)
        axes.plot([100 * test.gain], [index], "o", color=color, ms=5)
    axes.axvline(0, color="#5a6775", lw=0.8)
    reach = 1.15 * max(max(map(abs, _shown_interval(gain))) for gain in gains) or 1.0
    axes.set(xlim=(-100 * reach, 100 * reach), xlabel="gain over alone, in points", ylim=(len(gains) - 0.5, -0.5))
    axes.set_yticks(range(len(gains)), [f"{gain.head}  {gain.shown_partners}" for gain in gains])
    caption = (
        "Point and thick line: gain and 95% interval over examples and seeds, by which the verdict goes (green: helps, "
        "red: hurts, grey: one cannot tell). Thin lines: over examples (below it), over seeds (above it). Lines longer "
        "than the figure are cut off."
    )
    return Plot(f"intervals_{control}", f"Intervals with {CONTROLS[control]}", caption, png_of(figure))


def _shown_interval(gain: Gain) -> Interval:
    """The interval that must fit into the figure; the one over two or three seeds alone may be far longer."""
    test = gain.test
    return test.over_examples or test.over_both or (test.gain, test.gain)


def _heat_map(
    values: Any, texts: Any, rows: Sequence[str], columns: Sequence[str], colors: str, *, is_diverging: bool = False
) -> Figure:
    figure, axes = _figure((2.6 + CELL[0] * len(columns), 1.2 + CELL[1] * len(rows)))
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if is_diverging:
        high = 1.4 * max(abs(low), abs(high), 0.1)  # so that text is legible on the darkest cell
        low = -high
    else:
        high += 0.25 * (high - low)
    axes.imshow(values, cmap=colors, vmin=low, vmax=high if high > low else low + 1, aspect="auto", alpha=0.75)
    axes.set_xticks(range(len(columns)), columns, rotation=20, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    for row in range(len(rows)):
        for column in range(len(columns)):
            axes.text(column, row, texts[row, column], ha="center", va="center", fontsize=8)
    return figure


def _figure(size: tuple[float, float]) -> tuple[Figure, Any]:
    """A figure of its own, without pyplot, whose state others share."""
    figure = Figure(figsize=size)
    axes: Any = figure.add_subplot()
    axes.tick_params(labelsize=8)
    return figure, axes

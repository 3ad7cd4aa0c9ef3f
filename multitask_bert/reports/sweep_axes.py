"""What all plots of a sweep share: colours, text that can be drawn, and an axis that one bad trial does not flatten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from multitask_bert.reports.sweep_figures import near
from multitask_bert.utils.visible import visible

BLUE, GREY, RED, BEST, RUNNING = "#3b7cb8", "#9aa5b1", "#c8553d", "#e08b1a", "#2e8b57"
GRID = "#e4e8ed"
LABEL_LENGTH = 30  # characters of a name that fit beside a plot


def blank(width: float, height: float) -> Figure:
    """Of this size in inches, 100 pixels of the page each."""
    return Figure(figsize=(width, height), layout="constrained")


def panel(figure: Figure, rows: int = 1, columns: int = 1, place: int = 1) -> Axes:
    axes = figure.add_subplot(rows, columns, place)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def better(direction: str) -> str:
    """How a metric is read."""
    return "higher is better" if direction == "maximize" else "lower is better"


def drawable(text: Any, length: int = LABEL_LENGTH) -> str:
    """On one line, cut, without what the font lacks, and with no `$` that would begin a formula."""
    line = visible(" ".join(str(text).split()))
    if len(line) > length:
        line = f"{line[: length - 1]}…"
    return "".join(letter if ord(letter) in _letters() else "□" for letter in line).replace("$", r"\$")


@cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


@dataclass(frozen=True)
class ValueAxis:
    """Where a metric's values are drawn; what lies far beyond, at the worse end, stands at the edge as a triangle."""

    low: float
    high: float
    is_highest_best: bool
    num_beyond: int

    @classmethod
    def of(cls, values: Sequence[float], direction: str) -> ValueAxis:
        low, high = near(values, direction)
        return cls(low, high, direction == "maximize", sum(not low <= value <= high for value in values))

    def clip(self, value: float) -> float:
        """NaN stays NaN, and is not drawn."""
        margin = 0.04 * (self.high - self.low)
        if value < self.low:
            return self.low - margin
        return self.high + margin if value > self.high else value

    def points(
        self, axes: Axes, places: Sequence[Any], values: Sequence[float], color: str, *, is_across: bool = False
    ) -> None:
        """Dots at `places`; `is_across`: the values run from left to right."""
        for is_beyond, mark in ((False, "o"), (True, self._mark(is_across))):
            chosen = [
                (place, self.clip(value))
                for place, value in zip(places, values, strict=True)
                if (self.clip(value) != value) == is_beyond
            ]
            if chosen:
                first, second = zip(*chosen, strict=True)
                where = (second, first) if is_across else (first, second)
                axes.plot(*where, mark, color=color, alpha=0.75, markersize=5.5, markeredgewidth=0)

    def label(self, axes: Axes, metric: str) -> None:
        """Of the vertical axis, with how to read it."""
        axes.set_ylabel(f"{drawable(metric)}\n({self._reading()})")

    def label_across(self, axes: Axes, metric: str) -> None:
        axes.set_xlabel(f"{drawable(metric)}\n({self._reading()})")

    def _reading(self) -> str:
        reading = better("maximize" if self.is_highest_best else "minimize")
        return f"{reading})\n({self.num_beyond} far worse, at the edge" if self.num_beyond else reading

    def _mark(self, is_across: bool) -> str:
        if is_across:
            return "<" if self.is_highest_best else ">"
        return "v" if self.is_highest_best else "^"

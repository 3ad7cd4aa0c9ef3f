"""The pictures of a run: confusion matrix, reliability diagram, precision and recall per label, training curves."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from multitask_bert.reports.label_counts import NONE, Confusion, LabelCounts
from multitask_bert.reports.pages import Plot, png_of
from multitask_bert.utils.calibration import Reliability

MAX_CONFUSED, MAX_BARS, MAX_LINES = 20, 30, 20  # labels in a matrix, labels with bars, lines of curves
MAX_NAME = 22  # characters of a label's name
NUM_SMOOTHED = 25  # points of a curve of losses
BLUE, ORANGE, GREY = "#3b7cb8", "#e08b1a", "#9aa5b1"

Curve = tuple[Sequence[int], Sequence[float]]  # steps and values


@contextmanager
def drawing() -> Iterator[None]:
    """The style of the plots, whatever the user's own is; no warnings of letters that the font lacks."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({
            "text.parse_math": False, "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        })  # fmt: skip
        warnings.simplefilter("ignore")
        yield


def confusion_plot(name: str, set_name: str, confusion: Confusion) -> Plot:
    """Gold labels by row, predicted ones by column; the colour is the share of the row."""
    shown, num_more = shown_confusion(confusion)
    size = len(shown.names)
    figure = Figure(figsize=(1.6 + 0.42 * size, 1.1 + 0.42 * size))
    axes = figure.subplots()
    share_GP = shown.count_GP / np.maximum(shown.count_GP.sum(axis=1, keepdims=True), 1)
    axes.imshow(share_GP, cmap="Blues", vmin=0, vmax=1)
    widest = len(f"{shown.count_GP.max():,}")
    for (row, column), count in np.ndenumerate(shown.count_GP):
        is_mixed = num_more and row == column and shown.names[row] == _others(num_more)
        if count and not is_mixed:
            color = "white" if share_GP[row, column] > 0.55 else "#1c2733"
            axes.text(column, row, f"{count:,}", ha="center", va="center", color=color, fontsize=min(8, 34 / widest))
    names = [_short(one) for one in shown.names]
    axes.set_xticks(range(size), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("gold")
    axes.tick_params(length=0)
    num_labels = len(confusion.names) - (NONE in confusion.names)
    _set_title(
        axes, f"{name} on {set_name}" + (f": {num_labels - num_more} of {num_labels} labels" if num_more else "")
    )
    caption = f"Number of {confusion.unit}; the colour is the share of the gold label."
    if confusion.unit == "entities":
        caption += f" {NONE}: the other side has no entity that spans exactly these words."
    elif NONE in confusion.names:
        caption += f" {NONE}: the word was truncated away."
    if num_more:
        caption += (
            f" Shown are the {num_labels - num_more} labels of {num_labels} that take part in most confusions; the "
            f"other {num_more} are one row and column."
        )
    return Plot(f"{name}.confusion", "Confusion matrix", caption, png_of(figure))


def shown_confusion(confusion: Confusion, most: int = MAX_CONFUSED) -> tuple[Confusion, int]:
    """The labels that take part in most confusions, in their order, the others as one; and the number of those."""
    labels = [index for index, name in enumerate(confusion.names) if name != NONE]
    if len(labels) <= most:
        return confusion, 0
    wrong_GP = confusion.count_GP - np.diag(np.diag(confusion.count_GP))
    wrong_L = wrong_GP.sum(axis=0) + wrong_GP.sum(axis=1)
    kept = sorted(sorted(labels, key=lambda index: (-wrong_L[index], index))[:most])
    others = [index for index in labels if index not in kept]
    groups = [[index] for index in kept] + [others] + [[i] for i, name in enumerate(confusion.names) if name == NONE]
    rows_GP = np.stack([confusion.count_GP[group].sum(axis=0) for group in groups])
    counts_GP = np.stack([rows_GP[:, group].sum(axis=1) for group in groups], axis=1)
    names = [confusion.names[index] for index in kept] + [_others(len(others))] + [NONE] * (NONE in confusion.names)
    return Confusion(confusion.unit, tuple(names), counts_GP), len(others)


def reliability_plot(name: str, set_name: str, measured: Reliability) -> Plot:
    """Accuracy by confidence, with the number of answers in each bin below."""
    figure = Figure(figsize=(4.2, 4.4))
    axes, below = figure.subplots(2, 1, height_ratios=(3.2, 1), sharex=True)
    num_bins = len(measured.count_K)
    edges = np.arange(num_bins) / num_bins
    is_used = measured.count_K > 0
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="calibrated")
    axes.bar(edges, measured.accuracy_K, 1 / num_bins, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    axes.plot(
        measured.confidence_K[is_used], measured.accuracy_K[is_used], "o", color=ORANGE, markersize=4,
        label="at mean confidence",
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    axes.legend(loc="upper left", frameon=False, fontsize="small")
    below.bar(edges, measured.count_K, 1 / num_bins, align="edge", color=GREY, edgecolor="white")
    below.set(xlabel="confidence", ylabel="answers")
    total, error = int(measured.count_K.sum()), measured.expected_calibration_error
    _set_title(axes, f"{name} on {set_name}: expected calibration error {error:.4f}")
    caption = (
        f"Expected calibration error {error:.4f}, of {total:,} answers in {num_bins} bins of equal width "
        f"(Naeini et al. 2015; Guo et al. 2017). A bar below the dashed line: the head is too confident."
    )
    return Plot(f"{name}.reliability", "Reliability diagram", caption, png_of(figure))


def label_bars(name: str, set_name: str, counts: Sequence[LabelCounts], unit: str) -> Plot:
    """Precision and recall of each label, with its support."""
    shown = sorted(counts, key=lambda one: -one.gold)
    if len(counts) > MAX_BARS:
        shown = sorted(sorted(counts, key=lambda one: one.f1)[:MAX_BARS], key=lambda one: -one.gold)
    figure = Figure(figsize=(5.4, 1.0 + 0.3 * len(shown)))
    axes = figure.subplots()
    rows = np.arange(len(shown))
    for offset, color, label in ((-0.19, BLUE, "precision"), (0.19, ORANGE, "recall")):
        axes.barh(rows + offset, [getattr(one, label) or 0.0 for one in shown], 0.36, color=color, label=label)
    for row, one in enumerate(shown):
        axes.text(1.02, row, f"{one.gold:,}", va="center", fontsize="small", color="#5a6775")
    axes.text(1.02, -0.85, unit, va="center", fontsize="small", color="#5a6775")
    axes.set_yticks(rows, [_short(one.name) for one in shown])
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.4, -0.6))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize="small")
    axes.tick_params(axis="y", length=0)
    is_part = len(shown) < len(counts)
    of_all = f": {len(shown)} of {len(counts)} labels, those with the lowest F1" if is_part else ""
    _set_title(axes, f"{name} on {set_name}{of_all}", pad=24)
    caption = f"On the right the support: the number of {unit} with this gold label."
    if is_part:
        caption += f" Shown are the {MAX_BARS} labels with the lowest F1 of {len(counts)}; the table has all."
    return Plot(f"{name}.labels", "Precision and recall per label", caption, png_of(figure))


def curves_plot(losses: Mapping[str, Curve], scores: Mapping[str, Curve]) -> Plot:
    """The loss of each task over steps, and the headline scores on dev."""
    figure = Figure(figsize=(10.4, 3.6))
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(wspace=0.62)
    for task, (steps, values) in list(losses.items())[:MAX_LINES]:
        left.plot(*_smoothed(steps, values), linewidth=1.2, label=_short(task))
    for head, (steps, values) in list(scores.items())[:MAX_LINES]:
        right.plot(steps, values, marker=".", linewidth=1.2, label=_short(head, 34))
    left.set(xlabel="step", ylabel="loss on train")
    right.set(xlabel="step", ylabel="score on dev")
    for axes in (left, right):
        _finish_curves(axes)
    caption = (
        f"Left: the loss of each task, the mean of up to {NUM_SMOOTHED} equal parts of the run. Right: the first "
        "metric of each head."
    )
    if max(len(losses), len(scores)) > MAX_LINES:
        caption += f" Shown are the first {MAX_LINES} of {len(losses)} tasks and {len(scores)} heads."
    return Plot("curves", "Training curves", caption, png_of(figure))


def _set_title(axes: Axes, title: str, pad: int = 8) -> None:
    """A title for those who see the image alone."""
    axes.set_title(title, loc="left", fontsize="small", color="#5a6775", pad=pad)


def _finish_curves(axes: Axes) -> None:
    axes.grid(color="#e3e8ee", linewidth=0.7)
    axes.set_axisbelow(True)
    num_lines = len(axes.get_lines())
    for index, line in enumerate(axes.get_lines()):
        line.set_color(matplotlib.colormaps["tab10"](index % 10))
        line.set_linestyle("-" if index < 10 else "--")
    if num_lines:
        axes.legend(
            loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize="small" if num_lines < 12 else 6
        )


def _smoothed(steps: Sequence[int], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """The means of equal parts of a curve; values that are not finite are left out."""
    step_N, value_N = np.asarray(steps, dtype=np.float64), np.asarray(values, dtype=np.float64)
    step_N, value_N = step_N[np.isfinite(value_N)], value_N[np.isfinite(value_N)]
    parts = [
        part for part in zip(np.array_split(step_N, NUM_SMOOTHED), np.array_split(value_N, NUM_SMOOTHED), strict=True)
        if len(part[0])
    ]  # fmt: skip
    return [float(part.mean()) for part, _ in parts], [float(part.mean()) for _, part in parts]


def _others(number: int) -> str:
    return f"({number} others)"


def _short(name: str, most: int = MAX_NAME) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"

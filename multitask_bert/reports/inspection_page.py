"""The page of an inspection: its tables, and a plot of the lengths and labels of every split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multitask_bert.reports.inspection import Inspection
from multitask_bert.reports.inspection_tables import tables_of
from multitask_bert.reports.pages import render
from multitask_bert.reports.splits import SplitFigures
from multitask_bert.utils.files import write_bytes

NUM_LABELS_DRAWN = 40
WIDTH, HEIGHT = 360, 110  # of a histogram, in pixels; as in templates/inspection.html


@dataclass(frozen=True)
class HistogramBar:
    """One bar; positions and sizes in pixels."""

    x: float
    height: float
    title: str
    is_beyond: bool  # these examples are longer than max_length


@dataclass(frozen=True)
class Histogram:
    """Number of examples by length in tokens, with a line at max_length."""

    bars: list[HistogramBar]
    bar_width: float
    limit_x: float
    limit: str
    end: str  # length at the right end of the axis


@dataclass(frozen=True)
class LabelBars:
    """Number of examples (of words, for tags) by label."""

    shown: list[tuple[str, int]]
    most: int
    num_more: int  # labels that are not shown


def write_page(path: Path, inspection: Inspection) -> None:
    """Write the page; a reader never sees half of it."""
    tasks: dict[str, list[SplitFigures]] = {}
    for split in inspection.splits:
        tasks.setdefault(split.task, []).append(split)
    sizes, lengths, _, leaks, training = tables_of(inspection)
    page = render(
        "inspection.html",
        title=f"Data of {', '.join(tasks)}",
        tables=[sizes, lengths, training, leaks],
        leaks=inspection.leaks,
        tasks=tasks,
        histogram_of=lambda split: _histogram(split, inspection.max_length),
        bars_of=_label_bars,
    )
    write_bytes(path, page)


def _histogram(split: SplitFigures, max_length: int) -> Histogram:
    bins, width = split.lengths.bins, split.lengths.bin_width
    step = WIDTH / len(bins)
    highest = max(1, *bins)
    bars = []
    for index, count in enumerate(bins):
        first, last = index * width, (index + 1) * width - 1
        upper = "or more" if index + 1 == len(bins) else f"to {last:,}"
        title = f"{first:,} {upper} tokens: {count:,}"
        bars.append(HistogramBar(round(index * step, 1), round(HEIGHT * count / highest, 1), title, first > max_length))
    limit_x = round(min(WIDTH, (max_length + 1) / width * step), 1)
    return Histogram(bars, round(step * 0.9, 1), limit_x, f"{max_length:,}", f"{len(bins) * width:,}")


def _label_bars(split: SplitFigures, head: str) -> LabelBars:
    counts = list(split.labels[head].items())
    most = max([1, *(count for _, count in counts)])
    return LabelBars(counts[:NUM_LABELS_DRAWN], most, max(0, len(counts) - NUM_LABELS_DRAWN))

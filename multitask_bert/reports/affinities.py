"""Which tasks of a run help each other, by the cosines of their gradients, and the grouping that these suggest.

metrics.jsonl -> `Affinities` -> `affinities.html`, `affinities.png` and `affinities.json` in the run's folder
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from multitask_bert.reports.pages import Plot, TextTable, png_of, render
from multitask_bert.tracking.loggers import METRICS_FILE
from multitask_bert.training.gradient_cosines import PREFIX
from multitask_bert.utils.files import write_bytes, write_json

PAGE, PLOT, VALUES = "affinities.html", "affinities.png", "affinities.json"
MAX_TASKS = 9  # that are grouped: there are 21,147 ways to divide so many
HOW = (
    "Mean cosine over the run ± its standard error. Above 0, a small step for one task also lowers the loss of the "
    "other; below 0, it raises it. A mean within two standard errors of 0 says nothing."
)
NOTE = (
    "Of all ways to divide the tasks into so many groups, the one with the greatest sum, over the tasks, of the mean "
    "cosine with the others of the group; a task alone counts 0. A hint of what to try, not a measured gain."
)


@dataclass(frozen=True)
class Pair:
    """Two tasks and their cosines."""

    a: str
    b: str
    steps: list[int]
    cosines: list[float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.cosines)

    @property
    def error(self) -> float | None:
        """Standard error of the mean; None of a single measurement."""
        number = len(self.cosines)
        return statistics.stdev(self.cosines) / number**0.5 if number > 1 else None


@dataclass(frozen=True)
class Grouping:
    """The best division of the tasks into a number of groups."""

    groups: list[list[str]]
    score: float


@dataclass(frozen=True)
class Affinities:
    """Everything that the page shows; `affinities.json` has the same fields."""

    pairs: list[Pair]
    groupings: list[Grouping]  # by number of groups, from one; empty for more than `MAX_TASKS` tasks

    @property
    def tasks(self) -> list[str]:
        return sorted({task for pair in self.pairs for task in (pair.a, pair.b)})


def read_affinities(folder: Path) -> Affinities | None:
    """The cosines in a run's `metrics.jsonl`; None if none were measured."""
    found: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    with (folder / METRICS_FILE).open(encoding="utf-8") as file:
        for line in file:
            metrics = json.loads(line) if PREFIX in line else {}
            for key, value in metrics.items():
                if key.startswith(PREFIX) and value is not None:
                    a, _, b = key.removeprefix(PREFIX).partition(".")
                    steps, cosines = found.setdefault((a, b), ([], []))
                    steps.append(int(metrics["step"]))
                    cosines.append(float(value))
    pairs = [Pair(a, b, steps, cosines) for (a, b), (steps, cosines) in found.items()]
    return Affinities(pairs, best_groupings({(pair.a, pair.b): pair.mean for pair in pairs})) if pairs else None


def best_groupings(cosines: Mapping[tuple[str, str], float]) -> list[Grouping]:
    """The best grouping into 1, 2, … groups, by trying all; `cosines`: by pair of tasks, a missing one counts 0.

    The score is that of Fifty et al. 2021, "Efficiently Identifying Task Groupings for Multi-Task Learning"
    (2109.04617), section 4.3, with cosines in place of lookahead affinities and each task in one group.
    """
    tasks = sorted({task for pair in cosines for task in pair})
    if len(tasks) > MAX_TASKS:
        return []
    best: dict[int, Grouping] = {}
    for groups in _divisions(tasks):
        score = sum(_score(group, cosines) for group in groups)
        if len(groups) not in best or score > best[len(groups)].score:
            best[len(groups)] = Grouping([list(group) for group in groups], score)
    return [best[number] for number in sorted(best)]


def write_affinities(affinities: Affinities, folder: Path) -> None:
    """Write the three files in `folder`."""
    plot = _plot(affinities)
    write_bytes(folder / PLOT, plot.png)
    tables = [_matrix(affinities), _groups(affinities)]
    facts = {"Suggested": suggestion(affinities)}
    write_bytes(folder / PAGE, render("affinities.html", title="Affinities", facts=facts, tables=tables, plot=plot))
    write_json(folder / VALUES, asdict(affinities))


def suggestion(affinities: Affinities) -> str:
    """The best grouping of all, as in `a+b, c`; empty for too many tasks."""
    if not affinities.groupings:
        return ""
    best = max(affinities.groupings, key=lambda grouping: grouping.score)
    return ", ".join("+".join(group) for group in best.groups)


def _divisions(tasks: Sequence[str]) -> Iterator[list[list[str]]]:
    """All ways to divide the tasks into groups."""
    if not tasks:
        yield []
        return
    *others, last = tasks
    for groups in _divisions(others):
        yield [*groups, [last]]
        for index, group in enumerate(groups):
            yield [*groups[:index], [*group, last], *groups[index + 1 :]]


def _score(group: Sequence[str], cosines: Mapping[tuple[str, str], float]) -> float:
    """The sum over a group's tasks of the mean cosine with its other tasks."""
    if len(group) == 1:
        return 0.0
    both = (cosines.get((a, b), 0.0) for a in group for b in group if a != b and (a, b) in cosines)
    return 2 * sum(both) / (len(group) - 1)


def _matrix(affinities: Affinities) -> TextTable:
    cells = {(pair.a, pair.b): pair for pair in affinities.pairs}
    cells |= {(pair.b, pair.a): pair for pair in affinities.pairs}
    rows = [
        (task, *(_cell(cells[task, other]) if (task, other) in cells else "" for other in affinities.tasks))
        for task in affinities.tasks
    ]
    return TextTable("Cosines between the gradients of two tasks", ("task", *affinities.tasks), rows, 1, HOW)


def _cell(pair: Pair) -> str:
    return f"{pair.mean:+.3f}" if pair.error is None else f"{pair.mean:+.3f} ± {pair.error:.3f}"


def _groups(affinities: Affinities) -> TextTable:
    rows = [
        (", ".join("+".join(group) for group in one.groups), str(len(one.groups)), f"{one.score:+.3f}")
        for one in affinities.groupings
    ]
    note = NOTE if rows else f"More than {MAX_TASKS} tasks are not grouped."
    return TextTable("Groupings", ("groups", "number", "score"), rows, 1, note)


def _plot(affinities: Affinities) -> Plot:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4))
    axes = figure.subplots()
    for pair in affinities.pairs:
        axes.plot(pair.steps, pair.cosines, marker=".", label=f"{pair.a}, {pair.b}".replace("$", r"\$"))
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("step")
    axes.set_ylabel("cosine")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    return Plot(
        "affinities", "Cosines over the run", "One point per measurement, of one batch per task.", png_of(figure)
    )

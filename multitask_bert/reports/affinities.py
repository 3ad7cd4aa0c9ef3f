"""Which tasks of a run help each other, by gradient cosines and lookahead affinities, and the groupings they suggest.

metrics.jsonl -> `Affinities` -> `affinities.html`, `affinities.json` and a PNG of each in the run's folder
"""

from __future__ import annotations

import json
import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from multitask_bert.reports.pages import Plot, TextTable, png_of, render
from multitask_bert.tracking.loggers import METRICS_FILE
from multitask_bert.training import gradient_cosines, lookahead
from multitask_bert.utils.files import write_bytes, write_json

PAGE, VALUES = "affinities.html", "affinities.json"
PLOT, LOOKAHEAD_PLOT = "affinities.png", "affinities_lookahead.png"
MAX_TASKS = 9  # that are grouped: there are 21,147 ways to divide so many
HOW = (
    "Mean cosine over the run ± its standard error. Above 0, a small step for one task also lowers the loss of the "
    "other; below 0, it raises it. A mean within two standard errors of 0 says nothing."
)
HOW_LOOKAHEAD = (
    "Mean affinity over the run ± its standard error, of the task of the row onto that of the column: by what share a "
    "gradient step for the one lowers the loss of the other; below 0, raises it. A mean within two standard errors of "
    "0 says nothing, and rounding alone makes affinities of about 1e-7."
)
NOTE = (
    "Of all ways to divide the tasks into so many groups, the one with the greatest sum, over the tasks, of the mean "
    "{} the others of the group; a task alone counts 0. A hint of what to try, not a measured gain."
)


class Measured(ABC):
    """Values of one pair of tasks at several steps."""

    @property
    @abstractmethod
    def values(self) -> list[float]: ...

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def error(self) -> float | None:
        """Standard error of the mean; None of a single measurement."""
        number = len(self.values)
        return statistics.stdev(self.values) / number**0.5 if number > 1 else None


@dataclass(frozen=True)
class Pair(Measured):
    """Two tasks and their cosines."""

    a: str
    b: str
    steps: list[int]
    cosines: list[float]

    @property
    def values(self) -> list[float]:
        return self.cosines


@dataclass(frozen=True)
class Onto(Measured):
    """The lookahead affinities of one task, the source, onto another, the target."""

    source: str
    target: str
    steps: list[int]
    affinities: list[float]

    @property
    def values(self) -> list[float]:
        return self.affinities


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
    lookahead: list[Onto] = field(default_factory=list)
    lookahead_groupings: list[Grouping] = field(default_factory=list)


def read_affinities(folder: Path) -> Affinities | None:
    """The cosines and lookahead affinities in a run's `metrics.jsonl`; None if neither were measured."""
    pairs = [Pair(a, b, *series) for (a, b), series in _read(folder, gradient_cosines.PREFIX).items()]
    ahead = [Onto(a, b, *series) for (a, b), series in _read(folder, lookahead.PREFIX).items()]
    if not pairs and not ahead:
        return None
    return Affinities(
        pairs, best_groupings({(pair.a, pair.b): pair.mean for pair in pairs}),
        ahead, best_directed_groupings({(one.source, one.target): one.mean for one in ahead}),
    )  # fmt: skip


def _read(folder: Path, prefix: str) -> dict[tuple[str, str], tuple[list[int], list[float]]]:
    """By pair of tasks, the steps and values of the keys `<prefix>a.b` of a run's log."""
    found: dict[tuple[str, str], tuple[list[int], list[float]]] = {}
    with (folder / METRICS_FILE).open(encoding="utf-8") as file:
        for line in file:
            metrics = json.loads(line) if prefix in line else {}
            for key, value in metrics.items():
                if key.startswith(prefix) and value is not None:
                    a, _, b = key.removeprefix(prefix).partition(".")
                    steps, values = found.setdefault((a, b), ([], []))
                    steps.append(int(metrics["step"]))
                    values.append(float(value))
    return found


def best_groupings(cosines: Mapping[tuple[str, str], float]) -> list[Grouping]:
    """The best grouping into 1, 2, … groups; `cosines`: by pair of tasks, in either order, a missing one counts 0."""
    return best_directed_groupings({**cosines, **{(b, a): cosine for (a, b), cosine in cosines.items()}})


def best_directed_groupings(affinities: Mapping[tuple[str, str], float]) -> list[Grouping]:
    """The best grouping into 1, 2, … groups, by trying all; `affinities`: by source and target, a missing one counts 0.

    The score is that of Fifty et al. 2021, "Efficiently Identifying Task Groupings for Multi-Task Learning"
    (2109.04617), section 4.3, with each task in one group.
    """
    tasks = sorted({task for pair in affinities for task in pair})
    if not 0 < len(tasks) <= MAX_TASKS:
        return []
    best: dict[int, Grouping] = {}
    for groups in _divisions(tasks):
        score = sum(_score(group, affinities) for group in groups)
        if len(groups) not in best or score > best[len(groups)].score:
            best[len(groups)] = Grouping([list(group) for group in groups], score)
    return [best[number] for number in sorted(best)]


def write_affinities(affinities: Affinities, folder: Path) -> None:
    """Write the page, the plots of what was measured, and the values in `folder`."""
    facts, tables, plots = {}, [], {}
    if affinities.pairs:
        facts["Suggested by the cosines"] = suggestion(affinities.groupings)
        tables += [_cosines(affinities.pairs), _groups("Groupings by cosines", "cosine with", affinities.groupings)]
        plots[PLOT] = _plot_cosines(affinities.pairs)
    if affinities.lookahead:
        groupings = affinities.lookahead_groupings
        facts["Suggested by the lookahead affinities"] = suggestion(groupings)
        tables += [
            _lookahead(affinities.lookahead),
            _groups("Groupings by lookahead affinities", "affinity of", groupings),
        ]
        plots[LOOKAHEAD_PLOT] = _plot_lookahead(affinities.lookahead)
    for name, plot in plots.items():
        write_bytes(folder / name, plot.png)
    page = render("affinities.html", title="Affinities", facts=facts, tables=tables, plots=list(plots.values()))
    write_bytes(folder / PAGE, page)
    write_json(folder / VALUES, asdict(affinities))


def suggestion(groupings: Sequence[Grouping]) -> str:
    """The best grouping of all, as in `a+b, c`; empty for too many tasks."""
    if not groupings:
        return ""
    best = max(groupings, key=lambda grouping: grouping.score)
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


def _score(group: Sequence[str], affinities: Mapping[tuple[str, str], float]) -> float:
    """The sum over a group's tasks of the mean affinity of its other tasks onto them."""
    if len(group) == 1:
        return 0.0
    return sum(affinities.get((a, b), 0.0) for a in group for b in group if a != b) / (len(group) - 1)


def _cosines(pairs: Sequence[Pair]) -> TextTable:
    cells = {(pair.a, pair.b): _cell(pair, ".3f") for pair in pairs}
    cells |= {(b, a): cell for (a, b), cell in cells.items()}
    return _matrix("Cosines between the gradients of two tasks", "task", cells, HOW)


def _lookahead(found: Sequence[Onto]) -> TextTable:
    cells = {(one.source, one.target): _cell(one, ".1e") for one in found}
    return _matrix("Lookahead affinities of one task onto another", "step of", cells, HOW_LOOKAHEAD)


def _matrix(title: str, corner: str, cells: Mapping[tuple[str, str], str], note: str) -> TextTable:
    tasks = sorted({task for pair in cells for task in pair})
    rows = [(task, *(cells.get((task, other), "") for other in tasks)) for task in tasks]
    return TextTable(title, (corner, *tasks), rows, 1, note)


def _cell(measured: Measured, digits: str) -> str:
    mean = f"{measured.mean:+{digits}}"
    return mean if measured.error is None else f"{mean} ± {measured.error:{digits}}"


def _groups(title: str, what: str, groupings: Sequence[Grouping]) -> TextTable:
    digits = ".1e" if "affinity" in what else ".3f"
    rows = [
        (", ".join("+".join(group) for group in one.groups), str(len(one.groups)), f"{one.score:+{digits}}")
        for one in groupings
    ]
    note = NOTE.format(what) if rows else f"More than {MAX_TASKS} tasks are not grouped."
    return TextTable(title, ("groups", "number", "score"), rows, 1, note)


def _plot_cosines(pairs: Sequence[Pair]) -> Plot:
    lines = {f"{pair.a}, {pair.b}": pair for pair in pairs}
    return _plot("affinities", "Cosines over the run", "cosine", lines)


def _plot_lookahead(found: Sequence[Onto]) -> Plot:
    lines = {f"{one.source} onto {one.target}": one for one in found}
    return _plot("affinities_lookahead", "Lookahead affinities over the run", "lookahead affinity", lines)


def _plot(name: str, title: str, label: str, lines: Mapping[str, Pair | Onto]) -> Plot:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4))
    axes = figure.subplots()
    for tasks, measured in lines.items():
        axes.plot(measured.steps, measured.values, marker=".", label=tasks.replace("$", r"\$"))
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    return Plot(name, title, "One point per measurement, of one batch per task.", png_of(figure))

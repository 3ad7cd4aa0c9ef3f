"""A diagnosis as tables and plots: on the console, as `diagnosis.html`, `diagnosis.md` and `diagnosis.json`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from multitask_bert.reports.diagnosis import Diagnosis, HeadMap, HeadSuspects, MapPoint
from multitask_bert.reports.pages import Plot, TextTable, percent, png_of, render
from multitask_bert.reports.text_files import markdown_page
from multitask_bert.reports.wrong_predictions import FIXED_KINDS, RIGHT, HeadErrors
from multitask_bert.utils.files import finite, write_bytes, write_json

PAGE, MARKDOWN, VALUES = "diagnosis.html", "diagnosis.md", "diagnosis.json"
NUM_PER_KIND, NUM_PER_HEAD = 10, 300  # examples that the page shows; diagnosis.json has all
NUM_KINDS = 30  # rows of confusions
NUM_SUSPECTS, NUM_POINTS = 100, 20  # labels that the page shows of each head, and of each part of its map
HOW_ENTITIES = (
    "Entities as f1 counts them. Each is in one pair at most; missed: no predicted entity is left that overlaps; "
    "spurious: no gold one."
)
HOW_SUSPECTS = (
    "Each label judged by a model that was not trained on it; lowest probability of the given label first. A rank, not "
    "a verdict: hard examples are here too. Of tags and of several labels, the least probable one is shown."
)
HOW_MAP = (
    "Confidence and variability: mean and standard deviation of the gold label's probability after each of {} epochs. "
    "Ambiguous: most variable; hard: least confident, often label errors; easy: most confident."
)


def write_diagnosis(diagnosis: Diagnosis, folder: Path) -> None:
    """Write the three files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    facts, tables = facts_of(diagnosis), tables_of(diagnosis)
    plots = [_plot(one) for one in diagnosis.maps if one.points]
    page = render(
        "diagnosis.html", title="Diagnosis", facts=facts, notes=diagnosis.notes, tables=tables, plots=plots
    )  # fmt: skip
    write_bytes(folder / PAGE, page)
    notes = {f"Note {number}": note for number, note in enumerate(diagnosis.notes, start=1)}
    write_bytes(folder / MARKDOWN, markdown_page("Diagnosis", facts | notes, tables))
    write_json(folder / VALUES, finite(asdict(diagnosis)))


def facts_of(diagnosis: Diagnosis) -> dict[str, str]:
    """The run, and per set and head its number of errors and the most frequent kinds."""
    return {"Run": diagnosis.run} | {_name(head): _sentence(head) for head in diagnosis.heads}


def tables_of(diagnosis: Diagnosis) -> list[TextTable]:
    """Suspects first, then of each set and head the kinds of error, the labels and the examples; data maps last."""
    tables = [_suspects(one) for one in diagnosis.suspects]
    for head in diagnosis.heads:
        tables += [_kinds(head), _labels(head), _examples(head)]
    return tables + [_part(one, *part) for one in diagnosis.maps for part in PARTS]


def summary_tables(diagnosis: Diagnosis) -> list[TextTable]:
    """Those of the console: kinds of error and the first ten suspects."""
    suspects = [HeadSuspects(one.task, one.head, one.num_labels, one.suspects[:10]) for one in diagnosis.suspects]
    return [*(_kinds(head) for head in diagnosis.heads), *map(_suspects, suspects)]


def summary_facts(diagnosis: Diagnosis) -> dict[str, str]:
    """Those of the console, whose tables have the numbers of each kind."""
    return {"Run": diagnosis.run} | {_name(head): _num_errors(head) for head in diagnosis.heads}


def _name(head: HeadErrors) -> str:
    return f"{head.set}: {head.task}.{head.head}"


def _sentence(head: HeadErrors) -> str:
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in list(head.num_by_kind.items())[:3])
    return _num_errors(head) + (f": {kinds}" if kinds else "")


def _num_errors(head: HeadErrors) -> str:
    return f"{len(head.wrong):,} errors in {head.num_examples:,} examples"


def _kinds(head: HeadErrors) -> TextTable:
    total = len(head.wrong)
    rows = [(kind, f"{number:,}", percent(number / total)) for kind, number in head.num_by_kind.items()]
    note = f"{len(rows) - NUM_KINDS:,} rarer kinds are in {VALUES}." if len(rows) > NUM_KINDS else ""
    columns = ("error", "number", "of all errors")
    return TextTable(f"{_name(head)}: kinds of error", columns, rows[:NUM_KINDS], num_names=1, note=note)


def _labels(head: HeadErrors) -> TextTable:
    kinds = [kind for kind in FIXED_KINDS if any(kind in counts for counts in head.counts.values())]
    rows = []
    for label, counts in sorted(head.counts.items()):
        right, total = counts.get(RIGHT, 0), sum(counts.values())
        wrong = [counts.get(kind, 0) for kind in kinds] or [total - right]
        rows.append((label, *(f"{number:,}" for number in (total, right, *wrong))))
    note = HOW_ENTITIES if {"spurious", "missed"} & {*kinds} and "added" not in kinds else ""
    columns = ("label", "counted", RIGHT, *(kinds or ["wrong"]))
    return TextTable(f"{_name(head)}: errors per label", columns, rows, num_names=1, note=note)


def _examples(head: HeadErrors) -> TextTable:
    rows = [
        (one.kind, one.where, one.text, one.gold, one.predicted, "" if one.weight is None else f"{one.weight:.3g}")
        for kind in head.num_by_kind
        for one in [wrong for wrong in head.wrong if wrong.kind == kind][:NUM_PER_KIND]
    ][:NUM_PER_HEAD]
    left_out = len(head.wrong) - len(rows)
    note = f"{left_out:,} more are in {VALUES}." if left_out else ""
    columns = ("error", "where", "text", "gold", "predicted", head.weight)
    return TextTable(f"{_name(head)}: examples", columns, rows, num_names=5, note=note)


def _suspects(head: HeadSuspects) -> TextTable:
    rows = [
        (one.where, one.text, one.given, one.predicted, f"{one.probability:.2g}")
        for one in head.suspects[:NUM_SUSPECTS]
    ]
    title = f"train: {head.task}.{head.head}: suspected label errors among {head.num_labels:,}"
    columns = ("where", "text", "given", "predicted", "probability of the given one")
    return TextTable(title, columns, rows, num_names=4, note=HOW_SUSPECTS)


PARTS: tuple[tuple[str, Callable[[MapPoint], float]], ...] = (
    ("ambiguous", lambda point: -point.variability),
    ("hard to learn", lambda point: point.confidence),
    ("easy to learn", lambda point: -point.confidence),
)


def _part(head: HeadMap, name: str, order: Callable[[MapPoint], float]) -> TextTable:
    rows = [
        (one.where, one.text, one.gold, f"{one.confidence:.3f}", f"{one.variability:.3f}")
        for one in sorted(head.points, key=order)[:NUM_POINTS]
    ]
    columns = ("where", "text", "gold", "confidence", "variability")
    note = HOW_MAP.format(head.num_epochs)
    return TextTable(f"train: {head.task}.{head.head}: {name}", columns, rows, num_names=3, note=note)


def _plot(head: HeadMap) -> Plot:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5))
    axes = figure.subplots()
    confidences = [point.confidence for point in head.points]
    axes.scatter([point.variability for point in head.points], confidences, c=confidences, cmap="coolwarm_r", s=6)
    axes.set_xlabel("variability")
    axes.set_ylabel("confidence")
    axes.set_ylim(0, 1)
    title = f"Data map of {head.task}.{head.head}"
    caption = (
        f"One point per label of train, {len(head.points):,} in all. Top left: easy; right: ambiguous; bottom: hard."
    )
    return Plot("data_map", title, caption, png_of(figure))

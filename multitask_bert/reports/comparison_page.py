"""A comparison of two runs as tables: on the console, as `comparison.html`, `comparison.md` and `comparison.json`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from multitask_bert.reports.comparison import Comparison, HeadComparison
from multitask_bert.reports.pages import TextTable, render
from multitask_bert.reports.text_files import markdown_page
from multitask_bert.utils.files import finite, write_bytes, write_json

PAGE, MARKDOWN, VALUES = "comparison.html", "comparison.md", "comparison.json"
NUM_FLIPS = {"console": 10, "page": 1000}  # shown of each head; comparison.json has all
TITLE = "Run B compared with run A"
HOW = (
    "Gain: of B over A, with its 95% interval: paired bootstrap over examples. B is better or worse where the interval "
    "lies on one side of 0. McNemar: the exact p-value of the two numbers before it. Of several heads, one in twenty "
    "looks better or worse by chance."
)


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write the three files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    facts, tables = facts_of(comparison), tables_of(comparison, NUM_FLIPS["page"])
    page = render("tables.html", title=TITLE, facts=facts, notes=comparison.notes, plots=[], tables=tables)
    write_bytes(folder / PAGE, page)
    write_bytes(folder / MARKDOWN, markdown_page(TITLE, facts | _numbered(comparison.notes), tables))
    write_json(folder / VALUES, finite(asdict(comparison)))


def facts_of(comparison: Comparison) -> dict[str, str]:
    """The names of both runs, and a verdict per head in a sentence."""
    verdicts = {f"{_name(head)}": sentence(head) for head in comparison.heads}
    return {"Run A": comparison.run_a, "Run B": comparison.run_b, **verdicts}


def sentence(head: HeadComparison) -> str:
    """As in `B is better: f1 0.612 -> 0.640, gain 0.028 [0.004, 0.051]`."""
    if head.metric is None or head.interval is None:
        return head.verdict
    what = {"better": "B is better", "worse": "B is worse"}.get(head.verdict, head.verdict)
    return f"{what}: {head.metric} {_number(head.score_a)} -> {_number(head.score_b)}, gain {_gain(head)}"


def tables_of(comparison: Comparison, num_flips: int) -> list[TextTable]:
    """Heads, settings and flipped examples; `num_flips`: of each head."""
    heads = TextTable(
        "Scores on the same test examples",
        ("head", "metric", "verdict on B", "examples", "A", "B", "gain", "only A right", "only B right", "McNemar"),
        [_head_row(head) for head in comparison.heads],
        num_names=3,
        note=HOW,
    )
    settings = TextTable("Settings that differ", ("setting", "A", "B"), comparison.settings, num_names=3)
    return [heads, settings, _flips(comparison, num_flips)]


def _head_row(head: HeadComparison) -> tuple[str, ...]:
    only = ["" if number is None else f"{number:,}" for number in (head.only_a_right, head.only_b_right)]
    return (
        _name(head), head.metric or "", head.verdict, f"{head.num_examples:,}", _number(head.score_a),
        _number(head.score_b), _gain(head), *only, "" if head.mcnemar_p is None else f"{head.mcnemar_p:.2g}",
    )  # fmt: skip


def _flips(comparison: Comparison, limit: int) -> TextTable:
    counts: dict[tuple[str, str, str], int] = {}
    rows = []
    for flip in comparison.flips:
        key = flip.set, flip.task, flip.head
        counts[key] = counts.get(key, 0) + 1
        if counts[key] <= limit:
            name = f"{flip.task}.{flip.head}{flip.set.removeprefix('test')}"
            rows.append((name, flip.right, flip.where, flip.text, flip.gold, flip.answer_a, flip.answer_b))
    note = "Of tags, the words are shown for which gold, A and B are not all the same."
    if left_out := len(comparison.flips) - len(rows):
        note += f" {left_out:,} more are in {VALUES}."
    columns = ("head", "right", "where", "text", "gold", "A", "B")
    return TextTable("Examples that only one run gets right", columns, rows, num_names=7, note=note if rows else "")


def _name(head: HeadComparison) -> str:
    return f"{head.task}.{head.head}{head.set.removeprefix('test')}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _gain(head: HeadComparison) -> str:
    if head.gain is None or head.interval is None:
        return ""
    return f"{head.gain:+.4f} [{head.interval[0]:+.4f}, {head.interval[1]:+.4f}]"


def _numbered(notes: list[str]) -> dict[str, str]:
    return {f"Note {number}": note for number, note in enumerate(notes, start=1)}

"""Tables as Markdown and as CSV, for text from data and configs: no cell becomes markup, HTML or a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from multitask_bert.reports.pages import TextTable
from multitask_bert.utils.visible import on_one_line

MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")
NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?", re.IGNORECASE)


def markdown_page(title: str, facts: dict[str, str], tables: Sequence[TextTable]) -> bytes:
    """A page with a list of facts and the tables that have rows."""
    lines = [
        f"# {escaped(title)}",
        "",
        *(f"- {escaped(name)}: {escaped(fact)}" for name, fact in facts.items() if fact),
    ]
    for table in tables:
        if table.rows:
            lines += ["", f"## {escaped(table.title)}", "", *markdown_table(table)]
        if table.note:
            lines += ["", escaped(table.note)]
    return ("\n".join(lines) + "\n").encode(errors="replace")


def markdown_table(table: TextTable) -> list[str]:
    """The lines of a table."""
    line = [":--" if index < table.num_names else "--:" for index in range(len(table.columns))]
    rows = [[escaped(cell) for cell in row] for row in (table.columns, *table.rows)]
    return ["| " + " | ".join(row) + " |" for row in (rows[0], line, *rows[1:])]


def escaped(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return MARKUP.sub(r"\\\1", on_one_line(text))


def csv_file(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """A CSV file; a cell that a spreadsheet would take for a formula begins with an apostrophe."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([_no_formula(cell) for cell in row] for row in (columns, *rows))
    return file.getvalue().encode(errors="replace")


def _no_formula(cell: str) -> str:
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not NUMBER.fullmatch(cell) else cell

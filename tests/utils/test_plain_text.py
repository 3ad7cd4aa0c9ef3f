"""Names from somebody else's data on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from multitask_bert.utils.plain_text import as_cell, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]52;c;ZXZpbA==\x07", r"\x1b]52;c;ZXZpbA==\x07"),  # writes to the clipboard
        ("a\rb\x9bc", r"a\rb\x9bc"),
        ("\u202egnirts", r"\u202egnirts"),
        ("Ñandú, nzuri\tsana 🙂\n[red]", "Ñandú, nzuri\tsana 🙂\n[red]"),
    ],
)
def test_a_terminal_obeys_no_name(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_cell_of_a_table_is_no_markup() -> None:
    table, file = Table(), io.StringIO()
    table.add_column("labels")
    table.add_row(as_cell("[red]x[/b] [link=file:///etc/passwd]y"))
    Console(file=file, width=80, force_terminal=True).print(table)
    assert "[red]x[/b] [link=file:///etc/passwd]y" in file.getvalue()

"""Names and labels from data and configs, as a terminal is to show them: as they are, and commanding nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

# Control characters but line feed and tab, and those that turn the direction of what follows.
COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """With an escape, as in `\\x1b`, for each character that a terminal would obey."""
    return COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def as_cell(text: str) -> Text:
    """For a table of rich, which takes `[red]` and `[/b]` in a plain string for markup."""
    from rich.text import Text

    return Text(printable(text))

"""Text from data or config made safe to show: a control character appears as its escape."""

from __future__ import annotations

import logging
import re

# C0 and C1 without tab and newline, DEL, line separators, what turns the direction of text, halves of surrogate pairs.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""The text with `\x1b` for an escape character and the like; tabs and newlines stay."""
    return CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def on_one_line(text: str) -> str:
    r"""As `visible`, with `\t` and `\n` too: for a cell of a table, or a line of its own."""
    return visible(text).replace("\t", r"\t").replace("\n", r"\n")


class VisibleFormatter(logging.Formatter):
    """Formats log records for a terminal, or for a file that is read in one."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))

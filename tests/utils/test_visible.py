"""Text from data shows its control characters, and nothing obeys them."""

from __future__ import annotations

import logging

import pytest

from multitask_bert.utils.visible import VisibleFormatter, on_one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("bell \x07, carriage\rreturn, delete \x7f", r"bell \x07, carriage\rreturn, delete \x7f"),
        ("one-byte \x9b31m", r"one-byte \x9b31m"),
        ("turned \u202eround\u2066", r"turned \u202eround\u2066"),
        ("half a pair \ud83d", r"half a pair \ud83d"),
        ("line\u2028line", r"line\u2028line"),
    ],
)
def test_a_control_character_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert visible(text) == on_one_line(text) == shown


@pytest.mark.parametrize("text", ["colère", "👩‍🚀 😂", "سلام", r"C:\new", "[red]:joy:$x$", ""])
def test_all_other_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == on_one_line(text) == text


def test_newlines_and_tabs_stay_but_on_one_line() -> None:
    assert visible("a\n\tb") == "a\n\tb"
    assert on_one_line("a\n\tb") == r"a\n\tb"


def test_log_lines_and_tracebacks_show_control_characters() -> None:
    try:
        raise ValueError("\x1b[2J")
    except ValueError as error:
        record = logging.LogRecord(
            "x", 20, "", 1, "%s", ("\x1b]0;title\x07",), (ValueError, error, error.__traceback__)
        )
    lines = VisibleFormatter("%(message)s").format(record).splitlines()
    assert (lines[0], lines[-1]) == (r"\x1b]0;title\x07", r"ValueError: \x1b[2J")

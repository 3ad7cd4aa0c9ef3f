"""What is printed cannot end what prints it, and text is shown as it is."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from multitask_bert.utils.terminal import TolerantStream, make_console, tolerant

needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("text", ["[neg]", "[/s]", "[bold]x[/bold]", ":joy:", "[link=file:///x]", "$x_1$"])
@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_markup_and_emoji_codes_in_text_are_text(text: str, kind: type[io.StringIO]) -> None:
    file = kind()
    console = make_console(file)
    table = Table("label", title=text)
    table.add_row(text)
    console.print(text)
    console.print(table)
    assert file.getvalue().count(text) == 3


def test_control_characters_in_lines_and_cells_are_shown() -> None:
    file = io.StringIO()
    table = Table("label")
    table.add_row("\x1b[31mred")
    make_console(file).print("\x1b]0;title\x07")
    make_console(file).print(table)
    assert "\x1b" not in file.getvalue()
    assert r"\x1b]0;title\x07" in file.getvalue()
    assert r"\x1b[31mred" in file.getvalue()


def test_characters_that_the_encoding_lacks_are_written_as_escapes() -> None:
    raw = io.BytesIO()
    stream = tolerant(io.TextIOWrapper(raw, encoding="ascii"))
    stream.write("colère 😂 ok\n")
    stream.flush()
    assert raw.getvalue() == rb"col\xe8re \U0001f602 ok" + b"\n"


@needs_full
def test_a_full_disk_gives_one_warning_and_the_rest_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as file, caplog.at_level(logging.WARNING):
        console = make_console(file)
        for _ in range(3):
            console.print("hello")
    assert [record.getMessage() for record in caplog.records] == [
        "/dev/full cannot be written (No space left on device); the work goes on without it"
    ]


def test_a_pipe_that_nobody_reads_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    read, write = os.pipe()
    os.close(read)
    with (
        os.fdopen(write, "w", encoding="utf-8") as file,
        caplog.at_level(logging.WARNING),
    ):  # closing it flushes it, too
        make_console(file).print("hello")
        make_console(file).print("hello")  # and when it is closed, it is flushed once more
    assert "(Broken pipe)" in caplog.records[0].getMessage()


def test_a_closed_stream_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    file = io.StringIO()
    console = make_console(file)
    file.close()
    console.print("hello")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "cannot be written" in warning


def test_a_tolerant_stream_is_the_stream_in_all_else(tmp_path: Path) -> None:
    with (tmp_path / "x").open("w", encoding="utf-8") as file:
        stream: Any = tolerant(file)
        assert (stream.fileno(), stream.encoding, stream.isatty()) == (file.fileno(), "utf-8", False)
        assert tolerant(stream) is stream
        assert stream.write("four") == 4
    assert isinstance(stream, TolerantStream)
    assert tolerant(None) is None

"""Shared by the readers of text files: decoding, line by line or as a whole; blanks; values in error messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from multitask_bert.errors import InputError

BLANKS = " \t\r\n\v\f"


def read_lines(path: Path, encoding: str, *, newline: str = "\n") -> Iterator[str]:
    """The lines of a file with their ends, one at a time, so that it is never in memory as a whole.

    `newline`: as in `open`. Lines end at LF; where it is "", at CR alone as well. Not str.splitlines: it also breaks at
    U+2028, U+0085 and others, which are data.

    Raises:
        InputError: as `read_text`; for a bad byte, after the lines before it.
    """
    blank: list[str] | None = []  # lines before the first that is not; None after it
    try:
        with path.open(encoding=_without_mark(encoding), newline=newline) as file:
            for line in file:
                if blank is not None:
                    blank.append(line)
                    if not line.strip():
                        continue
                    yield from blank
                    blank = None
                else:
                    yield line
    except (OSError, LookupError, ValueError) as error:
        read_text(path, encoding)  # its error names the line
        raise InputError(f"{path}: is not {encoding} ({error}); name the file's encoding (`encoding: …`)") from error
    if blank is not None:
        raise _is_empty(path)


def read_text(path: Path, encoding: str) -> str:
    """The whole file, a byte order mark removed.

    Raises:
        InputError: the file cannot be opened, is empty, or is in another encoding (names the first bad byte).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check its name and permissions, or name another file"
        ) from error
    try:
        text = content.decode(_without_mark(encoding))
    except LookupError as error:
        raise InputError(
            f"{path}: `encoding: {encoding}` is not an encoding that Python knows; name one, as in `encoding: latin-1`"
        ) from error
    except UnicodeDecodeError as error:
        decoded = error.object  # without the byte order mark, unlike `content`
        line = decoded[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: byte 0x{decoded[error.start]:02x} is not {encoding}; convert the file, or name its "
            f"encoding in the task's source (`encoding: latin-1`, `cp1252`, `utf-16`, …)"
        ) from error
    except ValueError as error:  # an encoding whose error has no position
        raise InputError(f"{path}:1: is not {encoding} ({error}); name the file's encoding (`encoding: …`)") from error
    if not text.strip():
        raise _is_empty(path)
    return text


def _without_mark(encoding: str) -> str:
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def _is_empty(path: Path) -> InputError:
    return InputError(f"{path}: the file is empty; put the data there, or name another file")


def without_end(line: str) -> str:
    """A line without its end, LF or CRLF."""
    return line.removesuffix("\n").removesuffix("\r")


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 column`, `2 columns`."""
    return f"{number} {noun}" if number == 1 else f"{number} {plural or f'{noun}s'}"


def is_blank(text: str) -> bool:
    """Whether it has only ASCII spaces and line ends; any other white space can be a word, and be tagged."""
    return not text.strip(BLANKS)


def shown(value: object, *, width: int = 60) -> str:
    """A value in an error: quoted, and no longer than `width`."""
    text = repr(value)
    return text if len(text) <= width else f"{text[:width]}…"

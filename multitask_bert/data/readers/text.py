"""What the readers of text files share: the whole text in its encoding, its lines, and counts in words."""

from __future__ import annotations

from pathlib import Path

from multitask_bert.config import InputError


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
        text = content.decode("utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding)
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
    except ValueError as error:  # an encoding without positions: its own words have to do
        raise InputError(f"{path}:1: is not {encoding} ({error}); name the file's encoding (`encoding: …`)") from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty; put the data there, or name another file")
    return text


def lines_of(text: str) -> list[str]:
    """Without their ends (LF or CRLF). Not str.splitlines: it breaks at U+2028, U+0085 and others, which are data."""
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]


def count(number: int, noun: str) -> str:
    """`1 column`, `2 columns`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def shown(value: object, *, width: int = 60) -> str:
    """A value in an error: quoted, and no longer than `width`."""
    text = repr(value)
    return text if len(text) <= width else f"{text[:width]}…"

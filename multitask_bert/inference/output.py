"""Predictions as lines of JSON, in a file or on standard output; no more than a line is kept in memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from multitask_bert.errors import InputError
from multitask_bert.utils.files import finite
from multitask_bert.utils.terminal import discard

CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}  # JSON leaves them unescaped, and terminals obey them


@contextmanager
def open_output(path: str | None) -> Iterator[BinaryIO]:
    """The file at `path`, overwritten; None: standard output.

    Raises:
        InputError: it cannot be written.
    """
    if path is None:
        if sys.stdout is None:
            raise InputError("output=null: standard output is closed; name a file")
        yield cast(BinaryIO, sys.stdout.buffer)
        return
    try:
        file = Path(path).open("wb")  # noqa: SIM115  # closed below; what happens while it is open is not our error
    except OSError as error:
        raise InputError(f"output={path}: cannot be written ({error.strerror})") from error
    with file:
        yield file


def write_lines(records: Iterable[dict[str, Any]], file: BinaryIO) -> int:
    """Write each record as a line of JSON as soon as it comes, and return their number.

    NaN and infinity, which JSON lacks, become null.

    Raises:
        InputError: a line cannot be written; those before it are.
        BrokenPipeError: the reader has closed the pipe.
    """
    count = 0
    for record in records:
        try:
            line = json.dumps(record, ensure_ascii=False, allow_nan=False)
        except ValueError:
            try:
                line = json.dumps(finite(record), ensure_ascii=False)
            except RecursionError as error:
                raise InputError(f"prediction {count + 1}: a key of the input is nested too deeply") from error
        try:
            file.write(line.translate(CONTROLS).encode(errors="backslashreplace") + b"\n")
            file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            discard(file)  # else what is left in its buffer fails again on exit
            where = {"<stdout>": "standard output"}.get(str(file.name), file.name)
            raise InputError(
                f"{where}: prediction {count + 1:,} cannot be written ({error.strerror}), those before it are"
            ) from error
        count += 1
    return count

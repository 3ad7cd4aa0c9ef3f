"""Predictions as lines of JSON, in a file or on standard output; no more than a line is kept in memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from multitask_bert.errors import InputError
from multitask_bert.utils.files import finite, replacing
from multitask_bert.utils.terminal import discard

CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}  # JSON leaves them unescaped, and terminals obey them


@contextmanager
def open_output(path: str | None, *, is_whole: bool = False) -> Iterator[BinaryIO]:
    """The file at `path`, overwritten; None: standard output.

    `is_whole`: a file gets its name once it is complete; on an error, nothing is left of it, and an earlier one stays.

    Raises:
        InputError: it cannot be written.
    """
    if path is None:
        if sys.stdout is None:
            raise InputError("output=null: standard output is closed; name a file")
        yield cast(BinaryIO, sys.stdout.buffer)
        return
    target = Path(path)
    is_replaced = is_whole and (target.is_file() or not target.exists())  # others, as /dev/null, stay what they are
    with ExitStack() as opened:
        try:  # of a link, the file that it names is replaced
            file = opened.enter_context(replacing(target.resolve()) if is_replaced else target.open("wb"))
        except OSError as error:
            raise InputError(f"output={path}: cannot be written ({error.strerror})") from error
        yield file


def write_lines(records: Iterable[dict[str, Any]], file: BinaryIO, *, whole: str | None = None) -> int:
    """Write each record as a line of JSON as soon as it comes, and return their number.

    NaN and infinity, which JSON lacks, become null. `whole`: the path of a file of which nothing is left on an error.

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
            where = whole or {"<stdout>": "standard output"}.get(str(file.name), file.name)
            what_is_left = "so none is kept" if whole else "those before it are"
            raise InputError(
                f"{where}: prediction {count + 1:,} cannot be written ({error.strerror}), {what_is_left}"
            ) from error
        count += 1
    return count

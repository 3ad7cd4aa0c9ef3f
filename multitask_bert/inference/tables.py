"""Rows of .csv and .tsv files as inputs, by the columns that their header names."""

from __future__ import annotations

import csv
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from multitask_bert.data.readers.delimited import MAX_FIELD_LENGTH
from multitask_bert.errors import InputError
from multitask_bert.inference.columns import Columns, listed, pick, read_record
from multitask_bert.inference.inputs import Input

log = logging.getLogger(__name__)

UTF_8 = "utf-8"

Row = tuple[int, list[str]]  # the line on which it begins, and its fields


def read_table(rows: Iterator[Row], name: str, known: Sequence[Columns]) -> Iterator[Input]:
    """One input per row after the header; of `known`, the columns that the header has. `name`: of the file, for errors.

    Raises:
        InputError: names file and line; all inputs before it have been given.
    """
    header_line, header = next(rows, (1, []))
    header = [column.strip() for column in header]
    header = list(
        _with_unique_names(header, {name for one in known for names in one.values() for name in listed(names)})
    )
    columns = pick(known, dict.fromkeys(header))
    if columns is None:
        wanted = " or ".join(dict.fromkeys(str(next(iter(one.values()))) for one in known if "question" not in one))
        raise InputError(f"{name}:{header_line}: the header needs a column {wanted} (it has: {', '.join(header)})")
    used = {column for names in columns.values() for column in listed(names)}
    if twice := [column for column in used if header.count(column) > 1]:
        raise InputError(f"{name}:{header_line}: two columns have the same name '{twice[0]}'; rename one of them")
    for line, row in rows:
        where = f"{name}:{line}"
        if len(row) != len(header):
            raise InputError(
                f"{where}: {len(row)} fields where the header names {len(header)}; correct the line, or quote "
                f'a field that holds the delimiter (`"a, b"`)'
            )
        record = dict(zip(header, row, strict=True))
        yield read_record({**record, **{column: record[column].strip() for column in used}}, columns, where)


def plain_rows(lines: Iterator[str]) -> Iterator[Row]:
    """Rows in which a `"` is data; blank lines are skipped."""
    for number, line in enumerate(lines, start=1):
        if line := line.rstrip("\r\n"):
            yield number, line.split("\t")


def quoted_rows(lines: Iterator[str], name: str, delimiter: str) -> Iterator[Row]:
    """Rows whose fields may be quoted; blank lines are skipped.

    Raises:
        InputError: a quoted field is not well formed; names file and line.
    """
    csv.field_size_limit(MAX_FIELD_LENGTH)
    parts = (part for line in lines for part in re.split(r"(?<=\r)(?!\n)", line) if part)  # CR alone ends a row, too
    rows = csv.reader(parts, delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in rows:
            if row:
                yield line, row
            line = rows.line_num + 1
    except csv.Error as error:
        raise InputError(f'{name}:{line}: {error}; inside a quoted field a `"` is written twice') from error


def is_quoted(file: BinaryIO, name: str, encoding: str) -> bool:
    """Whether a .tsv is well formed if a `"` that begins a field quotes it; True for a stream, which is read only once.

    It is not well formed where a field continues after its closing `"`, has none, or contains lines that are rows by
    themselves.
    """
    if not file.seekable():
        return True
    row_lines: list[str] = []  # the lines of the row that is being read
    csv.field_size_limit(MAX_FIELD_LENGTH)
    rows = csv.reader(_recorded(file, name, row_lines, encoding), delimiter="\t", strict=True)
    line = 1
    is_well_formed = True
    try:
        width = 0  # of the header
        for row in rows:
            width = width or len(row)
            if len(row_lines) > 1 and width > 1 and all(one.count("\t") == width - 1 for one in row_lines):
                is_well_formed = False
                break
            line = rows.line_num + 1
            row_lines.clear()
    except csv.Error:
        is_well_formed = False
    file.seek(0)
    if not is_well_formed:
        log.warning('%s:%d: not quoted as a table is, so every `"` in the file is read as data', name, line)
    return is_well_formed


def _recorded(file: BinaryIO, name: str, lines: list[str], encoding: str) -> Iterator[str]:
    """The lines of the file, each also appended to `lines`; bad bytes are replaced here and reported later."""
    if encoding != UTF_8:
        with Path(name).open(encoding=encoding, errors="replace", newline="\n") as text:
            for one in text:
                lines.append(one)
                yield one
        return
    for number, line in enumerate(file, start=1):
        lines.append(line.decode("utf-8-sig" if number == 1 else "utf-8", "replace"))
        yield lines[-1]


def _with_unique_names(header: Sequence[str], kept: Collection[str]) -> Iterator[str]:
    """Repeated names get a number (`id`, `id.1`), except those in `kept`."""
    taken = Counter(header)
    for index, name in enumerate(header):
        numbered, number = name, 0
        while name not in kept and (numbered in header[:index] if number == 0 else numbered in taken):
            number += 1
            numbered = f"{name}.{number}"
        taken[numbered] += 1
        yield numbered

"""CSV and TSV: rows under a header, quoted or not."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from multitask_bert.config import HeadConfig, InputError, SourceConfig
from multitask_bert.data.readers.records import ExampleMaker
from multitask_bert.data.readers.text import count, read_lines
from multitask_bert.records import Example

MAX_FIELD_LENGTH = 2**31 - 1  # characters; Python stops at 131,072 where nothing is said


def read_csv(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """Comma-separated with a header; fields may be quoted and then hold commas and line breaks."""
    return _delimited(path, source, heads, _quoted_rows(path, source.encoding, ","))


def read_tsv(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """Tab-separated with a header; quoted like CSV, or (`quoted: false`) with `"` as data."""
    rows = _quoted_rows(path, source.encoding, "\t") if source.quoted else _plain_rows(path, source.encoding)
    return _delimited(path, source, heads, rows)


def _quoted_rows(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each begins; blank lines are passed over."""
    csv.field_size_limit(MAX_FIELD_LENGTH)
    lines: list[str] = []  # of the row that is being read
    rows = csv.reader(_kept(read_lines(path, encoding, newline=""), lines), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in rows:
            if delimiter == "\t" and _are_rows_of_their_own(lines, len(row)):
                raise InputError(
                    f'{path}:{line}: a `"` makes one row of lines {line} to {rows.line_num}, though each is whole; '
                    f'if `"` is plain data in this file, set `quoted: false`; if not, put spaces for tabs inside quotes'
                )
            if row:
                yield line, row
            line = rows.line_num + 1
            lines.clear()
    except csv.Error as error:
        raise InputError(
            f'{path}:{line}: {error}; inside a quoted field a `"` is written twice; if `"` is plain data in this '
            f"file, set `format: tsv` and `quoted: false`"
        ) from error


def _kept(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    """The same lines, each put into `kept` as it goes by."""
    for line in lines:
        kept.append(line)
        yield line


def _are_rows_of_their_own(lines: Sequence[str], width: int) -> bool:
    """Whether an opening `"` that is data has swallowed rows up to the next one: read plainly, every line is whole."""
    return len(lines) > 1 and width > 1 and all(line.count("\t") == width - 1 for line in lines)


def _plain_rows(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if line := line.rstrip("\r\n"):
            yield number, line.split("\t")


def _delimited(
    path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig], rows: Iterator[tuple[int, list[str]]]
) -> Iterator[Example]:
    header_line, header = next(rows)
    columns = [name.strip() for name in header]
    make = ExampleMaker(source, heads, f"{path}:{header_line}", columns)
    make.check_columns()
    twice = [name for name, number in Counter(columns).items() if number > 1 and name in make.fields.values()]
    if twice:
        raise InputError(f"{path}:{header_line}: two columns have the name '{twice[0]}'; rename one of them")
    is_plain = source.format == "tsv" and not source.quoted
    hint = "fields quoted like CSV need `quoted: true`" if is_plain else 'a `"` in unquoted text needs `quoted: false`'
    for line, row in rows:
        if len(row) != len(columns):
            raise InputError(
                f"{path}:{line}: {count(len(row), 'field')} where the header names {len(columns)}; correct the line, "
                f"or check that the delimiter and `quoted` fit ({hint})"
            )
        yield make(dict(zip(columns, map(str.strip, row), strict=True)), f"{path}:{line}")

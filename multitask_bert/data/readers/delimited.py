"""CSV and TSV: rows, with a header or without, quoted or not."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data.readers.bad_records import BadRecords
from multitask_bert.data.readers.records import ExampleMaker
from multitask_bert.data.readers.text import BLANKS, count, read_lines, shown
from multitask_bert.errors import InputError
from multitask_bert.records import Example

MAX_FIELD_LENGTH = 2**31 - 1  # characters; Python's default limit is 131,072
QUOTED = re.compile(r'"((?:[^"]|"")*)"')  # a whole field that is quoted like CSV
DELIMITERS = ",;\t|"

Row = tuple[int, list[str]]  # the line on which it begins, and its fields


def read_csv(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """Rows separated by `delimiter`; quoted fields may contain delimiters and line breaks."""
    return _delimited(path, source, heads, _quoted_rows(path, source.encoding, source.delimiter))


def read_tsv(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """Tab-separated rows; quoted like CSV, or (`quoted: false`) with `"` as data."""
    rows = _quoted_rows(path, source.encoding, "\t") if source.quoted else _plain_rows(path, source.encoding)
    return _delimited(path, source, heads, rows)


def _quoted_rows(path: Path, encoding: str, delimiter: str) -> Iterator[Row]:
    """Rows with the line on which each begins; blank lines are skipped.

    Raises:
        InputError: for a `csv.Error`; or, between tabs, `"` is plain data in this file.
    """
    csv.field_size_limit(MAX_FIELD_LENGTH)
    lines: list[str] = []  # of the row that is being read
    rows = csv.reader(_kept(read_lines(path, encoding, newline=""), lines), delimiter=delimiter, strict=True)
    line = 1
    quotes = _Quotes()
    try:
        for row in rows:
            if delimiter == "\t" and _are_rows_of_their_own(lines, len(row)):
                raise InputError(
                    f'{path}:{line}: a `"` makes one row of lines {line} to {rows.line_num}, though each is whole; '
                    f'if `"` is plain data in this file, set `quoted: false`; if not, put spaces for tabs inside quotes'
                )
            if row:
                if delimiter == "\t":
                    quotes.see(line, lines)
                yield line, row
            line = rows.line_num + 1
            lines.clear()
    except csv.Error as error:
        raise InputError(
            f'{path}:{line}: {error}; inside a quoted field a `"` is written twice; if `"` is plain data in this '
            f"file, set `format: tsv` and `quoted: false`"
        ) from error
    if quotes.are_data and quotes.first_needless is not None:
        number, field = quotes.first_needless
        raise InputError(
            f'{path}:{number}: the field {shown(field)} would lose its `"`, which seem to be data: no field needs '
            f'them, and others hold a `"` without being quoted; set `quoted: false`, or leave out these `"`'
        )


def _kept(lines: Iterable[str], kept: list[str]) -> Iterator[str]:
    """The same lines, each also appended to `kept`."""
    for line in lines:
        kept.append(line)
        yield line


def _are_rows_of_their_own(lines: Sequence[str], width: int) -> bool:
    """Whether an opening `"` that is data has joined rows up to the next one: unquoted, every line is a whole row."""
    return len(lines) > 1 and width > 1 and all(line.count("\t") == width - 1 for line in lines)


def _plain_rows(path: Path, encoding: str) -> Iterator[Row]:
    """Rows with their line; blank lines are skipped.

    Raises:
        InputError: after the last row: the file is quoted like CSV.
    """
    quotes = _Quotes()
    for number, line in enumerate(read_lines(path, encoding), start=1):
        if line := line.rstrip("\r\n"):
            quotes.see(number, [line])
            yield number, line.split("\t")
    if quotes.enclose and quotes.first_needed is not None:
        number, field = quotes.first_needed
        raise InputError(
            f'{path}:{number}: the field {shown(field)} is quoted like CSV, as each field here that begins with a `"`: '
            f"those inside are written twice; set `quoted: true`"
        )


class _Quotes:
    """Finds out whether the `"` in a tab-separated file enclose fields, or are data.

    In a quoted file every field that contains a `"` is enclosed, and those inside are written twice.
    """

    def __init__(self) -> None:
        self.first_needed: tuple[int, str] | None = None  # field in quotes that has `""` inside, with its line
        self.first_needless: tuple[int, str] | None = None  # field in quotes that would be the same without
        self.has_broken = False  # a field begins with `"` and is not one that quotes enclose
        self.has_inner = False  # a field holds `"` and does not begin with it
        self.has_long = False  # a quoted field holds a delimiter or a line break

    def see(self, number: int, lines: Sequence[str]) -> None:
        """Look at the lines of a row, which begins on line `number`."""
        if len(lines) > 1:
            self.has_long = True
        elif '"' in lines[0]:
            for field in lines[0].rstrip("\r\n").split("\t"):
                self._see_field(number, field)

    def _see_field(self, number: int, field: str) -> None:
        if not field.startswith('"'):
            self.has_inner |= '"' in field
        elif (match := QUOTED.fullmatch(field)) is None:
            self.has_broken = True
        elif '"' in match[1]:
            self.first_needed = self.first_needed or (number, field)
        else:
            self.first_needless = self.first_needless or (number, field)

    @property
    def enclose(self) -> bool:
        return self.first_needed is not None and not self.has_broken and not self.has_inner

    @property
    def are_data(self) -> bool:
        return self.has_inner and self.first_needed is None and not self.has_broken and not self.has_long


def _delimited(
    path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig], rows: Iterator[Row]
) -> Iterator[Example]:
    first_line, first = next(rows)
    width = len(first)
    if source.header:
        columns = [unicodedata.normalize("NFC", name.strip()) for name in first]
    else:
        columns = [str(number) for number in (*range(width), *range(-width, 0))]
    is_plain = source.format == "tsv" and not source.quoted
    hint = "fields quoted like CSV need `quoted: true`" if is_plain else 'a `"` in unquoted text needs `quoted: false`'
    first_has = "header names" if source.header else "first line has"
    with BadRecords(path, source) as bad:
        make = ExampleMaker(source, heads, f"{path}:{first_line}", columns, bad=bad, hint=_hint(first, source))
        make.check_columns()
        twice = [name for name, number in Counter(columns).items() if number > 1 and name in make.fields.values()]
        if twice:
            raise InputError(f"{path}:{first_line}: two columns have the name '{twice[0]}'; rename one of them")
        for line, row in rows if source.header else _before(rows, (first_line, first)):
            with bad.caught():
                if len(row) != width:
                    raise InputError(
                        f"{path}:{line}: {count(len(row), 'field')} where the {first_has} {width}; correct the line, "
                        f"or check that the delimiter and `quoted` fit ({hint})"
                    )
                fields = [_stripped(field, source) for field in row]
                if not source.header:
                    fields *= 2  # under both of their numbers
                example = make(dict(zip(columns, fields, strict=True)), f"{path}:{line}")
                if bad.lets_through:
                    yield example


def _before(rows: Iterator[Row], first: Row) -> Iterator[Row]:
    yield first
    yield from rows


def _stripped(field: str, source: SourceConfig) -> str:
    """The field without white space around it; in a field of words, only what cannot be a word is stripped."""
    return field.strip() if source.words is None else field.strip(BLANKS)


def _hint(first: Sequence[str], source: SourceConfig) -> str:
    """The likely cause where a column is not found in the first line."""
    if not source.header:
        return ""
    used = source.delimiter if source.format == "csv" else "\t"
    other = next((one for one in DELIMITERS if one != used and len(first) == 1 and one in first[0]), None)
    if other is not None:
        how = "`format: tsv`" if other == "\t" else f'`format: csv` and `delimiter: "{other}"`'
        return f"; the fields seem to be separated by {shown(other)}, for which set {how}"
    if any(QUOTED.fullmatch(name.strip()) for name in first):
        return "; the names are quoted like CSV, for which set `quoted: true`"
    return "; if the file has no header, set `header: false` and name columns by number, from 0"

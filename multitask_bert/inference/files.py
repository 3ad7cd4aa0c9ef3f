"""Files and standard input as a stream of inputs, and predictions as lines of JSON; no more than a line is kept."""

from __future__ import annotations

import csv
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from multitask_bert.config import InputError
from multitask_bert.data.readers.delimited import MAX_FIELD_LENGTH
from multitask_bert.inference.columns import Columns, of_objects, of_tables, pick, read_record
from multitask_bert.inference.inputs import Input, read_input
from multitask_bert.utils.files import finite
from multitask_bert.utils.terminal import discard

log = logging.getLogger(__name__)

STANDARD_INPUT = "-"
FORMATS = "a .csv, .tsv or .jsonl file, a text file with one text per line, or - for standard input"
CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}  # which JSON leaves as they are, and terminals obey
NOT_READ = (".json", ".parquet", ".xlsx", ".xls", ".gz", ".zip", ".zst", ".bz2", ".xz")


def open_input(place: str) -> BinaryIO:
    """The bytes that `place` names.

    Raises:
        InputError: no such file, or of a format that is not read.
    """
    if place == STANDARD_INPUT:
        return sys.stdin.buffer
    path = Path(place)
    if path.suffix.lower() in NOT_READ:
        raise InputError(f"input={place}: {path.suffix} is not read; give {FORMATS}")
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"input={place}: cannot be read ({error.strerror}); give {FORMATS}") from error


def read_inputs(
    file: BinaryIO, place: str, *, columns: Sequence[Columns] = (), is_tsv_quoted: bool = True
) -> Iterator[Input]:
    """One input per line or row, as the file's name tells its format.

    .jsonl: an object or a string per line. .csv and .tsv: rows under a header. Others: a text per line, an empty one
    too. From standard input, a line that begins with `{` is JSON, and others are texts. `columns`: what the run's own
    tasks call their texts, in tables and objects; those that find the most texts are read. `is_tsv_quoted=False`: a
    `"` in a .tsv is data. Otherwise it is, too, if the file read through as quoted is not well formed.

    Raises:
        InputError: names file and line; everything before it has been given.
    """
    name = "standard input" if place == STANDARD_INPUT else place
    suffix = "" if place == STANDARD_INPUT else Path(place).suffix.lower()
    lines = _decoded(file, name)
    if suffix in (".csv", ".tsv"):
        rows = _quoted_rows(lines, name, "," if suffix == ".csv" else "\t")
        if suffix == ".tsv" and not (is_tsv_quoted and _is_quoted(file, name)):
            rows = ((number, line.rstrip("\r\n").split("\t")) for number, line in enumerate(lines, start=1))
        yield from _table(rows, name, of_tables(columns))
        return
    known = of_objects(columns)
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n")
        is_json = suffix in (".jsonl", ".ndjson") or (place == STANDARD_INPUT and line.startswith("{"))
        if is_json and line.strip():
            yield _read_value(_json(line, f"{name}:{number}"), known, f"{name}:{number}")
        elif not is_json:
            yield read_input(line, f"{name}:{number}")


@contextmanager
def open_output(place: str | None) -> Iterator[BinaryIO]:
    """The file that `place` names, made anew; None: standard output.

    Raises:
        InputError: it cannot be written.
    """
    if place is None:
        yield cast(BinaryIO, sys.stdout.buffer)
        return
    try:
        file = Path(place).open("wb")  # noqa: SIM115  # closed below; what happens while it is open is not our error
    except OSError as error:
        raise InputError(f"output={place}: cannot be written ({error.strerror})") from error
    with file:
        yield file


def write_lines(records: Iterable[dict[str, Any]], file: BinaryIO) -> int:
    """Each record as a line of JSON, at once; how many there were. NaN and infinity, which JSON lacks, become null.

    Raises:
        InputError: a line cannot be written; those before it are.
        BrokenPipeError: nobody reads them any more.
    """
    count = 0
    for record in records:
        try:
            line = json.dumps(record, ensure_ascii=False, allow_nan=False)
        except ValueError:
            line = json.dumps(finite(record), ensure_ascii=False)
        try:
            file.write(line.translate(CONTROLS).encode(errors="backslashreplace") + b"\n")
            file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            discard(file)  # else what is left in its buffer fails once more
            where = {"<stdout>": "standard output"}.get(str(file.name), file.name)
            raise InputError(
                f"{where}: prediction {count + 1:,} cannot be written ({error.strerror}), those before it are"
            ) from error
        count += 1
    return count


def _decoded(file: BinaryIO, name: str) -> Iterator[str]:
    """Lines with their ends, which are LF and CRLF only: tweets hold U+2028 and U+0085."""
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise InputError(f"{name}:{number}: byte 0x{byte:02x} is not UTF-8; convert the file to UTF-8") from error


def _json(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        what = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise InputError(f"{where}: not JSON ({what}); correct the line") from error


def _read_value(value: Any, known: Sequence[Columns], where: str) -> Input:
    """Of an object, the texts that its keys or the run's tasks name; the keys of an input are read as they are."""
    columns = pick(known, value) if isinstance(value, Mapping) else None
    if columns is None or all(key == name for key, name in columns.items()):
        return read_input(value, where)
    return read_record(value, columns, where)


def _table(rows: Iterator[tuple[int, list[str]]], name: str, known: Sequence[Columns]) -> Iterator[Input]:
    header_line, header = next(rows, (1, []))
    header = [column.strip() for column in header]
    columns = pick(known, dict.fromkeys(header))
    if columns is None:
        wanted = " or ".join(dict.fromkeys(str(next(iter(one.values()))) for one in known if "question" not in one))
        raise InputError(f"{name}:{header_line}: the header needs a column {wanted} (it has: {', '.join(header)})")
    if len(set(header)) < len(header):
        raise InputError(f"{name}:{header_line}: two columns have the same name ({', '.join(header)}); rename one")
    for line, row in rows:
        if row == [""]:
            continue
        where = f"{name}:{line}"
        if len(row) != len(header):
            raise InputError(
                f"{where}: {len(row)} fields where the header names {len(header)}; correct the line, or quote "
                f'a field that holds the delimiter (`"a, b"`)'
            )
        yield read_record(dict(zip(header, row, strict=True)), columns, where)


def _is_quoted(file: BinaryIO, name: str) -> bool:
    """Whether a .tsv is well formed if a `"` that begins a field quotes it; of a stream, which is read once, yes.

    It is not where a field goes on after its closing `"`, has none, or would swallow lines that are rows of their own.
    """
    if not file.seekable():
        return True
    kept: list[str] = []  # the lines of the row that is being read
    csv.field_size_limit(MAX_FIELD_LENGTH)
    rows = csv.reader(_keeping(file, kept), delimiter="\t", strict=True)
    line = 1
    is_well_formed = True
    try:
        width = 0  # of the header
        for row in rows:
            width = width or len(row)
            if len(kept) > 1 and width > 1 and all(one.count("\t") == width - 1 for one in kept):
                is_well_formed = False
                break
            line = rows.line_num + 1
            kept.clear()
    except csv.Error:
        is_well_formed = False
    file.seek(0)
    if not is_well_formed:
        log.warning('%s:%d: not quoted as a table is, so every `"` in the file is read as data', name, line)
    return is_well_formed


def _keeping(file: BinaryIO, kept: list[str]) -> Iterator[str]:
    """The lines, each put into `kept` as it goes by; bytes that are not UTF-8 are told when they are read for good."""
    for number, line in enumerate(file, start=1):
        kept.append(line.decode("utf-8-sig" if number == 1 else "utf-8", "replace"))
        yield kept[-1]


def _quoted_rows(lines: Iterator[str], name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each begins."""
    csv.field_size_limit(MAX_FIELD_LENGTH)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in rows:
            if row:
                yield line, row
            line = rows.line_num + 1
    except csv.Error as error:
        raise InputError(f'{name}:{line}: {error}; inside a quoted field a `"` is written twice') from error

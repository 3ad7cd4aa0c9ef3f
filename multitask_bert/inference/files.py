"""Files and standard input as a stream of inputs, and predictions as lines of JSON; no more than a line is kept."""

from __future__ import annotations

import codecs
import csv
import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

from multitask_bert.data.readers.delimited import MAX_FIELD_LENGTH
from multitask_bert.errors import InputError
from multitask_bert.inference.columns import Columns, listed, of_objects, of_tables, pick, read_record
from multitask_bert.inference.inputs import Input, read_input
from multitask_bert.utils.files import finite
from multitask_bert.utils.terminal import discard

log = logging.getLogger(__name__)

STANDARD_INPUT = "-"
FORMATS = (
    "a .csv, .tsv or .jsonl file, one in a format of the run's own files, a text file with one text per line, or - "
    "for standard input"
)
NOT_READ = (
    ".json", ".parquet", ".arrow", ".xlsx", ".xls", ".gz", ".zip", ".zst", ".bz2", ".xz", ".pdf", ".docx", ".doc",
    ".odt",
)  # fmt: skip
FORMAT_OF = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
UTF_8 = "utf-8"
SIZE = 2**20  # bytes that are looked at in one go
CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}  # which JSON leaves as they are, and terminals obey


def open_input(place: str, *, is_own: bool = False) -> BinaryIO:
    """The bytes that `place` names; `is_own`: whatever its ending, it is in a format of the run's own.

    Raises:
        InputError: no such file, or of a format that is not read.
    """
    if place == STANDARD_INPUT:
        if sys.stdin is None:
            raise InputError(f"input=-: standard input is closed; give {FORMATS}")
        return sys.stdin.buffer
    path = Path(place)
    if path.suffix.lower() in NOT_READ and not is_own:
        raise InputError(f"input={place}: {path.suffix} is not read; give {FORMATS}")
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"input={place}: cannot be read ({error.strerror}); give {FORMATS}") from error


def read_inputs(
    file: BinaryIO,
    place: str,
    *,
    columns: Sequence[Columns] = (),
    is_tsv_quoted: bool = True,
    own: Sequence[Columns] = (),
    file_format: str | None = None,
    encoding: str = UTF_8,
) -> Iterator[Input]:
    """One input per line or row, as the file's name tells its format, or `file_format` (csv, tsv, jsonl).

    .jsonl: an object or a string per line. .csv and .tsv: rows under a header. Others: a text per line, an empty one
    too. From standard input, a line that begins with `{` is JSON, and others are texts. `columns`: what the run's own
    tasks call their texts, in tables and objects; those that find the most texts are read. `own`: what the tasks call
    them whose file it is; no others are looked for. `is_tsv_quoted=False`: a `"` in a .tsv is data. Otherwise it is,
    too, if the file read through as quoted is not well formed. `encoding`: of a file; standard input is UTF-8.

    Raises:
        InputError: names file and line; everything before it has been given.
    """
    name = "standard input" if place == STANDARD_INPUT else place
    file_format = file_format or ("" if place == STANDARD_INPUT else FORMAT_OF.get(Path(place).suffix.lower(), ""))
    lines = _decoded(file, name, encoding)
    if file_format in ("csv", "tsv"):
        rows = _quoted_rows(lines, name, "," if file_format == "csv" else "\t")
        if file_format == "tsv" and not (is_tsv_quoted and _is_quoted(file, name, encoding)):
            rows = _plain_rows(lines)
        yield from _table(rows, name, own or of_tables(columns))
        return
    known = own or of_objects(columns)
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n")
        is_json = file_format == "jsonl" or (place == STANDARD_INPUT and line.startswith("{"))
        if is_json and line.strip():
            item = _read_value(_json(line, f"{name}:{number}"), known, f"{name}:{number}", is_own=bool(own))
            yield replace(item, is_exact=True) if file_format == "jsonl" else item
        elif not is_json:
            if "\0" in line:
                raise InputError(f"{name}:{number}: holds a zero byte, so it is no text in UTF-8; convert the file")
            yield read_input(line, f"{name}:{number}")


def encoding_of(file: BinaryIO, own: str) -> str:
    """UTF-8, or, where the bytes are not, the encoding of the run's `own` files; of a stream, UTF-8."""
    if own.lower().replace("_", "-") in (UTF_8, "utf8") or not file.seekable():
        return UTF_8
    decoder = codecs.getincrementaldecoder(UTF_8)()
    try:
        while chunk := file.read(SIZE):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return own
    finally:
        file.seek(0)
    return UTF_8


@contextmanager
def open_output(place: str | None) -> Iterator[BinaryIO]:
    """The file that `place` names, made anew; None: standard output.

    Raises:
        InputError: it cannot be written.
    """
    if place is None:
        if sys.stdout is None:
            raise InputError("output=null: standard output is closed; name a file")
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
            discard(file)  # else what is left in its buffer fails once more
            where = {"<stdout>": "standard output"}.get(str(file.name), file.name)
            raise InputError(
                f"{where}: prediction {count + 1:,} cannot be written ({error.strerror}), those before it are"
            ) from error
        count += 1
    return count


def _decoded(file: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    """Lines with their ends, which are LF and CRLF only: tweets hold U+2028 and U+0085."""
    if encoding != UTF_8:
        try:
            with Path(name).open(encoding=encoding, newline="\n") as text:
                yield from text
        except (LookupError, ValueError) as error:
            raise InputError(f"{name}: is neither UTF-8 nor {encoding} ({error}); convert the file to UTF-8") from error
        return
    for number, line in enumerate(file, start=1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise InputError(f"{name}:{number}: byte 0x{byte:02x} is not UTF-8; convert the file to UTF-8") from error


def _json(line: str, where: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg}, column {error.colno}); correct the line") from error
    except (RecursionError, ValueError) as error:  # the latter: an integer of thousands of digits
        what = "nested too deeply" if isinstance(error, RecursionError) else "a number with too many digits"
        raise InputError(f"{where}: not JSON ({what}); correct the line") from error


def _read_value(value: Any, known: Sequence[Columns], where: str, *, is_own: bool) -> Input:
    """Of an object, the texts that its keys or the run's tasks name; the keys of an input are read as they are.

    `is_own`: it is of a file of the run's own, where other keys are not looked at.
    """
    columns = pick(known, value) if isinstance(value, Mapping) else None
    if columns is None or (not is_own and all(key == name for key, name in columns.items())):
        return read_input(value, where)
    return read_record(value, columns, where)


def _table(rows: Iterator[tuple[int, list[str]]], name: str, known: Sequence[Columns]) -> Iterator[Input]:
    header_line, header = next(rows, (1, []))
    header = [column.strip() for column in header]
    header = list(_told_apart(header, {name for one in known for names in one.values() for name in listed(names)}))
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


def _told_apart(header: Sequence[str], kept: Collection[str]) -> Iterator[str]:
    """Names that occur twice with a number behind them (`id`, `id.1`), but for those in `kept`."""
    taken = Counter(header)
    for place, name in enumerate(header):
        numbered, number = name, 0
        while name not in kept and (numbered in header[:place] if number == 0 else numbered in taken):
            number += 1
            numbered = f"{name}.{number}"
        taken[numbered] += 1
        yield numbered


def _plain_rows(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, start=1):
        if line := line.rstrip("\r\n"):
            yield number, line.split("\t")


def _is_quoted(file: BinaryIO, name: str, encoding: str) -> bool:
    """Whether a .tsv is well formed if a `"` that begins a field quotes it; of a stream, which is read once, yes.

    It is not where a field goes on after its closing `"`, has none, or would swallow lines that are rows of their own.
    """
    if not file.seekable():
        return True
    kept: list[str] = []  # the lines of the row that is being read
    csv.field_size_limit(MAX_FIELD_LENGTH)
    rows = csv.reader(_keeping(file, name, kept, encoding), delimiter="\t", strict=True)
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


def _keeping(file: BinaryIO, name: str, kept: list[str], encoding: str) -> Iterator[str]:
    """The lines, each put into `kept` as it goes by; bytes that cannot be read are told when they are read for good."""
    if encoding != UTF_8:
        with Path(name).open(encoding=encoding, errors="replace", newline="\n") as text:
            for one in text:
                kept.append(one)
                yield one
        return
    for number, line in enumerate(file, start=1):
        kept.append(line.decode("utf-8-sig" if number == 1 else "utf-8", "replace"))
        yield kept[-1]


def _quoted_rows(lines: Iterator[str], name: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each begins."""
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

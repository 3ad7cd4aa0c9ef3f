"""Texts, JSON lines and tables as a stream of inputs, of which no more than a line is kept in memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from multitask_bert.errors import InputError
from multitask_bert.inference.columns import Columns, of_objects, of_tables, pick, read_record
from multitask_bert.inference.inputs import Input, read_input
from multitask_bert.inference.tables import UTF_8, is_quoted, plain_rows, quoted_rows, read_table

STANDARD_INPUT = "-"
FORMAT_OF = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
DECODED_BYTES = 2**20  # at a time, to find out a file's encoding


def read_inputs(
    file: BinaryIO,
    path: str,
    *,
    columns: Sequence[Columns] = (),
    is_tsv_quoted: bool = True,
    own: Sequence[Columns] = (),
    file_format: str | None = None,
    encoding: str = UTF_8,
) -> Iterator[Input]:
    """One input per line or row, in the format that the file's name implies, or in `file_format` (csv, tsv, jsonl).

    .jsonl: an object or a string per line. .csv and .tsv: rows under a header. Others: a text per line, also an empty
    one. From standard input (`path` is `-`), a line that begins with `{` is JSON, and any other a text.

    `columns`: what the run's own tasks call their texts, in tables and objects; those that find the most texts are
    read. `own`: the same, of the tasks that the file belongs to; no others are looked for. `is_tsv_quoted=False`: a `"`
    in a .tsv is data; it also is where the file, read through as quoted, is not well formed. `encoding`: of a file;
    standard input is UTF-8.

    Raises:
        InputError: names file and line; all inputs before it have been given.
    """
    name = "standard input" if path == STANDARD_INPUT else path
    file_format = file_format or ("" if path == STANDARD_INPUT else FORMAT_OF.get(Path(path).suffix.lower(), ""))
    lines = _decoded(file, name, encoding)
    if file_format in ("csv", "tsv"):
        rows = quoted_rows(lines, name, "," if file_format == "csv" else "\t")
        if file_format == "tsv" and not (is_tsv_quoted and is_quoted(file, name, encoding)):
            rows = plain_rows(lines)
        yield from read_table(rows, name, own or of_tables(columns))
        return
    known = own or of_objects(columns)
    for number, line in enumerate(lines, start=1):
        line = line.rstrip("\r\n")
        is_json = file_format == "jsonl" or (path == STANDARD_INPUT and line.startswith("{"))
        if is_json and line.strip():
            item = _read_value(_json(line, f"{name}:{number}"), known, f"{name}:{number}", is_own=bool(own))
            yield replace(item, is_exact=True) if file_format == "jsonl" else item
        elif not is_json:
            if "\0" in line:
                raise InputError(f"{name}:{number}: holds a zero byte, so it is not text in UTF-8; convert the file")
            yield read_input(line, f"{name}:{number}")


def encoding_of(file: BinaryIO, own: str) -> str:
    """UTF-8, or, where the bytes are not UTF-8, the encoding of the run's `own` files; of a stream, UTF-8."""
    if own.lower().replace("_", "-") in (UTF_8, "utf8") or not file.seekable():
        return UTF_8
    decoder = codecs.getincrementaldecoder(UTF_8)()
    try:
        while chunk := file.read(DECODED_BYTES):
            decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return own
    finally:
        file.seek(0)
    return UTF_8


def _decoded(file: BinaryIO, name: str, encoding: str) -> Iterator[str]:
    """Lines with their ends, which are LF and CRLF only: tweets contain U+2028 and U+0085."""
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
    """The input that a JSON value is, or that an object holds under the names that the run's tasks have for its texts.

    `is_own`: it is from a file of the run, where an input's own keys are not looked at.
    """
    columns = pick(known, value) if isinstance(value, Mapping) else None
    if columns is None or (not is_own and all(key == name for key, name in columns.items())):
        return read_input(value, where)
    return read_record(value, columns, where)

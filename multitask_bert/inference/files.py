"""Opening what is to be predicted for: standard input, any file of texts, or a file of the run's own.

A file of the run, or one like them, is read by its task's own reader, without labels. So predicting for a run's test
file gives the predictions that were scored.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from multitask_bert.data.readers import reader_of
from multitask_bert.errors import InputError
from multitask_bert.heads import Head
from multitask_bert.inference.inputs import Input, read_input
from multitask_bert.inference.lines import STANDARD_INPUT, encoding_of, read_inputs
from multitask_bert.inference.sources import TaskSource, source_by_content, source_by_name
from multitask_bert.inference.tables import UTF_8
from multitask_bert.records import Example

FORMATS = (
    "a .csv, .tsv or .jsonl file, one in a format of the run's own files, a text file with one text per line, or - "
    "for standard input"
)
NOT_READ = (
    ".json", ".parquet", ".arrow", ".xlsx", ".xls", ".gz", ".zip", ".zst", ".bz2", ".xz", ".pdf", ".docx", ".doc",
    ".odt",
)  # fmt: skip
LINE_FORMATS = ("csv", "tsv", "jsonl")  # those that `read_inputs` reads, with the other columns


@contextmanager
def open_inputs(
    path: str, own: Sequence[TaskSource]
) -> Iterator[Callable[[Mapping[str, Mapping[str, Head]]], Iterator[Input]]]:
    """Open a file or standard input; yields a function that reads it, given the model's heads by task.

    Raises:
        InputError: there is no such file, or it has a format that is not read.
    """
    named = None if path == STANDARD_INPUT else source_by_name(path, own)
    if named is not None and Path(path).is_dir():
        yield lambda heads: read_own(path, named, named.source.encoding)
        return
    with open_bytes(path, is_own=named is not None) as file:

        def read(heads: Mapping[str, Mapping[str, Head]]) -> Iterator[Input]:
            source = named
            if source is None and path != STANDARD_INPUT and file.seekable():
                source = source_by_content(path, own, heads)
            sources = own if source is None else [source]
            encodings = {one.source.encoding for one in sources} - {UTF_8}
            encoding = encoding_of(file, encodings.pop() if len(encodings) == 1 else UTF_8)
            if source is not None and source.source.format not in LINE_FORMATS:
                return read_own(path, source, encoding)
            of_same_files = [] if source is None else [one for one in own if {*one.paths} & {*source.paths}]
            return read_inputs(
                file, path,
                columns=[one.columns for one in own if one.columns is not None],
                is_tsv_quoted=all(one.source.quoted for one in sources if one.source.format == "tsv"),
                own=[one.columns for one in of_same_files if one.columns is not None],
                file_format=None if source is None else source.source.format,
                encoding=encoding,
            )  # fmt: skip

        yield read


def open_bytes(name: str, *, is_own: bool = False) -> BinaryIO:
    """The file of that name, or standard input (`-`); `is_own`: whatever its ending, it has a format of the run's own.

    Raises:
        InputError: there is no such file, or it has a format that is not read.
    """
    if name == STANDARD_INPUT:
        if sys.stdin is None:
            raise InputError(f"input=-: standard input is closed; give {FORMATS}")
        return sys.stdin.buffer
    path = Path(name)
    if path.suffix.lower() in NOT_READ and not is_own:
        raise InputError(f"input={name}: {path.suffix} is not read; give {FORMATS}")
    try:
        return path.open("rb")
    except OSError as error:
        raise InputError(f"input={name}: cannot be read ({error.strerror}); give {FORMATS}") from error


def is_read_again(name: str) -> bool:
    """Whether an input that was opened before is read from its beginning again: not standard input, nor a pipe."""
    return name != STANDARD_INPUT and not Path(name).is_fifo()


def read_own(name: str, own: TaskSource, encoding: str) -> Iterator[Input]:
    """One input per example that the task's reader yields.

    Raises:
        InputError: from the reader.
    """
    path, source = Path(name), replace(own.source, encoding=encoding)
    if source.format == "parallel" and not path.is_dir() and "*" not in path.name:
        path = _path_of_parts(path, own)
    for example in reader_of(source.format)(path, source, {}):
        yield replace(read_input(_given(example, own), example.where), is_exact=True)


def _given(example: Example, own: TaskSource) -> Mapping[str, Any]:
    if example.words is not None:
        return {"words": list(example.words)}
    if example.choices is not None:
        return {"text": example.text, "choices": list(example.choices)}
    if example.text_pair is None:
        return {"text": example.text}
    first, second = own.pair_fields
    return {first: example.text, second: example.text_pair}


def _path_of_parts(path: Path, own: TaskSource) -> Path:
    """The path that `read_parallel` takes for one of its files: the folder, or the name with a `*`."""
    if any("*" in split.name for split in own.paths):
        return path.with_suffix(".*")
    return path.parent

"""Parallel files: line N of each belongs to example N (`seq.in`, `seq.out`, `label`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from multitask_bert.config import HeadConfig, InputError, SourceConfig
from multitask_bert.data.downloads import part_of
from multitask_bert.data.readers.records import ExampleMaker
from multitask_bert.data.readers.text import count, lines_of, read_text
from multitask_bert.records import Example


def read_parallel(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """One file per column; words and tags are cut at spaces, however many. A line that is blank in all is no example.

    `path`: the folder of the files, or their name with a `*` for what differs (`train.*`).
    """
    names = file_names(source, heads)
    files = {name: part_of(path, name) for name in names}
    make = ExampleMaker(source, heads, str(path), names)
    columns = {name: _lines(file, source.encoding) for name, file in files.items()}
    _drop_surplus_blanks(columns)
    longest = max(names, key=lambda name: len(columns[name]))
    for name in names:
        if len(columns[name]) != len(columns[longest]):
            raise InputError(
                f"{files[name]}:{len(columns[name]) + 1}: the file ends after {count(len(columns[name]), 'line')}, "
                f"but {files[longest]} has {len(columns[longest])}; the files must match line by line"
            )
    for number, fields in enumerate(zip(*columns.values(), strict=True), start=1):
        if any(fields):
            yield make(dict(zip(names, fields, strict=True)), f"{files[names[0]]}:{number}")


def file_names(source: SourceConfig, heads: Mapping[str, HeadConfig]) -> list[str]:
    """The files of a split, as the config names them: first the one with the words or the text."""
    if source.words is None and source.text is None:
        raise InputError("source.words: missing; name the file with the words (or in source.text the one with texts)")
    named = [source.words, source.text, source.text_pair, *(source.choices or ())]
    for head in heads.values():
        named += [head.column] if head.columns is None else head.columns
    return list(dict.fromkeys(name for name in named if name is not None))


def _lines(path: Path, encoding: str) -> list[str]:
    """Without white space around them."""
    return [line.strip(" \t\r") for line in lines_of(read_text(path, encoding))]


def _drop_surplus_blanks(columns: Mapping[str, list[str]]) -> None:
    """Blank lines at the end of a file that another file lacks are no examples."""
    shortest = min(map(len, columns.values()))
    if not any(line for lines in columns.values() for line in lines[shortest:]):
        for lines in columns.values():
            del lines[shortest:]

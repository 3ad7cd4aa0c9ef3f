"""Parallel files: line N of each belongs to example N (`seq.in`, `seq.out`, `label`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data.downloads import part_of
from multitask_bert.data.readers.bad_records import BadRecords
from multitask_bert.data.readers.records import ExampleMaker
from multitask_bert.data.readers.text import count, read_lines
from multitask_bert.errors import InputError
from multitask_bert.records import Example


def read_parallel(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """One file per column; words and tags are split at spaces. A line that is blank in all files is skipped.

    `path`: the folder of the files, or their name with a `*` for what differs (`train.*`).
    """
    names = file_names(source, heads)
    files = {name: part_of(path, name) for name in names}
    columns = {name: _lines(file, source.encoding) for name, file in files.items()}
    rows = itertools.zip_longest(*columns.values())
    with BadRecords(path, source) as bad:
        make = ExampleMaker(source, heads, str(path), names, bad=bad)
        for number, fields in enumerate(rows, start=1):
            if None in fields:
                _refuse_surplus(dict(zip(files.values(), fields, strict=True)), rows, number)
            elif any(fields):
                with bad.caught():
                    example = make(dict(zip(names, fields, strict=True)), f"{files[names[0]]}:{number}")
                    if bad.lets_through:
                        yield example


def _refuse_surplus(line_of: Mapping[Path, str | None], rest: Iterator[Sequence[str | None]], number: int) -> None:
    """Some files end before line `number`: accept only blank lines in the others.

    Raises:
        InputError: names the file that ends first.
    """
    rows = [tuple(line_of.values()), *rest]
    if not any(line for row in rows for line in row):
        return
    short = next(file for file, line in line_of.items() if line is None)
    longest = max(range(len(line_of)), key=lambda column: sum(row[column] is not None for row in rows))
    num_longest = number - 1 + sum(row[longest] is not None for row in rows)
    raise InputError(
        f"{short}:{number}: the file ends after {count(number - 1, 'line')}, but {list(line_of)[longest]} has "
        f"{num_longest}; the files must match line by line"
    )


def file_names(source: SourceConfig, heads: Mapping[str, HeadConfig]) -> list[str]:
    """The names of a split's files, from the config; first the one with the words or the text."""
    if source.words is None and source.text is None:
        raise InputError("source.words: missing; name the file with the words (or in source.text the one with texts)")
    named = [source.words, source.text, source.text_pair, *(source.choices or ())]
    for head in heads.values():
        named += [head.column] if head.columns is None else head.columns
    return list(dict.fromkeys(name for name in named if name is not None))


def _lines(path: Path, encoding: str) -> Iterator[str]:
    """Lines without white space around them."""
    return (line.strip(" \t\r\n") for line in read_lines(path, encoding))

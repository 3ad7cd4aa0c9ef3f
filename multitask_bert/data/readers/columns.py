"""CoNLL and CoNLL-U: one word per line in columns, a blank line between sentences."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from multitask_bert.config import HeadConfig, InputError, SourceConfig
from multitask_bert.data.readers.text import count, read_lines, shown, without_end
from multitask_bert.heads import parse_label
from multitask_bert.records import Example

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
UNSPECIFIED = "_"  # CoNLL-U: no value
NOT_A_WORD = re.compile(r"\d+-\d+|\d+\.\d+")  # CoNLL-U: the id of a multi-word range (3-4) or an empty node (8.1)


def read_conll(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """One word per line in columns (tabs or spaces), a blank line between sentences.

    A line of nothing but white space is a break, and so is `-DOCSTART-`; `#` is a word like any other.
    """
    rows: list[Sequence[str]] = []
    first_line = num_columns = 0
    for number, line in enumerate(itertools.chain(read_lines(path, source.encoding), [""]), start=1):
        fields = _conll_fields(line)
        if fields and fields[0] != "-DOCSTART-":
            num_columns = num_columns or len(fields)
            if len(fields) != num_columns:
                raise InputError(
                    f"{path}:{number}: {count(len(fields), 'column')} where the lines before have {num_columns} "
                    f"({line.strip()[:60]!r}); correct the line, or leave one blank line between sentences"
                )
            rows.append(fields)
            first_line = first_line or number
        elif rows:
            yield _conll_example(path, first_line, rows, source.word_column, heads)
            rows, first_line = [], 0


def read_conllu(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """Ten columns, which have names; comments, multi-word ranges and empty nodes are passed over.

    `feats.Number` and the like name one feature. A column that is `_` for every word of a sentence is a missing label.
    """
    columns = {name: _conllu_column(f"heads.{name}.column", head.column) for name, head in heads.items()}
    word_column = _conllu_column("source.words", source.words or "form")
    rows: list[list[str]] = []
    first_line = 0
    for number, line in enumerate(itertools.chain(read_lines(path, source.encoding), [""]), start=1):
        where = f"{path}:{number}"
        line = without_end(line)
        if line.startswith("#"):
            continue
        if line.strip():
            row = _conllu_row(where, line, num_words=len(rows))
            if row is not None:
                rows.append(row)
                first_line = first_line or number
        elif rows:
            words = tuple(_conllu_value(row, word_column) for row in rows)
            tags = {name: tuple(_conllu_value(row, column) for row in rows) for name, column in columns.items()}
            # Lines are passed over between words, so that only the number of the word is sure: file:line:word.
            yield _with_labels(f"{path}:{first_line}:1", words, tags, heads, missing=UNSPECIFIED)
            rows, first_line = [], 0


def _with_labels(
    where: str,
    words: tuple[str, ...],
    tags: Mapping[str, tuple[str, ...]],
    heads: Mapping[str, HeadConfig],
    *,
    missing: str | None = None,
) -> Example:
    raw = {name: None if set(values) == {missing} else values for name, values in tags.items()}
    labels = {name: parse_label(heads[name], values, where) for name, values in raw.items()}
    return Example(where, " ".join(words), labels, words=words)


def _conll_fields(line: str) -> Sequence[str]:
    """The columns of a line; none for a break."""
    line = line.strip(" \r\n")
    if not line.strip():
        return []
    return [field.strip(" ") for field in line.split("\t")] if "\t" in line else re.split(" +", line)


def _conll_example(
    path: Path,
    first_line: int,
    rows: list[Sequence[str]],
    word_column: int,
    heads: Mapping[str, HeadConfig],
) -> Example:
    columns = {name: _column_number(path, name, head) for name, head in heads.items()}
    width = len(rows[0])
    for field, column in {"word_column": word_column, **{f"heads.{n}.column": c for n, c in columns.items()}}.items():
        if not -width <= column < width:
            raise InputError(
                f"{path}:{first_line}: {count(width, 'column')}, but `{field}: {column}` asks for another "
                f"(they count from 0, negative ones from the end)"
            )
        if field != "word_column" and column % width == word_column % width:
            raise InputError(
                f"{path}:{first_line}: {count(width, 'column')}, and `{field}: {column}` is the one of the words; "
                f"the tags need a column of their own"
            )
        for number, row in enumerate(rows, start=first_line):
            if not row[column]:
                raise InputError(f"{path}:{number}: `{field}: {column}` is empty; a line needs a word and its tags")
    words = tuple(row[word_column] for row in rows)
    tags = {name: tuple(row[column] for row in rows) for name, column in columns.items()}
    return _with_labels(f"{path}:{first_line}", words, tags, heads)


def _column_number(path: Path, head_name: str, head: HeadConfig) -> int:
    if head.column is None:
        return -1
    try:
        return int(head.column)
    except ValueError as error:
        raise InputError(
            f"heads.{head_name}.column={head.column}: {path.name} has no header; give the column's number (0, 1, -1, …)"
        ) from error


def _conllu_column(field: str, column: str | None) -> tuple[int, str]:
    """The column's number, and the feature in it (empty: the whole column)."""
    name, _, feature = (column or "").partition(".")
    if name.lower() not in CONLLU:
        given = ": missing" if column is None else f"={column} is no column of CoNLL-U"
        raise InputError(f"{field}{given}; name one of {', '.join(CONLLU)} (or a feature, as in feats.Number)")
    return CONLLU.index(name.lower()), feature


def _conllu_row(where: str, line: str, *, num_words: int) -> list[str] | None:
    """The columns of a line; None for one that holds no word of its own."""
    row = line.split("\t")
    if len(row) != len(CONLLU):
        raise InputError(
            f"{where}: {count(len(row), 'column')} where CoNLL-U has {len(CONLLU)}, with a tab between them "
            f"({shown(line)}); correct the line, or set `format: conll` if the columns are others"
        )
    if NOT_A_WORD.fullmatch(row[0]):
        return None
    if row[0] != str(num_words + 1):
        raise InputError(
            f"{where}: the id is {shown(row[0])} where {num_words + 1} is due; number the words of a sentence from 1, "
            f"and leave one blank line between sentences"
        )
    if not all(field.strip() for field in row):
        raise InputError(f"{where}: a column is empty; write `_` where there is no value")
    return row


def _conllu_value(row: Sequence[str], column: tuple[int, str]) -> str:
    number, feature = column
    if not feature:
        return row[number]
    pairs = dict(pair.partition("=")[::2] for pair in row[number].split("|"))
    return pairs.get(feature) or UNSPECIFIED

"""CoNLL and CoNLL-U: one word per line in columns, a blank line between sentences."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data.readers.bad_records import BadRecords
from multitask_bert.data.readers.text import count, is_blank, read_lines, shown, without_end
from multitask_bert.errors import InputError
from multitask_bert.heads import parse_label
from multitask_bert.records import Example

log = logging.getLogger(__name__)

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
COLUMN_NUMBER = re.compile(r"-?\d+", re.ASCII)
UNSPECIFIED = "_"  # CoNLL-U: no value
NOT_A_WORD = re.compile(r"\d+-\d+|\d+\.\d+", re.ASCII)  # CoNLL-U: the id of a multi-word range or an empty node


def read_conll(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """One word per line in columns (tabs or spaces), a blank line between sentences.

    A line of only white space ends a sentence, and so does `-DOCSTART-`. `#` begins a word like any other, unless
    `comments` says how comment lines begin, which are skipped before a sentence.
    """
    sentence = _Sentence()
    num_columns = 0
    num_sentences = num_after_hash = 0
    with BadRecords(path, source) as bad:
        for number, line in enumerate(itertools.chain(read_lines(path, source.encoding), [""]), start=1):
            fields = _conll_fields(line)
            if fields and source.comments is not None and not sentence.rows and line.startswith(source.comments):
                continue
            if fields and fields[0] != "-DOCSTART-":
                num_columns = num_columns or len(fields)
                sentence.add(number, fields)
                if len(fields) != num_columns:
                    sentence.refuse(
                        f"{path}:{number}: {count(len(fields), 'column')} where the lines before have {num_columns} "
                        f"({line.strip()[:60]!r}); {_way_out(line, source)}"
                    )
            elif sentence.rows:
                num_sentences += 1
                num_after_hash += sentence.rows[0][0] == "#"
                with bad.caught():
                    sentence.check()
                    example = _conll_example(path, sentence.first_line, sentence.rows, source.word_column, heads)
                    if bad.lets_through:
                        yield example
                sentence = _Sentence()
    if source.comments is None and 1 < num_sentences == num_after_hash:
        log.warning(
            "%s: every sentence begins with the word '#'; if these lines are comments, set `comments: '# '`", path
        )


class _Sentence:
    """The lines of a sentence so far, and the problem of the first bad one."""

    def __init__(self) -> None:
        self.rows: list[Sequence[str]] = []
        self.first_line = 0
        self.problem: str | None = None

    def add(self, number: int, row: Sequence[str]) -> None:
        self.rows.append(row)
        self.first_line = self.first_line or number

    def refuse(self, problem: str) -> None:
        self.problem = self.problem or problem

    def check(self) -> None:
        if self.problem is not None:
            raise InputError(self.problem)


def _way_out(line: str, source: SourceConfig) -> str:
    """How to correct a line with another number of columns."""
    if line.startswith("#") and source.comments is None:
        return "if it is a comment, set `comments` to how comments begin, as '# '; else correct the line"
    blank = "" if "\t" in line else ", put tabs between columns if a tag holds a blank"
    return f"correct the line{blank}, or leave one blank line between sentences"


def read_conllu(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """Ten columns with fixed names; comments, multi-word ranges and empty nodes are skipped.

    `feats.Number` and the like name one feature. A column that is `_` for every word of a sentence is a missing label,
    or, with `unspecified: label`, a label of its own.
    """
    columns = {name: _conllu_column(f"heads.{name}.column", head.column) for name, head in heads.items()}
    word_column = _conllu_column("source.words", source.words or "form")
    sentence = _Sentence()
    missing = UNSPECIFIED if source.unspecified == "missing" else None
    with BadRecords(path, source) as bad:
        for number, line in enumerate(itertools.chain(read_lines(path, source.encoding), [""]), start=1):
            line = without_end(line)
            if line.startswith("#"):
                continue
            if line.strip():
                try:
                    row = _conllu_row(f"{path}:{number}", line, num_words=len(sentence.rows))
                except InputError as error:
                    sentence.refuse(str(error))
                    row = line.split("\t")
                if row is not None:
                    sentence.add(number, row)
            elif sentence.rows:
                with bad.caught():
                    sentence.check()
                    words = tuple(_conllu_value(row, word_column) for row in sentence.rows)
                    tags = {
                        name: tuple(_conllu_value(row, column) for row in sentence.rows)
                        for name, column in columns.items()
                    }
                    # Lines between words may be skipped, so that only a word's number is sure: file:line:word.
                    example = _with_labels(f"{path}:{sentence.first_line}:1", words, tags, heads, missing=missing)
                    if bad.lets_through:
                        yield example
                sentence = _Sentence()


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
    """The columns of a line; empty for one that ends a sentence."""
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
            if is_blank(row[column]):
                raise InputError(f"{path}:{number}: `{field}: {column}` is empty; a line needs a word and its tags")
    words = tuple(row[word_column] for row in rows)
    tags = {name: tuple(row[column] for row in rows) for name, column in columns.items()}
    return _with_labels(f"{path}:{first_line}", words, tags, heads)


def _column_number(path: Path, head_name: str, head: HeadConfig) -> int:
    if head.column is None:
        return -1
    if not COLUMN_NUMBER.fullmatch(head.column):
        raise InputError(
            f"heads.{head_name}.column={head.column}: {path.name} has no header; give the column's number (0, 1, -1, …)"
        )
    return int(head.column)


def _conllu_column(field: str, column: str | None) -> tuple[int, str]:
    """The column's index, and the feature in it (empty: the whole column)."""
    name, _, feature = (column or "").partition(".")
    if name.lower() not in CONLLU:
        given = ": missing" if column is None else f"={column} is no column of CoNLL-U"
        raise InputError(f"{field}{given}; name one of {', '.join(CONLLU)} (or a feature, as in feats.Number)")
    return CONLLU.index(name.lower()), feature


def _conllu_row(where: str, line: str, *, num_words: int) -> list[str] | None:
    """The columns of a line; None for a range of words or an empty node."""
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
    if any(map(is_blank, row)):
        raise InputError(f"{where}: a column is empty; write `_` where there is no value")
    return row


def _conllu_value(row: Sequence[str], column: tuple[int, str]) -> str:
    number, feature = column
    if not feature:
        return row[number]
    pairs = dict(pair.partition("=")[::2] for pair in row[number].split("|"))
    return pairs.get(feature) or UNSPECIFIED

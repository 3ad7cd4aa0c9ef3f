"""Step 1 of the flow: files become `Example`s. One function per format; `READERS` is the only list of them.

What a reader raises is always an `InputError` that names file, line and the way out.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from multitask_bert.config import HeadConfig, InputError, SourceConfig
from multitask_bert.data.samples import ner_corpus, sentiment_corpus
from multitask_bert.records import Example

Reader = Callable[[Path, SourceConfig, Mapping[str, HeadConfig]], list[Example]]


def read_conll(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> list[Example]:
    """One word per line in columns (tabs or spaces), a blank line between sentences.

    A line of nothing but white space is a break, and so is `-DOCSTART-`; `#` is a word like any other.
    """
    columns = {name: _column_number(path, name, head) for name, head in heads.items()}
    examples: list[Example] = []
    rows: list[Sequence[str]] = []
    first_line = num_columns = 0
    for number, line in enumerate([*read_text(path, source.encoding).split("\n"), ""], start=1):
        fields = _conll_fields(line)
        if fields and fields[0] != "-DOCSTART-":
            num_columns = num_columns or len(fields)
            if len(fields) != num_columns:
                raise InputError(
                    f"{path}:{number}: {_count(len(fields), 'column')} where the lines before have {num_columns} "
                    f"({line.strip()[:60]!r}); correct the line, or leave one blank line between sentences"
                )
            rows.append(fields)
            first_line = first_line or number
        elif rows:
            examples.append(_conll_example(path, first_line, rows, source.word_column, columns))
            rows, first_line = [], 0
    return examples


def read_csv(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> list[Example]:
    """Comma-separated with a header; fields may be quoted and then hold commas and line breaks."""
    return _delimited(path, source, heads, _quoted_rows(path, source.encoding, ","))


def read_tsv(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> list[Example]:
    """Tab-separated with a header; quoted like CSV, or (`quoted: false`) with `"` as data."""
    rows = _quoted_rows(path, source.encoding, "\t") if source.quoted else _plain_rows(path, source.encoding)
    return _delimited(path, source, heads, rows)


def read_samples(split: str, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> list[Example]:
    """The embedded synthetic corpora; no file is read."""
    examples: list[Example] = []
    if source.samples == "ner":
        for number, (words, tags) in enumerate(ner_corpus()[split], start=1):
            labels = dict.fromkeys(heads, tuple(tags))
            examples.append(Example(f"samples/ner/{split}:{number}", " ".join(words), labels, words=tuple(words)))
    elif source.samples == "sentiment":
        for number, (text, label) in enumerate(sentiment_corpus()[split], start=1):
            examples.append(Example(f"samples/sentiment/{split}:{number}", text, dict.fromkeys(heads, label)))
    else:
        raise InputError(f"source.samples={source.samples}: the embedded corpora are ner and sentiment")
    return examples


MAX_FIELD_LENGTH = 2**31 - 1  # characters; Python stops at 131,072 where nothing is said
READERS: dict[str, Reader] = {"conll": read_conll, "csv": read_csv, "tsv": read_tsv}
FORMATS_OF_WORDS = ("conll",)


def read_text(path: Path, encoding: str) -> str:
    """The whole file, a byte order mark removed.

    Raises:
        InputError: the file cannot be opened, is empty, or is in another encoding (names the first bad byte).
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = content.decode("utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding)
    except LookupError as error:
        raise InputError(f"{path}: `encoding: {encoding}` is not an encoding that Python knows") from error
    except UnicodeDecodeError as error:
        decoded = error.object  # without the byte order mark, unlike `content`
        line = decoded[: error.start].count(b"\n") + 1
        raise InputError(
            f"{path}:{line}: byte 0x{decoded[error.start]:02x} is not {encoding}; convert the file, or name its "
            f"encoding in the task's source (`encoding: latin-1`, `cp1252`, `utf-16`, …)"
        ) from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty; put the data there, or name another file")
    return text


def _conll_fields(line: str) -> Sequence[str]:
    """The columns of a line; none for a break."""
    line = line.strip(" \r")
    if not line.strip():
        return []
    return [field.strip(" ") for field in line.split("\t")] if "\t" in line else re.split(" +", line)


def _conll_example(
    path: Path, first_line: int, rows: list[Sequence[str]], word_column: int, columns: Mapping[str, int]
) -> Example:
    width = len(rows[0])
    for field, column in {"word_column": word_column, **{f"heads.{n}.column": c for n, c in columns.items()}}.items():
        if not -width <= column < width:
            raise InputError(
                f"{path}:{first_line}: {_count(width, 'column')}, but `{field}: {column}` asks for another "
                f"(they count from 0, negative ones from the end)"
            )
        if field != "word_column" and column % width == word_column % width:
            raise InputError(
                f"{path}:{first_line}: {_count(width, 'column')}, and `{field}: {column}` is the one of the words; "
                f"the tags need a column of their own"
            )
        for number, row in enumerate(rows, start=first_line):
            if not row[column]:
                raise InputError(f"{path}:{number}: `{field}: {column}` is empty; a line needs a word and its tags")
    words = tuple(row[word_column] for row in rows)
    labels = {name: tuple(row[column] for row in rows) for name, column in columns.items()}
    return Example(f"{path}:{first_line}", " ".join(words), labels, words=words)


def _column_number(path: Path, head_name: str, head: HeadConfig) -> int:
    if head.column is None:
        return -1
    try:
        return int(head.column)
    except ValueError as error:
        raise InputError(
            f"heads.{head_name}.column={head.column}: {path.name} has no header; give the column's number (0, 1, -1, …)"
        ) from error


def _quoted_rows(path: Path, encoding: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Rows with the line on which each begins; blank lines are passed over."""
    # Not str.splitlines: it also breaks at U+2028, U+0085 and others, which occur inside tweets.
    lines = io.StringIO(read_text(path, encoding), newline="").readlines()
    csv.field_size_limit(MAX_FIELD_LENGTH)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in rows:
            if delimiter == "\t" and _are_rows_of_their_own(lines[line - 1 : rows.line_num], len(row)):
                raise InputError(
                    f'{path}:{line}: a `"` makes one row of lines {line} to {rows.line_num}, though each is whole; '
                    f'if `"` is plain data in this file, set `quoted: false`; if not, put spaces for tabs inside quotes'
                )
            if row:
                yield line, row
            line = rows.line_num + 1
    except csv.Error as error:
        raise InputError(
            f'{path}:{line}: {error}; inside a quoted field a `"` is written twice; if `"` is plain data in this '
            f"file, set `format: tsv` and `quoted: false`"
        ) from error


def _are_rows_of_their_own(lines: Sequence[str], width: int) -> bool:
    """Whether an opening `"` that is data has swallowed rows up to the next one: read plainly, every line is whole."""
    return len(lines) > 1 and width > 1 and all(line.count("\t") == width - 1 for line in lines)


def _plain_rows(path: Path, encoding: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(read_text(path, encoding).split("\n"), start=1):
        if line.rstrip("\r"):
            yield number, line.rstrip("\r").split("\t")


def _delimited(
    path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig], rows: Iterator[tuple[int, list[str]]]
) -> list[Example]:
    header_line, header = next(rows)
    where = f"{path}:{header_line}"
    places = {name.strip(): place for place, name in enumerate(header)}
    text_place = _place(where, places, "source.text", source.text)
    pair_place = None if source.text_pair is None else _place(where, places, "source.text_pair", source.text_pair)
    label_places = {name: _place(where, places, f"heads.{name}.column", head.column) for name, head in heads.items()}
    is_plain = source.format == "tsv" and not source.quoted
    hint = "fields quoted like CSV need `quoted: true`" if is_plain else 'a `"` in unquoted text needs `quoted: false`'
    examples = []
    for line, row in rows:
        if len(row) != len(header):
            raise InputError(
                f"{path}:{line}: {_count(len(row), 'field')} where the header names {len(header)}; correct the line, "
                f"or check that the delimiter and `quoted` fit ({hint})"
            )
        text = row[text_place].strip()
        pair = None if pair_place is None else row[pair_place].strip()
        if not text or pair == "":
            column = source.text_pair if text else source.text
            raise InputError(f"{path}:{line}: the text is empty; remove the line or fill the column '{column}'")
        labels = {name: row[place].strip() or None for name, place in label_places.items()}
        examples.append(Example(f"{path}:{line}", text, labels, text_pair=pair))
    return examples


def _place(where: str, places: Mapping[str, int], field: str, column: str | None) -> int:
    listed = ", ".join(places)
    if column is None:
        raise InputError(f"{field}: missing; name one of the columns of {where}: {listed}")
    if column not in places:
        raise InputError(f"{where}: the header lacks the column '{column}' named by {field} (it has: {listed})")
    return places[column]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

"""JSON: one object per line (`jsonl`), or one file of questions and answers in SQuAD's form (`squad`)."""

from __future__ import annotations

import itertools
import json
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data.readers.bad_records import BadRecords
from multitask_bert.data.readers.records import ABSENT, ExampleMaker, look_up
from multitask_bert.data.readers.text import read_lines, read_text, shown, without_end
from multitask_bert.errors import InputError
from multitask_bert.records import Example

HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # JSON can write half of a surrogate pair; UTF-8 cannot
JSON_BLANKS = re.compile(r"[ \t\r\n]*")
LACKING: Any = object()


def read_jsonl(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """One JSON object per line, blank lines skipped; or one array of objects, or one object of objects by key."""
    with BadRecords(path, source) as bad:
        make: ExampleMaker | None = None
        for number, read in _records(path, source):
            where = f"{path}:{number}"
            with bad.caught():
                record = read()
                if not isinstance(record, dict):
                    raise InputError(
                        f"{where}: {shown(record)} is not a JSON object; write one per line, as in "
                        f'{{"text": …, "label": …}}, or all of them in one array'
                    )
                make = make or ExampleMaker(source, heads, where, list(record), bad=bad)
                example = make(record, where)
                if bad.lets_through:
                    yield example
        if make is not None and bad.lets_through:
            make.finish()


def _records(path: Path, source: SourceConfig) -> Iterator[tuple[int, Callable[[], Any]]]:
    """The line on which each record begins, and a function that returns the record, or raises."""
    lines = enumerate(map(without_end, read_lines(path, source.encoding)), start=1)
    first_line, first = next((number, line) for number, line in lines if line.strip())
    whole = _one_value(path, source.encoding) if _is_one_value(first, source) else None
    if whole is not None:
        for number, record in whole:
            yield number, partial(_itself, record)
        return
    for number, line in itertools.chain([(first_line, first)], lines):
        if line.strip():
            yield number, partial(_parsed, line, path, line=number)


def _itself(record: Any) -> Any:
    return record


def _is_one_value(first: str, source: SourceConfig) -> bool:
    """Whether a file that begins with this line may be one JSON value with all records in it."""
    if first.lstrip().startswith("["):
        return True
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        return first.lstrip().startswith("{")
    return _is_by_key(record) and look_up(record, source.text or source.words or "") is ABSENT


def _is_by_key(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0 and all(isinstance(one, dict) for one in value.values())


def _one_value(path: Path, encoding: str) -> Iterator[tuple[int, Any]] | None:
    """The records of an array, or of an object that has them by key, each with its line; None: the file is neither."""
    text = read_text(path, encoding)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None  # read line by line, the error is found and named
    if not isinstance(value, list) and not _is_by_key(value):
        return None
    if HALF_CHARACTER.search(text):
        _parsed(text, path)
    return _with_lines(text)


def _with_lines(text: str) -> Iterator[tuple[int, Any]]:
    """The items of an array or the values of an object, each with the line on which it begins; `text` is valid JSON."""
    decoder = json.JSONDecoder()
    index = _after_blanks(text, 0)
    has_keys, end = text[index] == "{", len(text.rstrip()) - 1
    line, counted = 1, 0
    while (index := _after_blanks(text, index + 1)) < end:
        if has_keys:
            _, index = decoder.raw_decode(text, index)
            index = _after_blanks(text, text.index(":", index) + 1)
        line += text.count("\n", counted, index)
        counted = index
        record, index = decoder.raw_decode(text, index)
        yield line, record
        index = _after_blanks(text, index)  # at the comma, or the end


def _after_blanks(text: str, index: int) -> int:
    match = JSON_BLANKS.match(text, index)
    assert match is not None, "the pattern also matches an empty string"
    return match.end()


def read_squad(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """SQuAD 1.1 and 2.0: the text is the question, the second text its context, the label a list of answers.

    A question that `is_impossible` has an empty list; one without `answers` a missing label.
    """
    text = read_text(path, source.encoding)
    file = _parsed(text, path)
    line_of = _LineFinder(text)
    source = replace(source, text="question", text_pair="context")
    heads = {
        name: replace(head, column="answers") if head.column is None and head.columns is None else head
        for name, head in heads.items()
    }
    columns = ("question", "context", "answers", "id", "title", "is_impossible")
    with BadRecords(path, source) as bad:
        make = ExampleMaker(source, heads, f"{path}:1", columns, bad=bad)
        make.check_columns()
        for key_path, question in _questions(file, str(path)):
            identity = question.get("id", key_path)
            where = f"{path}:{line_of(identity)} (question {identity})"
            with bad.caught():
                is_impossible = question.get("is_impossible")
                if not isinstance(question.get("answers", []), list) or is_impossible not in (None, True, False):
                    raise InputError(f"{where}: `answers` must be a list and `is_impossible` true or false; correct it")
                example = make({**question, "answers": []} if is_impossible else question, where)
                if bad.lets_through:
                    yield example


class _LineFinder:
    """Finds the line of a question by its id; questions must be asked for in the order of the file."""

    def __init__(self, text: str) -> None:
        self.text, self.index = text, 0
        self.ends = [match.start() for match in re.finditer("\n", text)]

    def __call__(self, identity: Any) -> int:
        found = self.text.find(json.dumps(identity, ensure_ascii=False), self.index)
        self.index = max(found, self.index)
        return bisect_left(self.ends, self.index) + 1


def _questions(file: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each question with its key path (`data[3].paragraphs[0].qas[1]`), joined with its context and title."""
    for article_path, article in _items(file, "data", f"{path}:1: ", ""):
        for paragraph_path, paragraph in _items(article, "paragraphs", f"{path}:1: ", article_path):
            context = paragraph.get("context") if isinstance(paragraph, dict) else None
            if not isinstance(context, str):
                raise InputError(f"{path}:1: {paragraph_path} has no `context`, which must be a text; add it")
            for key_path, question in _items(paragraph, "qas", f"{path}:1: ", paragraph_path):
                if not isinstance(question, dict):
                    raise InputError(f"{path}:1: {key_path} is {shown(question)}, not a JSON object; correct it")
                yield key_path, {"title": article.get("title"), **question, "context": context}


def _items(parent: Any, key: str, before: str, key_path: str) -> Iterator[tuple[str, Any]]:
    """The items of the list at `key`, each with its key path; `key_path`: that of `parent`; `before`: for errors."""
    items = parent.get(key, LACKING) if isinstance(parent, dict) else LACKING
    if not isinstance(items, list):
        inside = f" in {key_path}" if key_path else ""
        raise InputError(
            f"{before}no list `{key}`{inside}; SQuAD's form is "
            f'{{"data": [{{"paragraphs": [{{"context": …, "qas": […]}}]}}]}}; for one object per line, set '
            f"`format: jsonl`"
        )
    for number, item in enumerate(items):
        yield f"{key_path}{'.' if key_path else ''}{key}[{number}]", item


def _parsed(text: str, path: Path, *, line: int = 1) -> Any:
    """Parse JSON text that begins on `line` of a file."""
    try:
        value = json.loads(text)
        if HALF_CHARACTER.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{line + error.lineno - 1}: is not JSON ({error.msg}, at character {error.colno}); correct it "
            f"there (in `jsonl` an object has no line breaks inside; text in quotes has none, but for `\\n`)"
        ) from error
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path}:{line}: holds half a character ({error.object[error.start]!a}); write both halves of the pair, "
            f"or neither"
        ) from error
    except (RecursionError, ValueError) as error:
        raise InputError(
            f"{path}:{line}: cannot be read as JSON ({error}); make its lists less deep or its numbers shorter"
        ) from error

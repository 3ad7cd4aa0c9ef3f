"""JSON: one object per line (`jsonl`), or one file of questions and answers in SQuAD's form (`squad`)."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from multitask_bert.config import HeadConfig, InputError, SourceConfig
from multitask_bert.data.readers.records import ExampleMaker
from multitask_bert.data.readers.text import read_lines, read_text, shown, without_end
from multitask_bert.records import Example

HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")  # JSON can write half of a surrogate pair; UTF-8 cannot
LACKING: Any = object()


def read_jsonl(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """One JSON object per line; blank lines are passed over."""
    make: ExampleMaker | None = None
    for number, line in enumerate(map(without_end, read_lines(path, source.encoding)), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        record = _parsed(line, path, line=number)
        if not isinstance(record, dict):
            raise InputError(
                f"{where}: {shown(record)} is not a JSON object; write one per line, as in "
                f'{{"text": …, "label": …}} (a whole array becomes lines by `jq -c ".[]"`)'
            )
        make = make or ExampleMaker(source, heads, where, list(record))
        yield make(record, where)
    if make is not None:
        make.finish()


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
    make = ExampleMaker(source, heads, f"{path}:1", columns)
    make.check_columns()
    for place, question in _questions(file, str(path)):
        identity = question.get("id", place)
        where = f"{path}:{line_of(identity)} (question {identity})"
        if not isinstance(question.get("answers", []), list) or question.get("is_impossible") not in (
            None, True, False,
        ):  # fmt: skip
            raise InputError(f"{where}: `answers` must be a list and `is_impossible` true or false; correct it")
        if question.get("is_impossible"):
            question = {**question, "answers": []}
        yield make(question, where)


class _LineFinder:
    """The line on which a question stands, by its id; questions come in the order of the file."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0
        self.ends = [match.start() for match in re.finditer("\n", text)]

    def __call__(self, identity: Any) -> int:
        found = self.text.find(json.dumps(identity, ensure_ascii=False), self.place)
        self.place = max(found, self.place)
        return bisect_left(self.ends, self.place) + 1


def _questions(file: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each question with its place in the file, joined with its context and title."""
    for article_place, article in _items(file, "data", f"{path}:1: ", ""):
        for paragraph_place, paragraph in _items(article, "paragraphs", f"{path}:1: ", article_place):
            context = paragraph.get("context") if isinstance(paragraph, dict) else None
            if not isinstance(context, str):
                raise InputError(f"{path}:1: {paragraph_place} has no `context`, which must be a text; add it")
            for place, question in _items(paragraph, "qas", f"{path}:1: ", paragraph_place):
                if not isinstance(question, dict):
                    raise InputError(f"{path}:1: {place} is {shown(question)}, not a JSON object; correct it")
                yield place, {"title": article.get("title"), **question, "context": context}


def _items(parent: Any, key: str, before: str, place: str) -> Iterator[tuple[str, Any]]:
    """The items of a list, each with its place (`data[3].paragraphs[0]`)."""
    items = parent.get(key, LACKING) if isinstance(parent, dict) else LACKING
    if not isinstance(items, list):
        inside = f" in {place}" if place else ""
        raise InputError(
            f"{before}no list `{key}`{inside}; SQuAD's form is "
            f'{{"data": [{{"paragraphs": [{{"context": …, "qas": […]}}]}}]}}; for one object per line, set '
            f"`format: jsonl`"
        )
    for number, item in enumerate(items):
        yield f"{place}{'.' if place else ''}{key}[{number}]", item


def _parsed(text: str, path: Path, *, line: int = 1) -> Any:
    """The value of JSON text that begins on `line` of a file."""
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

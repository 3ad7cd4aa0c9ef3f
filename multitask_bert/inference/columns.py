"""The fields in which records (rows, JSON objects) have their texts: the keys of an input, or names of the run's tasks.

A run was trained on files with columns of its own names; the same files can be predicted for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from multitask_bert.data.readers.records import ABSENT, look_up
from multitask_bert.heads import HEAD_TYPES, Head
from multitask_bert.inference.inputs import Input, read_input

# By key of an input (see inputs.KEYS), the column with it (dots lead into objects); `choices` may have several.
Columns: TypeAlias = Mapping[str, str | Sequence[str]]

PAIR: Columns = {"text": "text", "text_pair": "text_pair"}
QUESTION: Columns = {"question": "question", "context": "context"}
CHOICES: Columns = {"text": "text", "choices": "choices"}
WORDS: Columns = {"words": "words"}


def columns_of_task(task: Mapping[str, Any]) -> Columns | None:
    """The names that a task of a run's config has for its texts; None: its files have columns without names."""
    source, heads = task["source"], task.get("heads") or {}
    if source.get("words"):
        return {"words": source["words"]}
    if not source.get("text"):
        return None
    first, second = pair_fields_of(head.get("type") for head in heads.values())
    found: dict[str, str | Sequence[str]] = {first: source["text"]}
    if source.get("text_pair"):
        found[second] = source["text_pair"]
    if source.get("choices"):
        found["choices"] = tuple(source["choices"])
    return found


def pair_fields_of(head_types: Iterable[str | None]) -> tuple[str, str]:
    """The keys under which two texts are given to heads of these types."""
    every = (HEAD_TYPES[head_type].pair_fields for head_type in head_types if head_type in HEAD_TYPES)
    return next((own for own in every if own != Head.pair_fields), Head.pair_fields)


def of_tables(columns: Iterable[Columns]) -> list[Columns]:
    """All columns that are looked for in a table's header; `columns`: those of the run's tasks."""
    own = list(columns)
    return [PAIR, *own, *([CHOICES] if any("choices" in one for one in own) else []), QUESTION]


def of_objects(columns: Iterable[Columns]) -> list[Columns]:
    """All fields that are looked for in a JSON object; `columns`: those of the run's tasks."""
    return [WORDS, CHOICES, PAIR, *columns, QUESTION]


def pick(known: Sequence[Columns], record: Mapping[str, Any]) -> Columns | None:
    """Those of `known` that find the most texts in a record, the first of equals, without those that it lacks."""
    found = [{key: names for key, names in one.items() if _has(record, names)} for one in known]
    found = [has for has, one in zip(found, known, strict=True) if next(iter(one)) in has]
    return max(found, key=len, default=None)


def read_record(record: Mapping[str, Any], columns: Columns, where: str) -> Input:
    """The input that a record holds in `columns`, together with its other fields.

    Raises:
        InputError: from `read_input`.
    """
    item = read_input({key: _value(record, key, names) for key, names in columns.items()}, where)
    used = {name for names in columns.values() for name in listed(names)}
    others = {key: value for key, value in record.items() if key not in used and key not in item.shown}
    return replace(item, shown={**item.shown, **others})


def _value(record: Mapping[str, Any], key: str, names: str | Sequence[str]) -> Any:
    values = [look_up(record, name) for name in listed(names)]
    if key == "choices" and len(values) > 1:
        return values
    (value,) = values
    if isinstance(value, str) and key == "words":  # split like the words of training data
        return re.findall(r"[^ \t]+", value)
    if isinstance(value, str) and key == "choices":
        return _from_json(value) if value.strip() else []
    return value


def _from_json(text: str) -> Any:
    """A list that is written as JSON in the field of a table; the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or an integer of thousands of digits
        return text


def _has(record: Mapping[str, Any], names: str | Sequence[str]) -> bool:
    return all(look_up(record, name) is not ABSENT for name in listed(names))


def listed(names: str | Sequence[str]) -> Sequence[str]:
    """The columns that hold a key's value."""
    return (names,) if isinstance(names, str) else names

"""Where records (rows, JSON objects) have their texts: under the keys of an input, or as the run's own tasks say.

A run was trained on files with columns of its own names; the same files can be predicted for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from multitask_bert.data.readers.records import ABSENT, look_up
from multitask_bert.inference.inputs import Input, read_input

# By key of an input (see inputs.KINDS), the column with it (dots lead into objects); `choices` may have several.
Columns: TypeAlias = Mapping[str, str | Sequence[str]]

PAIR: Columns = {"text": "text", "text_pair": "text_pair"}
QUESTION: Columns = {"question": "question", "context": "context"}
CHOICES: Columns = {"text": "text", "choices": "choices"}
WORDS: Columns = {"words": "words"}


def columns_of_task(task: Mapping[str, Any]) -> Columns | None:
    """What a task of a run's config calls its texts; None: its files have columns without names."""
    source, heads = task["source"], task.get("heads") or {}
    if source.get("words"):
        return {"words": source["words"]}
    if not source.get("text"):
        return None
    is_question = any(head.get("type") == "span" for head in heads.values())
    first, second = QUESTION if is_question else PAIR
    found: dict[str, str | Sequence[str]] = {first: source["text"]}
    if source.get("text_pair"):
        found[second] = source["text_pair"]
    if source.get("choices"):
        found["choices"] = tuple(source["choices"])
    return found


def of_tables(columns: Iterable[Columns]) -> list[Columns]:
    """All that a table's header is looked at for; `columns`: those of the run's tasks."""
    own = list(columns)
    return [PAIR, *own, *([CHOICES] if any("choices" in one for one in own) else []), QUESTION]


def of_objects(columns: Iterable[Columns]) -> list[Columns]:
    """All that a JSON object is looked at for."""
    return [WORDS, CHOICES, PAIR, *columns, QUESTION]


def pick(known: Sequence[Columns], record: Mapping[str, Any]) -> Columns | None:
    """Those of `known` that find the most texts in a record, the first of equals; without what the record lacks."""
    found = [{key: names for key, names in one.items() if _has(record, names)} for one in known]
    found = [has for has, one in zip(found, known, strict=True) if next(iter(one)) in has]
    return max(found, key=len, default=None)


def read_record(record: Mapping[str, Any], columns: Columns, where: str) -> Input:
    """The input that a record holds in `columns`; its other fields come back as they are.

    Raises:
        InputError: as `read_input`.
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
    if isinstance(value, str) and key == "words":  # cut as words of training data are
        return re.findall(r"[^ \t]+", value)
    if isinstance(value, str) and key == "choices":
        return _from_json(value) if value.strip() else []
    return value


def _from_json(text: str) -> Any:
    """A list that is written as JSON in the field of a table; the text itself where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or an integer of thousands of digits
        return text


def _has(record: Mapping[str, Any], names: str | Sequence[str]) -> bool:
    return all(look_up(record, name) is not ABSENT for name in listed(names))


def listed(names: str | Sequence[str]) -> Sequence[str]:
    """The columns that a key's value stands in."""
    return (names,) if isinstance(names, str) else names

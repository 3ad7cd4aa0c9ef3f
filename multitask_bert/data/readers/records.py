"""One record (a row, a JSON object, a line of parallel files) becomes an `Example`: the same for every such format.

Columns go by name; in nested records `a.b` is the field b of a. A label that is absent, null or empty is missing. The
place of an example with words is `file:line:1`, of which the last is the number of the word, for errors.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data.readers.bad_records import BadRecords
from multitask_bert.data.readers.entities import EntityReader
from multitask_bert.data.readers.text import count, is_blank, shown
from multitask_bert.data.words import Entity, cut_words, split_at_borders, tags_of
from multitask_bert.errors import InputError
from multitask_bert.heads import head_type, parse_label
from multitask_bert.labels import about_quotes
from multitask_bert.records import Example

ABSENT = object()


class ExampleMaker:
    """Makes examples of the records of one file; `where`: the place of its header (or first record), for errors.

    `bad` is told what is to be said of the file as a whole; `hint` ends the error for a column that is not there.
    """

    def __init__(
        self,
        source: SourceConfig,
        heads: Mapping[str, HeadConfig],
        where: str,
        columns: Sequence[str],
        *,
        bad: BadRecords,
        hint: str = "",
    ) -> None:
        self.source, self.heads, self.where, self.columns, self.hint = source, heads, where, columns, hint
        self.fields = _fields(source, heads, f"{where}: {', '.join(columns)}")
        self.read_entities = EntityReader(source)
        bad.remarks = self.read_entities.remarks
        self.unseen = dict(self.fields)

    def check_columns(self) -> None:
        """Refuse what names no column, where all records have the same ones (names with dots look into them)."""
        there = dict.fromkeys(self.columns)
        for field, column in self.fields.items():
            if _field(there, column) is ABSENT and _field(there, column.split(".")[0]) is ABSENT:
                raise self._lacking(field, "the header lacks")

    def finish(self) -> None:
        """After the last record: refuse what named a field that none of them had."""
        for field in self.unseen:
            raise self._lacking(field, "no record has")

    def __call__(self, record: Mapping[str, Any], where: str) -> Example:
        text, offsets, words = self._text_and_words(record, where)
        entities = {}
        if self.source.words is None:
            named = [(name, head) for name, head in self.heads.items() if head_type(head.type).reads_words]
            entities = {name: self._entities(name, head, record, text, where) for name, head in named}
            if entities:
                every = [entity for found in entities.values() for entity in found or ()]
                uncut = cut_words(text)
                self.read_entities.compare(every, uncut, text)
                offsets = tuple(split_at_borders(uncut, every))
                words = tuple(text[begin:end] for begin, end in offsets)
        labels = {}
        place = where if words is None else f"{where}:1"
        for name, head in self.heads.items():
            if name in entities:
                raw: Any = None if entities[name] is None else tags_of(offsets or (), entities[name] or ())
            elif head_type(head.type).reads_words:
                raw = self._tags(name, head, record, words or (), where)
            else:
                raw = self._label(name, head, record)
            labels[name] = parse_label(head, raw, place if head_type(head.type).reads_words else where)
        return Example(
            where=place,
            text=text,
            labels=labels,
            text_pair=None if self.source.text_pair is None else self._string("source.text_pair", record, where),
            words=words,
            word_offsets=offsets,
            choices=self._choices(record, where),
            spans=_places(entities) if entities else None,
        )

    def _text_and_words(
        self, record: Mapping[str, Any], where: str
    ) -> tuple[str, tuple[tuple[int, int], ...] | None, tuple[str, ...] | None]:
        if self.source.words is None:
            return self._string("source.text", record, where), None, None
        words = _listed(self._value("source.words", record))
        if words is None or not words or not all(isinstance(word, str) and not is_blank(word) for word in words):
            found = shown(self._value("source.words", record))
            raise InputError(
                f"{where}: the field '{self.source.words}' must hold words, and none of them empty, but holds "
                f"{found}; remove the record, or correct it"
            )
        return " ".join(words), None, tuple(words)

    def _string(self, field: str, record: Mapping[str, Any], where: str) -> str:
        value, column = self._value(field, record), self.fields[field]
        if value is None and look_up(record, column) is ABSENT:
            raise InputError(
                f"{where}: there is no '{column}', which {field} names (there is: {', '.join(map(str, record))}); "
                f"correct the name, or the record"
            )
        if value is None or (isinstance(value, str) and not value.strip()):
            raise InputError(f"{where}: the text is empty; remove the line or fill the column '{column}'")
        if not isinstance(value, str):
            raise InputError(
                f"{where}: the column '{column}' named by {field} holds {shown(value)}, which is not a text; "
                f"name the column with the text"
            )
        return value

    def _tags(
        self, name: str, head: HeadConfig, record: Mapping[str, Any], words: Sequence[str], where: str
    ) -> tuple[Any, ...] | None:
        value = self._value(f"heads.{name}.column", record)
        if value is None or value == "" or (isinstance(value, str) and not value.strip()):
            return None
        tags = _listed(value)
        if tags is None:
            raise InputError(
                f"{where}: the column '{head.column}' named by heads.{name}.column must hold a tag for each word (a "
                f"list, or a string with spaces between them), but holds {shown(value)}; correct it"
            )
        if len(tags) != len(words):
            raise InputError(
                f"{where}: {count(len(words), 'word')} in '{self.source.words}', but {count(len(tags), 'tag')} in "
                f"'{head.column}'; correct the line, so that each word has one"
            )
        return tuple(tag if isinstance(tag, str) or tag is None else str(tag) for tag in tags)

    def _entities(
        self, name: str, head: HeadConfig, record: Mapping[str, Any], text: str, where: str
    ) -> list[Entity] | None:
        value = self._value(f"heads.{name}.column", record)
        if value is None:
            return None
        if not isinstance(value, list | tuple):
            raise InputError(
                f"{where}: the column '{head.column}' named by heads.{name}.column must hold a list of entities, as "
                f'[{{"start": 0, "end": 4, "label": "PER"}}], but holds {shown(value)}; correct it, or name the '
                f"column with the words in source.words"
            )
        return self.read_entities(value, where, text)

    def _label(self, name: str, head: HeadConfig, record: Mapping[str, Any]) -> Any:
        if head.columns is not None:
            return {column: self._value(f"heads.{name}.columns.{column}", record) for column in head.columns}
        return self._value(f"heads.{name}.column", record)

    def _choices(self, record: Mapping[str, Any], where: str) -> tuple[str, ...] | None:
        columns = self.source.choices
        if columns is None:
            return None
        values = [self._value(f"source.choices.{column}", record) for column in columns]
        if len(columns) == 1:
            (values,) = ([value] if not isinstance(value, list | tuple) else list(value) for value in values)
        if len(values) < 2 or not all(isinstance(value, str) and value.strip() for value in values):
            raise InputError(
                f"{where}: `source.choices: [{', '.join(columns)}]` must give two texts or more, none of them empty, "
                f"but gives {shown(values)}; correct the record or name other columns"
            )
        return tuple(values)

    def _value(self, field: str, record: Mapping[str, Any]) -> Any:
        """None where it is absent, null or not a number."""
        value = look_up(record, self.fields[field])
        if value is not ABSENT:
            self.unseen.pop(field, None)
        return None if value is ABSENT or (isinstance(value, float) and math.isnan(value)) else value

    def _lacking(self, field: str, how: str) -> InputError:
        quotes = about_quotes([self.fields[field]], self.columns)
        way_out = quotes or self.hint or "; correct the name, or the file"
        name = field.rpartition(".")[0] if field.startswith("source.choices.") or ".columns." in field else field
        return InputError(
            f"{self.where}: {how} the column '{self.fields[field]}' named by {name} (it has: "
            f"{', '.join(self.columns)}){way_out}"
        )


def look_up(record: Mapping[str, Any], name: str) -> Any:
    """The field of that name, or, where it has dots, the field inside of fields; ABSENT where there is none."""
    value = _field(record, name)
    if value is not ABSENT or "." not in name:
        return value
    value = record
    for part in name.split("."):
        value = _field(value, part) if isinstance(value, Mapping) else ABSENT
    return value


def _field(record: Mapping[str, Any], name: str) -> Any:
    """The field of that name, in whatever Unicode form either is written."""
    if name in record or name.isascii():
        return record.get(name, ABSENT)
    name = unicodedata.normalize("NFC", name)
    return next((value for key, value in record.items() if unicodedata.normalize("NFC", str(key)) == name), ABSENT)


def _fields(source: SourceConfig, heads: Mapping[str, HeadConfig], listed: str) -> dict[str, str]:
    """The column that each field of the config names.

    Raises:
        InputError: one is needed that the config does not name.
    """
    if source.words is not None and source.text is not None:
        raise InputError("source.words and source.text are both named; name the one that the labels are for")
    first = "text" if source.words is None else "words"
    fields: dict[str, str | None] = {f"source.{first}": getattr(source, first)}
    if source.text_pair is not None:
        fields["source.text_pair"] = source.text_pair
    fields |= {f"source.choices.{column}": column for column in source.choices or ()}
    for name, head in heads.items():
        if head.columns is None:
            fields[f"heads.{name}.column"] = head.column
        else:
            fields |= {f"heads.{name}.columns.{column}": column for column in head.columns}
    for field, column in fields.items():
        if column is None:
            raise InputError(f"{field}: missing; name one of the columns of {listed}")
    return {field: column for field, column in fields.items() if column is not None}


def _listed(value: Any) -> list[Any] | None:
    """A list, or a string cut at spaces and tabs (not at other white space, which is data); None: neither."""
    if isinstance(value, str):
        return re.findall(r"[^ \t]+", value)
    return list(value) if isinstance(value, list | tuple) else None


def _places(entities: Mapping[str, list[Entity] | None]) -> dict[str, tuple[tuple[int, int], ...]]:
    return {name: tuple((one.start, one.end) for one in found or ()) for name, found in entities.items()}

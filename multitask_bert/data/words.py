"""Words out of a text, each with its place in it, and tags out of entities that are given by characters.

A word is a run of letters, digits, underscores and the marks on them, also across an apostrophe or a hyphen that stands
between two of them (`ng'ombe`, `Dar-es-Salaam`); any other character that is not white space is a word of its own, with
the marks that follow it. The rule is for texts that come
without words: in training for `entities` by characters, and when predicting for texts that are typed in.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

from multitask_bert.records import Offset


class Entity(NamedTuple):
    """Part of a text, in characters: from `start` to before `end`."""

    start: int
    end: int
    label: str


def cut_words(text: str) -> list[Offset]:
    """Begin and end of each word, in characters."""
    return [match.span() for match in _word_pattern().finditer(text)]


def split_at_borders(offsets: Sequence[Offset], entities: Sequence[Entity]) -> list[Offset]:
    """The words, those cut in two in which an entity begins or ends."""
    borders = iter(sorted({border for entity in entities for border in (entity.start, entity.end)}))
    border = next(borders, sys.maxsize)
    parts = []
    for begin, end in offsets:
        while border < end:
            if border > begin:
                parts.append((begin, border))
                begin = border
            border = next(borders, sys.maxsize)
        parts.append((begin, end))
    return parts


def tags_of(offsets: Sequence[Offset], entities: Sequence[Entity]) -> tuple[str, ...]:
    """The IOB2 tag of each word; no word lies across an entity's border, and no two entities overlap."""
    tags = []
    left = iter(sorted(entities))
    entity, is_first = next(left, None), True
    for begin, _ in offsets:
        while entity is not None and entity.end <= begin:
            entity, is_first = next(left, None), True
        if entity is None or begin < entity.start:
            tags.append("O")
        else:
            tags.append(f"{'B' if is_first else 'I'}-{entity.label}")
            is_first = False
    return tuple(tags)


@cache
def _word_pattern() -> re.Pattern[str]:
    marks = "".join(_ranges_of_marks()) + "\u200c\u200d"  # and the joiners, which stand inside words and emoji
    run = rf"\w[\w{marks}]*"
    joints = "'\u2019\u02bc\u2010\u2011\\-"  # apostrophes and hyphens
    return re.compile(rf"{run}(?:[{joints}]{run})*|[^\w\s][{marks}]*")


def _ranges_of_marks() -> Iterator[str]:
    """Python's `\\w` lacks combining marks (category M), without which é in two parts, or हिन्दी, is no word."""
    first = None
    for code in range(sys.maxunicode + 2):
        is_mark = code <= sys.maxunicode and unicodedata.category(chr(code)).startswith("M")
        if is_mark and first is None:
            first = code
        elif not is_mark and first is not None:
            yield f"{chr(first)}-{chr(code - 1)}"
            first = None

"""Steps 1 and 2 of the flow, for texts without words: the text is split into words, entities by characters into tags.

Used for data with entities by characters, and for texts to be predicted for. A word is a run of letters, digits,
underscores and the marks on them, also across an apostrophe or a hyphen that stands between two of them (`ng'ombe`,
`Dar-es-Salaam`); any other character that is not white space is a word of its own, with the marks that follow it.

Entities may begin and end anywhere, predictions only where words do. In training, words are split at the borders of the
entities. For scores they are not: dev and test texts have the words that predicting gives, and where an entity's border
splits a word, each part takes the tag that is predicted for the word. So entities are compared by their characters.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from multitask_bert.records import CONTINUES_WORD, Example, Offset


class Entity(NamedTuple):
    """Part of a text, in characters: from `start` to before `end`."""

    start: int
    end: int
    label: str


def split_words(text: str) -> list[Offset]:
    """Begin and end of each word, in characters."""
    return [match.span() for match in word_pattern().finditer(text)]


def split_at_borders(offsets: Sequence[Offset], entities: Sequence[Entity]) -> list[Offset]:
    """The words, each split where an entity begins or ends inside it."""
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


def starts_of_parts(parts: Sequence[Offset], words: Sequence[Offset], word_starts: Sequence[int]) -> tuple[int, ...]:
    """`word_starts` of the parts into which words are split: the word's for its first part, else CONTINUES_WORD.

    A part outside of all words, as `set_apart` makes them, has none (-1).
    """
    start_at = {begin: start for (begin, _), start in zip(words, word_starts, strict=True)}
    last_end = words[-1][1] if words else 0
    return tuple(start_at.get(begin, CONTINUES_WORD if begin < last_end else -1) for begin, _ in parts)


def set_apart(example: Example) -> Example:
    """Move entities that begin or end with white space, which no word does, to where no prediction finds them.

    The tags of their words become O, and each such entity gets an empty word of its own at the end of the text.
    """
    if not any(_borders_on_space(example.text, span) for spans in (example.spans or {}).values() for span in spans):
        return example
    offsets = example.word_offsets or ()
    labels: dict[str, Any] = dict(example.labels)
    added: dict[str, list[str]] = {}
    for head, spans in (example.spans or {}).items():
        if labels[head] is None:
            continue
        names = (tag[2:] for tag in labels[head] if tag.startswith("B-"))
        entities = [Entity(*span, name) for span, name in zip(spans, names, strict=True)]
        apart = [entity for entity in entities if _borders_on_space(example.text, entity)]
        labels[head] = tags_of(offsets, [entity for entity in entities if entity not in apart])
        added[head] = [f"B-{entity.label}" for entity in apart]
    num_added = max(map(len, added.values()))
    for head, tags in added.items():
        labels[head] += (*tags, *["O"] * (num_added - len(tags)))
    end = len(example.text)
    return replace(
        example,
        words=(*(example.words or ()), *[""] * num_added),
        word_offsets=(*offsets, *[(end, end)] * num_added),
        labels=labels,
    )


def num_out_of_reach(example: Example) -> Mapping[str, int]:
    """By head, the number of entities by characters that begin or end where no word of the text does."""
    words = split_words(example.text)
    begins, ends = {begin for begin, _ in words}, {end for _, end in words}
    return {
        head: sum(begin not in begins or end not in ends for begin, end in spans)
        for head, spans in (example.spans or {}).items()
    }


def _borders_on_space(text: str, span: Sequence[Any]) -> bool:
    return text[span[0]].isspace() or text[span[1] - 1].isspace()


@cache
def word_pattern() -> re.Pattern[str]:
    """The regular expression whose matches are the words of a text."""
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

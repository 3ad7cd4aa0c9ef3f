"""Steps 1 and 2 of the flow, for texts without words: the text is split into words, entities by characters into tags.

Used for data with entities by characters, and for texts to be predicted for. A word is a run of letters, digits,
underscores and the marks on them, also across an apostrophe or a hyphen that stands between two of them (`ng'ombe`,
`Dar-es-Salaam`); any other character that is not white space is a word of its own, with the marks that follow it. So is
each letter of a script that is written without spaces between words (`UNSPACED_BLOCKS`).

Entities may begin and end anywhere, predictions only where words do. In training, each word that an entity touches is
learned as a part of it. In dev and test, words are split at the borders of entities, and each part takes the tag
predicted for the word. So entities are compared by their characters.
"""

from __future__ import annotations

import itertools
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

from multitask_bert.records import CONTINUES_WORD, Example, Offset

# Scripts that are written without spaces between words: first and last code point of their Unicode blocks.
UNSPACED_BLOCKS = (
    (0x0E00, 0x0E7F),  # Thai
    (0x0E80, 0x0EFF),  # Lao
    (0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007), (0x3021, 0x3029), (0x3038, 0x303C), (0x16FE3, 0x16FE3),  # Han: iteration marks and numerals
    (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFD),  # Han: ideographs
    (0x3031, 0x3035), (0x3040, 0x309F), (0x1B000, 0x1B16F),  # Hiragana, and marks that repeat kana
    (0x30A0, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9D), (0x1AFF0, 0x1AFFF),  # Katakana
)  # fmt: skip
# Letters that belong to the one before them, as marks do: vowels (am) of Thai and Lao, halfwidth sound marks of kana.
TRAILING_LETTERS = "\u0e33\u0eb3\uff9e\uff9f"
STACKERS = "\u17d2\u1039"  # marks of Khmer and Myanmar that stack the next letter under the one before


class Entity(NamedTuple):
    """Part of a text, in characters: from `start` to before `end`."""

    start: int
    end: int
    label: str


def split_words(text: str) -> list[Offset]:
    """Begin and end of each word, in characters."""
    return [match.span() for match in word_pattern().finditer(text)]


def is_unspaced(letter: str) -> bool:
    """Whether a character is a letter of a script that is written without spaces between words."""
    return _unspaced_letter().fullmatch(letter) is not None


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
    """The IOB2 tag of each word: that of the first entity that touches it; no two entities overlap."""
    tags = []
    left = iter(sorted(entities))
    entity, is_first = next(left, None), True
    for begin, end in offsets:
        while entity is not None and entity.end <= begin:
            entity, is_first = next(left, None), True
        if entity is None or end <= entity.start:
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


def share_tokens(text: str, words: Sequence[Offset], word_starts: Sequence[int]) -> tuple[int, ...]:
    """`word_starts` in which a letter of an unspaced script continues the word before it, if both begin in one token.

    A piece of a vocabulary may hold several such letters; it is read once, for all of them.
    """
    shared = []
    last_start = -1
    for (begin, _), start in zip(words, word_starts, strict=True):
        is_shared = start == last_start >= 0 and is_unspaced(text[begin])
        shared.append(CONTINUES_WORD if is_shared else start)
        last_start = start
    return tuple(shared)


def on_whole_words(example: Example) -> Example:
    """For training: the words that predicting gives, each with the tag of the first entity that touches it."""
    if example.spans is None:
        return example
    offsets = tuple(split_words(example.text))
    labels: dict[str, Any] = dict(example.labels)
    labels |= {head: tags_of(offsets, entities) for head, entities in _entities_of(example).items()}
    return replace(
        example, words=tuple(example.text[begin:end] for begin, end in offsets), word_offsets=offsets, labels=labels
    )


def set_apart(example: Example) -> Example:
    """Move entities that begin or end with white space, which no word does, to where no prediction finds them.

    The tags of their words become O, and each such entity gets an empty word of its own at the end of the text.
    """
    if not any(_borders_on_space(example.text, span) for spans in (example.spans or {}).values() for span in spans):
        return example
    offsets = example.word_offsets or ()
    labels: dict[str, Any] = dict(example.labels)
    added: dict[str, list[str]] = {}
    for head, entities in _entities_of(example).items():
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


def _entities_of(example: Example) -> dict[str, list[Entity]]:
    """The entities by characters of an example, by head; without heads whose label is missing."""
    found = {}
    for head, spans in (example.spans or {}).items():
        if example.labels[head] is not None:
            names = (tag[2:] for tag in example.labels[head] if tag.startswith("B-"))
            found[head] = [Entity(*span, name) for span, name in zip(spans, names, strict=True)]
    return found


def _borders_on_space(text: str, span: Sequence[Any]) -> bool:
    return text[span[0]].isspace() or text[span[1] - 1].isspace()


@cache
def word_pattern() -> re.Pattern[str]:
    """The regular expression whose matches are the words of a text."""
    marks = _ranges_of_marks() + "\u200c\u200d"  # and the joiners, which stand inside words and emoji
    unspaced = _unspaced_letter().pattern[1:-1]
    run = rf"[^\W{unspaced}]+(?:[{marks}]+[^\W{unspaced}]*)*"
    joints = "'\u2019\u02bc\u2010\u2011\\-"  # apostrophes and hyphens
    letter = rf"[{unspaced}](?:[{marks}{TRAILING_LETTERS}]|(?<=[{STACKERS}])[{unspaced}])*"
    return re.compile(rf"{run}(?:[{joints}]{run})*|{letter}|[^\w\s][{marks}]*")


@cache
def _unspaced_letter() -> re.Pattern[str]:
    """One letter of `UNSPACED_BLOCKS`; their digits and signs are none."""
    codes = itertools.chain.from_iterable(range(first, last + 1) for first, last in UNSPACED_BLOCKS)
    letters = (code for code in codes if unicodedata.category(chr(code)) in ("Lo", "Lm", "Nl"))
    return re.compile(f"[{_ranges(letters)}]")


def _ranges_of_marks() -> str:
    """Python's `\\w` lacks combining marks (category M), without which é is in two parts, or हिन्दी, is no word."""
    return _ranges(code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code)).startswith("M"))


def _ranges(codes: Iterable[int]) -> str:
    """Code points as the ranges of a character class."""
    runs = itertools.groupby(enumerate(sorted(codes)), key=lambda item: item[1] - item[0])
    ranges = ([code for _, code in run] for _, run in runs)
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in ranges)

"""Entities given by characters: their forms, overlaps, and offsets that count something else."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from multitask_bert.config.schema import SourceConfig
from multitask_bert.data.readers.text import count, shown
from multitask_bert.data.words import Entity
from multitask_bert.errors import InputError
from multitask_bert.records import Offset

ENTITY_KEYS = ("start", "end", "label")
FEWEST_INSIDE = 3  # entities with a border inside a word, from which on it may be more than chance
LAST_OF_ONE_UNIT = "\uffff"  # characters above it (emoji, mostly) are two units in UTF-16


class EntityReader:
    """Reads the entities of one file's texts; at the end, `remarks` gives warnings about all of them."""

    def __init__(self, source: SourceConfig) -> None:
        self.keeps_longest = source.overlapping_entities == "longest"
        self.num_dropped = 0  # entities that a longer one replaced
        self.num_read = self.num_inside = 0  # entities; and those with a border inside a word
        self.num_after_wide = self.num_inside_after_wide = 0  # the same, where the text before them has wide characters

    def __call__(self, value: Sequence[Any], where: str, text: str) -> list[Entity]:
        """The entities in the order of the text, without overlaps.

        Raises:
            InputError: one is not an entity of this text, or (`overlapping_entities: error`) two overlap.
        """
        entities = sorted(_entity(one, where, text) for one in value)
        if self.keeps_longest:
            longest = _longest(entities)
            self.num_dropped += len(entities) - len(longest)
            return longest
        for before, after in itertools.pairwise(entities):
            if after.start < before.end:
                raise InputError(
                    f"{where}: the entities {shown(text[before.start : before.end])} (from {before.start}) and "
                    f"{shown(text[after.start : after.end])} (from {after.start}) overlap; keep one of them, or set "
                    f"`overlapping_entities: longest`"
                )
        return entities

    def compare(self, entities: Sequence[Entity], words: Sequence[Offset], text: str) -> None:
        """Count the entities with a border inside a word of their text."""
        begins, ends = {begin for begin, _ in words}, {end for _, end in words}
        first_wide = next((index for index, letter in enumerate(text) if letter > LAST_OF_ONE_UNIT), len(text))
        for entity in entities:
            is_inside = _is_inside(entity.start, begins, words) or _is_inside(entity.end, ends, words)
            self.num_read += 1
            self.num_inside += is_inside
            self.num_after_wide += entity.end > first_wide
            self.num_inside_after_wide += is_inside and entity.end > first_wide

    def remarks(self) -> Iterator[str]:
        """Warnings about the file, after its last record."""
        if self.num_dropped:
            yield f"{count(self.num_dropped, 'entity is', 'entities are')} left out for a longer one that overlaps"
        if _are_most(self.num_inside_after_wide, self.num_after_wide):
            yield (
                f"{self.num_inside_after_wide} of {self.num_after_wide} entities behind an emoji begin or end inside a "
                f"word: their offsets seem to count UTF-16 units, as those of JavaScript and Java; count characters"
            )
        elif _are_most(self.num_inside, self.num_read):
            yield (
                f"{self.num_inside} of {self.num_read} entities begin or end inside a word: check that offsets "
                f"count characters (not bytes) of this very text, from 0, and that `end` is the one after the last"
            )


def _are_most(part: int, whole: int) -> bool:
    return part >= FEWEST_INSIDE and 2 * part > whole


def _is_inside(border: int, of_words: set[int], words: Sequence[Offset]) -> bool:
    return border not in of_words and any(begin < border < end for begin, end in words)


def _longest(entities: Sequence[Entity]) -> list[Entity]:
    """The longest of overlapping entities (of equals the first), in the order of the text."""
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda one: (one.start - one.end, one)):
        if all(entity.end <= other.start or other.end <= entity.start for other in kept):
            kept.append(entity)
    return sorted(kept)


def _entity(value: Any, where: str, text: str) -> Entity:
    """`{start, end, label}`, or a list of the three in this order."""
    fields = dict(zip(ENTITY_KEYS, value, strict=False)) if isinstance(value, list | tuple) else value
    found: list[Any] = [fields.get(key) for key in ENTITY_KEYS] if isinstance(fields, Mapping) else []
    problem = next(_entity_problems(found, text), None)
    if problem is not None:
        raise InputError(
            f"{where}: the entity {shown(value)} {problem}; write it as "
            f'{{"start": 0, "end": 4, "label": "PER"}}, in characters of the text'
        )
    return Entity(*found)


def _entity_problems(found: Sequence[Any], text: str) -> Iterator[str]:
    if len(found) != len(ENTITY_KEYS) or not isinstance(found[2], str) or not found[2].strip():
        yield "lacks a label"
    elif not all(isinstance(offset, int) and not isinstance(offset, bool) for offset in found[:2]):
        yield "lacks start or end"
    elif not 0 <= found[0] < found[1] <= len(text):
        is_wide = any(letter > LAST_OF_ONE_UNIT for letter in text)
        units = ", an emoji being one and not, as in UTF-16, two" if is_wide else ""
        yield f"does not lie in the text, which has {count(len(text), 'character')}{units}"
    elif not text[found[0] : found[1]].strip():
        yield "holds no word"

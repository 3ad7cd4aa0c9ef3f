"""The embedded default corpora `ner` and `sentiment`: English and Swahili sentences from a fixed seed, without files.

1. `names` and `topics` give each split words of its own; the pattern files give it sentence patterns of its own.
2. Patterns are filled in turn (half English, half Swahili), with names for `ner` and opinion words for `sentiment`.
3. A sentence that was made before, in any split, is thrown away.

The same on every machine: only `random.Random.random()` is drawn from, and nothing depends on the order of a set.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from random import Random
from typing import TypeVar

from multitask_bert.data.samples import ner_english, ner_swahili
from multitask_bert.data.samples.sentiment_patterns import CIRCUMSTANCES, SENTIMENT_PATTERNS
from multitask_bert.data.samples.words import (
    AMBIGUOUS,
    CLASS_7,
    CLUBS,
    COMPOUNDS,
    FILLERS,
    FIRMS,
    FIRST_NAMES,
    PLACES,
    POLAR,
    SURNAMES,
    TOPICS,
)

SIZES = {"train": 2000, "dev": 300, "test": 500}
LANGUAGES = ("en", "sw")
NER_PATTERNS = {"en": ner_english, "sw": ner_swahili}
LABELS = ("negative", "positive")
ENTITY_TYPES = {"PER": "PER", "LOC": "LOC", "CLUB": "ORG", "FIRM": "ORG", "SCHOOL": "ORG"}
SEED = 2024
# Of the opinion words, how many agree with the label: half, so that a word by itself tells nothing; in training
# more, as MiniLM knows no Swahili and learned next to none of its words at a half.
AGREEING_SHARE = {"train": 0.65, "dev": 0.5, "test": 0.5}
# Of the sentences, how many are contrasts, which hold a word of each polarity: fewer in training, being soon learned.
CONTRAST_SHARE = {"train": 0.1, "dev": 0.3, "test": 0.3}

NerExample = tuple[list[str], list[str]]
TextExample = tuple[str, str]
Item = TypeVar("Item")

# Slot -> (word kind, whether it has the polarity of the label).
OPINION_SLOTS = {
    "good": ("adjective", True),
    "bad": ("adjective", False),
    "loved": ("verb", True),
    "hated": ("verb", False),
    "joy": ("noun", True),
    "mess": ("noun", False),
}


def ner_corpus() -> dict[str, list[NerExample]]:
    """Words and IOB2 tags (PER, LOC, ORG) of each split."""
    rng, seen = Random(SEED), set[str]()
    return {split: _ner_split(rng, split, size, seen) for split, size in SIZES.items()}


def sentiment_corpus() -> dict[str, list[TextExample]]:
    """Text and label (`negative` or `positive`, half each) of each split."""
    rng, seen = Random(SEED + 1), set[str]()
    return {split: _sentiment_split(rng, split, size, seen) for split, size in SIZES.items()}


def names(split: str) -> dict[str, tuple[str, ...]]:
    """The names that the split's entities are made of; no name is in two splits."""
    kinds = {
        "ambiguous": AMBIGUOUS,
        "first": FIRST_NAMES,
        "last": SURNAMES,
        "place": PLACES,
        "club": CLUBS,
        "firm": FIRMS,
    }
    return {kind: share(words, split) for kind, words in kinds.items()}


def topics(split: str, language: str) -> tuple[str, ...]:
    """What the split's opinions are about; no topic is in two splits."""
    return share(TOPICS[language], split)


def share(words: Sequence[str], split: str) -> tuple[str, ...]:
    """Of each five words, three are for train, the fourth for dev and the fifth for test."""
    fifths = {"train": (0, 1, 2), "dev": (3,), "test": (4,)}[split]
    return tuple(word for index, word in enumerate(words) if index % 5 in fifths)


def _ner_split(rng: Random, split: str, size: int, seen: set[str]) -> list[NerExample]:
    pool = names(split)
    decks = {language: _shuffled_forever(rng, NER_PATTERNS[language].PATTERNS[split]) for language in LANGUAGES}
    examples: list[NerExample] = []
    while len(examples) < size:
        language = LANGUAGES[len(examples) % 2]
        pattern = next(decks[language])
        if rng.random() < 0.2:
            pattern = f"{_pick(rng, NER_PATTERNS[language].OPENERS[split])} {pattern}"
        if rng.random() < 0.2:
            pattern = f"{pattern} {_pick(rng, NER_PATTERNS[language].CLOSERS[split])}"
        words, tags = _tagged(rng, pattern, language, pool)
        if _is_new(" ".join(words), seen):
            examples.append(_cased(rng, words, tags))
    return _shuffled(rng, examples)


def _tagged(rng: Random, pattern: str, language: str, pool: dict[str, tuple[str, ...]]) -> NerExample:
    """Fill the slots of a pattern; no name is twice in a sentence."""
    words: list[str] = []
    tags: list[str] = []
    used: set[str] = set()
    for part in pattern.split():
        slot = part.strip("{}")
        if slot == part:
            filled = [part]
        elif slot in ENTITY_TYPES or slot == "EVENT":
            filled = _name(rng, slot, language, pool).split()
            while used & set(filled):
                filled = _name(rng, slot, language, pool).split()
            used.update(word for word in filled if any(word in kind for kind in pool.values()))
        else:
            filled = [_pick(rng, FILLERS[language][slot])]  # DAY, MONTH, NUM
        words += filled
        entity = ENTITY_TYPES.get(slot) if slot != part else None
        tags += [f"B-{entity}"] + [f"I-{entity}"] * (len(filled) - 1) if entity else ["O"] * len(filled)
    return words, tags


def _name(rng: Random, slot: str, language: str, pool: dict[str, tuple[str, ...]]) -> str:
    """A name for the slot: often one that could be of any type, else a plain one or a longer one."""
    chance = rng.random()
    ambiguous = _pick(rng, pool["ambiguous"])
    if slot == "PER":
        first, last = _pick(rng, pool["first"]), _pick(rng, pool["last"])
        if chance < 0.25:
            return ambiguous
        if chance < 0.35:
            return last
        if chance < 0.80:
            return f"{first} {last}"
        return f"{first} {ambiguous}" if chance < 0.90 else f"{first} {ambiguous} {last}"
    if slot == "EVENT":
        return _pick(rng, FILLERS[language][slot]).format(x=_pick(rng, pool["ambiguous"] + pool["place"]))
    if chance < 0.30:
        return ambiguous
    plain = {"LOC": "place", "CLUB": "club", "FIRM": "firm"}.get(slot)
    if chance < 0.65 and plain:
        return _pick(rng, pool[plain])
    return _pick(rng, COMPOUNDS[language][slot]).format(x=_pick(rng, pool["ambiguous"] + pool["place"]))


def _cased(rng: Random, words: list[str], tags: list[str]) -> NerExample:
    """Mostly a sentence with a capital and a full stop; some are all lower case, some are headlines."""
    chance = rng.random()
    if chance < 0.20:
        return [word.lower() for word in words], tags
    if chance < 0.30:
        return [_capitalised(word) for word in words], tags
    return [_capitalised(words[0]), *words[1:], "."], [*tags, "O"]


def _sentiment_split(rng: Random, split: str, size: int, seen: set[str]) -> list[TextExample]:
    """Half of each label; opinion words agree with the label in the `AGREEING_SHARE` of their uses."""
    examples: list[TextExample] = []
    for language in LANGUAGES:
        patterns = SENTIMENT_PATTERNS[language][split]
        plain, turned, contrasts = (
            _shuffled_forever(rng, [pattern for pattern in patterns if _sign(pattern) == sign]) for sign in (1, -1, 0)
        )
        uses: Counter[tuple[str, str]] = Counter()  # (opinion word, label) -> how often
        agreeing, opposing = 0, 0  # opinion words with and without the polarity of their label
        for index in range(size // len(LANGUAGES)):
            label = LABELS[index % 2]
            if index % 2 == 0:  # one pattern for a negative and then a positive sentence
                deck = plain if agreeing <= AGREEING_SHARE[split] * (agreeing + opposing) else turned
                pattern = next(contrasts if rng.random() < CONTRAST_SHARE[split] else deck)
                agreeing, opposing = agreeing + _count(pattern, True), opposing + _count(pattern, False)
            text = _opinion(rng, pattern, language, split, label, uses)
            while not _is_new(text, seen):
                text = _opinion(rng, pattern, language, split, label, uses)
            examples.append((text.lower() if rng.random() < 0.25 else text, label))
    return _shuffled(rng, examples)


def _sign(pattern: str) -> int:
    """1 where most opinion words agree with the label (plain), -1 where few do (turned round), 0 for contrasts."""
    agreeing, opposing = _count(pattern, True), _count(pattern, False)
    return (agreeing > opposing) - (agreeing < opposing)


def _count(pattern: str, agreeing: bool) -> int:
    """How many slots want an opinion word that agrees (or disagrees) with the label."""
    slots = (slot.rstrip("7") for slot in re.findall(r"{(\w+)}", pattern))
    return sum(OPINION_SLOTS[slot][1] is agreeing for slot in slots if slot in OPINION_SLOTS)


def _opinion(rng: Random, pattern: str, language: str, split: str, label: str, uses: Counter[tuple[str, str]]) -> str:
    """Fill a pattern so that it means `label`, with the opinion words least used for that label."""
    thing, other = _shuffled(rng, topics(split, language))[:2]
    filled: dict[str, str] = {"thing": thing, "other": other}

    def fill(match: re.Match[str]) -> str:
        slot = match[1]
        if slot in filled:
            return filled[slot]
        kind, same = OPINION_SLOTS[slot.rstrip("7")]
        polarity = label if same else LABELS[1 - LABELS.index(label)]
        words = _shuffled(rng, POLAR[language][kind][polarity])
        word = min(words, key=lambda word: uses[word, label])
        uses[word, label] += 1
        return _class_7(word) if slot.endswith("7") else word

    if rng.random() < 0.35:
        pattern = f"{_pick(rng, CIRCUMSTANCES[language][split])} {pattern}"
    return _capitalised(re.sub(r"{(\w+)}", fill, pattern)) + "."


def _class_7(adjective: str) -> str:
    """The form after `kitu`: kizuri, cha kuvutia."""
    return "cha " + adjective.removeprefix("ya ") if adjective.startswith("ya ") else CLASS_7.get(adjective, adjective)


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _is_new(text: str, seen: set[str]) -> bool:
    """Whether no split has the text yet, in any casing; from now on it is seen."""
    is_new = text.lower() not in seen
    seen.add(text.lower())
    return is_new


def _pick(rng: Random, options: Sequence[str]) -> str:
    return options[int(rng.random() * len(options))]


def _shuffled(rng: Random, items: Sequence[Item]) -> list[Item]:
    return sorted(items, key=lambda _: rng.random())


def _shuffled_forever(rng: Random, items: Sequence[str]) -> Iterator[str]:
    """All items in a random order, and again in another."""
    while True:
        yield from _shuffled(rng, items)

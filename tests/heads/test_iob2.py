"""Schemes of entity tags: what each means in IOB2, what is refused, and decoding that keeps to IOB2."""

from __future__ import annotations

import itertools
from random import Random

import numpy as np
import pytest

from multitask_bert.heads.iob2 import TagError, best_valid_sequence, may_follow, to_iob2
from multitask_bert.utils.metrics import default_spans, strict_spans

NAMES = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        ("iob2", "O B-PER I-PER B-PER O", "O B-PER I-PER B-PER O"),
        ("iob2", "O I-PER I-PER", "O I-PER I-PER"),  # an orphan stays
        ("iob1", "O I-PER I-PER O", "O B-PER I-PER O"),
        ("iob1", "I-PER B-PER I-PER", "B-PER B-PER I-PER"),
        ("iob1", "I-PER I-LOC I-LOC", "B-PER B-LOC I-LOC"),
        ("iob1", "B-PER I-PER O", "B-PER I-PER O"),  # IOB2 where nothing touches
        ("bioes", "S-PER O B-LOC E-LOC", "B-PER O B-LOC I-LOC"),
        ("bioes", "B-LOC I-LOC I-LOC E-LOC S-LOC", "B-LOC I-LOC I-LOC I-LOC B-LOC"),
        ("bioes", "U-PER O B-LOC L-LOC", "B-PER O B-LOC I-LOC"),  # BILOU
        ("bioes", "B-LOC M-LOC E-LOC", "B-LOC I-LOC I-LOC"),  # BMES
        ("bioes", "B-ORG-X E-ORG-X", "B-ORG-X I-ORG-X"),
    ],
)
def test_each_scheme_becomes_iob2(scheme: str, tags: str, expected: str) -> None:
    assert to_iob2(tags.split(), scheme) == tuple(expected.split())


@pytest.mark.parametrize("scheme", ["iob2", "iob1", "bioes"])
def test_a_sentence_without_words_has_no_tags(scheme: str) -> None:
    assert to_iob2([], scheme) == ()


def random_entities(random: Random) -> tuple[list[tuple[str, int, int]], int]:
    """Entities (type, first and last word) of one sentence, and its length."""
    entities, word = [], 0
    for _ in range(random.randint(0, 5)):
        word += random.choice([0, 0, 1, 2])
        length = random.randint(1, 3)
        entities.append((random.choice(["PER", "LOC", "ORG"]), word, word + length - 1))
        word += length
    return entities, word + random.randint(0, 2)


def written(entities: list[tuple[str, int, int]], length: int, scheme: str) -> list[str]:
    tags = ["O"] * length
    for kind, first, last in entities:
        tags[first : last + 1] = [f"I-{kind}"] * (last + 1 - first)
        touches = any(other == (kind, other[1], first - 1) for other in entities)
        if scheme != "iob1" or touches:
            tags[first] = f"B-{kind}"
        if scheme == "bioes":
            tags[last] = f"E-{kind}" if last > first else f"S-{kind}"
    return tags


@pytest.mark.parametrize("scheme", ["iob2", "iob1", "bioes"])
@pytest.mark.parametrize("seed", range(50))
def test_entities_written_in_any_scheme_are_read_back(scheme: str, seed: int) -> None:
    entities, length = random_entities(Random(seed))
    tags = to_iob2(written(entities, length, scheme), scheme)
    assert strict_spans(tags) == default_spans(tags) == entities


@pytest.mark.parametrize(
    ("scheme", "tags", "index", "message"),
    [
        ("iob2", "O S-PER", 1, "tag 'S-PER' is not IOB2 (expected O, B-X or I-X)"),
        ("iob1", "E-PER", 0, "tag 'E-PER' is not IOB1"),
        ("bioes", "O PER", 1, "tag 'PER' is not BIOES (expected O, B-X, I-X, E-X or S-X)"),
        ("bioes", "O I-PER E-PER", 1, "tag 'I-PER' continues an entity that no B-PER began"),
        ("bioes", "B-LOC E-PER", 1, "tag 'E-PER' continues an entity that no B-PER began"),
        ("bioes", "S-PER I-PER", 1, "tag 'I-PER' continues"),
        ("bioes", "B-PER O", 1, "tag 'O' stands where an entity of type PER has not ended (E-PER)"),
        ("bioes", "B-PER S-PER", 1, "tag 'S-PER' stands where"),
        ("bioes", "B-PER B-PER", 1, "tag 'B-PER' stands where"),
        ("bioes", "O B-PER I-PER", 2, "tag 'I-PER' leaves an entity of type PER without its end"),
        ("bioes", "O B-PER", 1, "tag 'B-PER' leaves an entity of type PER without its end"),
    ],
)
def test_tags_against_the_scheme_are_named_with_the_index_of_their_word(
    scheme: str, tags: str, index: int, message: str
) -> None:
    with pytest.raises(TagError) as error:
        to_iob2(tags.split(), scheme)
    assert error.value.index == index
    assert message in str(error.value)


def is_valid(tags: tuple[str, ...]) -> bool:
    return all(may_follow(before, tag) for before, tag in zip((None, *tags), tags, strict=False))


def test_valid_sequences_are_those_that_both_modes_read_alike() -> None:
    for tags in itertools.product(NAMES, repeat=3):
        assert is_valid(tags) == (strict_spans(tags) == default_spans(tags)), tags


@pytest.mark.parametrize("num_words", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(10))
def test_the_decoded_sequence_is_the_best_of_all_valid_ones(num_words: int, seed: int) -> None:
    scores_WL = np.random.default_rng(seed).normal(size=(num_words, len(NAMES)))
    sequences = [
        s for s in itertools.product(range(len(NAMES)), repeat=num_words) if is_valid(tuple(NAMES[i] for i in s))
    ]
    best = max(sequences, key=lambda sequence: sum(scores_WL[word, tag] for word, tag in enumerate(sequence)))
    assert best_valid_sequence(scores_WL, NAMES) == list(best)


@pytest.mark.parametrize("seed", range(20))
def test_no_logits_make_the_decoded_sequence_invalid(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores_WL = generator.normal(scale=100, size=(50, len(NAMES))) + 1e3 * (np.arange(5) % 2 == 0)  # I- everywhere
    assert is_valid(tuple(NAMES[tag] for tag in best_valid_sequence(scores_WL, NAMES)))


def test_no_words_decode_to_no_tags() -> None:
    assert best_valid_sequence(np.zeros((0, 5)), NAMES) == []

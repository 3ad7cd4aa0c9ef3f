"""Splitting a part off from train."""

from __future__ import annotations

import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.data.splits import as_split
from multitask_bert.data.splitting import draw, split_off
from multitask_bert.data.text_keys import text_key
from multitask_bert.records import Example
from multitask_bert.training.preparation import prepare


def texts(*labelled: tuple[str, Any]) -> list[Example]:
    return [Example(f"train.txt:{n}", text, {"head": label}) for n, (text, label) in enumerate(labelled)]


def numbered(sizes: dict[Any, int]) -> list[Example]:
    """So many texts of each label, all different, in a mixed order."""
    labelled = [(f"{label} {n}", label) for label, size in sizes.items() for n in range(size)]
    random.Random(0).shuffle(labelled)
    return texts(*labelled)


def split_once(
    examples: Sequence[Example], fraction: float, seed: int = 1, purpose: str = "mine/dev"
) -> tuple[list[Example], list[Example]]:
    rest, part = split_off(examples, fraction, seed=seed, purpose=purpose)
    return list(rest), list(part)


def labels_of(examples: Sequence[Example]) -> Counter[Any]:
    return Counter(example.labels["head"] for example in examples)


def all_labels(examples: Sequence[Example]) -> list[Any]:
    return [example.labels["head"] for example in examples]


def all_tags(examples: Sequence[Example]) -> set[str]:
    return {tag for example in examples for tag in example.labels["head"]}


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.25, 0.5, 0.9])
def test_both_parts_together_are_all_examples_in_the_order_of_the_file(fraction: float) -> None:
    examples = numbered({"good": 70, "bad": 31, None: 9})
    rest, part = split_once(examples, fraction)
    assert [e for e in examples if e in rest] == rest
    assert [e for e in examples if e in part] == part
    assert [e for e in examples if (e in rest) != (e in part)] == examples


@pytest.mark.parametrize("fraction", [0.05, 0.1, 1 / 3, 0.75])
@pytest.mark.parametrize("sizes", [{"a": 100}, {"a": 90, "b": 10}, {f"class {n}": 4 for n in range(30)}])
def test_every_class_gives_its_share_and_the_whole_gives_the_fraction(fraction: float, sizes: dict[str, int]) -> None:
    _, part = split_once(numbered(sizes), fraction)
    assert abs(len(part) - fraction * sum(sizes.values())) <= 0.5
    for label, size in sizes.items():
        assert abs(labels_of(part)[label] - fraction * size) <= 1


def test_the_seed_of_splits_is_the_runs_unless_it_has_its_own(make_config: Callable[..., ExperimentConfig]) -> None:
    def texts_of_test_set(seed: int, split_seed: int | None) -> list[str]:
        config = make_config("mood", seed=seed)
        config.split_seed = split_seed
        config.tasks["mood"].source.test = None
        config.tasks["mood"].source.test_fraction = 0.3
        return [example.text for example in as_split(prepare(config).data.test["mood"]).examples()]

    assert texts_of_test_set(1, None) == texts_of_test_set(1, 1) == texts_of_test_set(2, 1)
    assert texts_of_test_set(2, None) == texts_of_test_set(7, 2) != texts_of_test_set(1, None)


def test_a_split_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    examples = numbered({"good": 50, "bad": 50})
    assert split_once(examples, 0.2, seed=7) == split_once(examples, 0.2, seed=7)
    assert len({tuple(e.text for e in split_once(examples, 0.2, seed=seed)[1]) for seed in range(20)}) == 20
    assert split_once(examples, 0.2, seed=7, purpose="mine/test") != split_once(examples, 0.2, seed=7)


def test_every_text_has_the_same_chance_to_be_split_off() -> None:
    num_splits, fraction = 400, 0.25
    examples = numbered({"good": 12, "bad": 8})
    times = Counter(e.text for seed in range(num_splits) for e in split_once(examples, fraction, seed)[1])
    standard_error = (num_splits * fraction * (1 - fraction)) ** 0.5
    assert all(abs(times[e.text] - num_splits * fraction) < 5 * standard_error for e in examples)


@pytest.mark.parametrize("copy", [
    "Café  Straße", " café straße ", "CAFÉ STRASSE", "Cafe\u0301 Stra\u00dfe",
    "Ｃａｆé Straße", "café\u00a0straße", "Café\nStraße", "CaféStraße",
])  # fmt: skip
def test_copies_of_a_text_are_one_text(copy: str) -> None:
    assert text_key(Example("a:1", copy, {})) == text_key(Example("a:2", "Café Straße", {}))


@pytest.mark.parametrize("other", ["Cafe Straße", "Café Strase", "Café Straße!"])
def test_texts_that_differ_in_a_letter_are_two_texts(other: str) -> None:
    assert text_key(Example("a:1", other, {})) != text_key(Example("a:2", "Café Straße", {}))


def test_texts_that_differ_in_the_second_text_are_two_texts() -> None:
    first, second = Example("a:1", "a", {}, text_pair="b"), Example("a:2", "a", {}, text_pair="c")
    assert text_key(first) != text_key(second)


def test_case_and_unicode_form_never_make_two_texts_of_one() -> None:
    for code in range(0x20, 0x2FFF):  # among them letters whose capitals come apart in pieces
        letter = chr(code)
        if unicodedata.category(letter)[0] != "L" or letter == "\u0131":  # whose capital is that of i
            continue
        keys = {
            text_key(Example("a:1", unicodedata.normalize(form, variant), {}))
            for variant in (letter, letter.upper(), letter.upper().lower().upper())
            for form in ("NFC", "NFD", "NFKC", "NFKD")
        }
        assert len(keys) == 1, f"U+{code:04X}: {keys}"


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_no_text_stands_on_both_sides(fraction: float) -> None:
    draw = random.Random(1)
    words = ["Sawa", "SANA", "Café", "Cafe\u0301", "straße", "STRASSE", "ﬁlm", "film"]
    labelled = [
        (draw.choice([" ", "  ", "\t"]).join(draw.choices(words, k=draw.randint(1, 3))), draw.choice("ab"))
        for _ in range(400)
    ]

    def plain(example: Example) -> str:
        return " ".join(unicodedata.normalize("NFKC", example.text).casefold().split())

    rest, part = split_once(texts(*labelled), fraction)
    assert len({plain(e) for e in rest} | {plain(e) for e in part}) < len(labelled) / 2, "many are copies"
    assert part
    assert not {plain(e) for e in rest} & {plain(e) for e in part}


def test_sentences_with_the_same_entity_types_give_their_share() -> None:
    kinds = {("B-PER", "O"): 60, ("B-PER", "I-PER"): 40, ("O", "B-LOC"): 50, ("O", "O"): 50}
    _, part = split_once(numbered(kinds), 0.1)
    types = Counter(frozenset(tag[2:] for tag in e.labels["head"] if tag != "O") for e in part)
    assert types == {frozenset({"PER"}): 10, frozenset({"LOC"}): 5, frozenset(): 5}


def test_a_text_whose_copies_disagree_takes_all_its_labels_along() -> None:
    examples = texts(("x", "odd"), ("X", "good"), *[(f"good {n}", "good") for n in range(8)], ("y", "odd"))
    for seed in range(30):
        rest, part = split_once(examples, 0.5, seed)
        assert part
        assert {"odd", "good"} == set(labels_of(rest))


@pytest.mark.parametrize("tags", [
    [("NOUN", "VERB"), ("NOUN", "X"), ("VERB", "NOUN"), ("NOUN", "VERB"), ("VERB", "ADJ"), ("ADJ", "NOUN")],
    [("B-PER", "O"), ("B-PER", "I-PER"), ("O", "B-RARE"), ("O", "O"), ("B-PER", "B-LOC"), ("O", "B-LOC")],
])  # fmt: skip
def test_every_tag_of_the_part_is_in_the_rest_too(tags: list[tuple[str, ...]]) -> None:
    examples = texts(*[(str(n), value) for n, value in enumerate(tags)])
    was_cut = set()
    for seed in range(30):
        rest, part = split_once(examples, 0.5, seed)
        was_cut |= {e.text for e in part}
        assert all_tags(rest) == all_tags(examples)
    assert was_cut


@pytest.mark.parametrize("label", ["good", None])
def test_the_last_text_is_never_split_off(label: str | None) -> None:
    one, two = texts(("a", label)), texts(("a", label), ("b", label))
    assert split_once(one, 0.9) == (one, [])
    rest, part = split_once(two, 0.9)
    assert (len(rest), len(part)) == (1, 1)
    assert split_once(texts(("a", label), ("A", label)), 0.9)[1] == []


def test_nothing_is_split_off_from_classes_of_one_text_each() -> None:
    examples = texts(("a", "good"), ("b", "bad"), ("c", "odd"))
    assert split_once(examples, 0.5) == (examples, [])


def test_every_one_of_several_labels_of_the_part_is_in_the_rest_too() -> None:
    labels = [{"joy": n % 2 == 0, "fear": n == 7, "anger": None} for n in range(40)]
    rest, part = split_once(texts(*((f"text {n}", label) for n, label in enumerate(labels))), 0.5)
    assert len(part) == 20
    assert any(label["fear"] for label in all_labels(rest))
    joyful = sum(label["joy"] is True for label in all_labels(part))
    assert abs(joyful - 10) <= 1  # each combination of labels gives its share


@pytest.mark.parametrize("label", [1.5, 3, (("Asha", 0),), (), None])
def test_numbers_and_answers_are_split_off_though_each_occurs_only_once(label: Any) -> None:
    values = [(label if label is None or isinstance(label, tuple) else label + n) for n in range(40)]
    rest, part = split_once(texts(*((f"text {n}", value) for n, value in enumerate(values))), 0.25)
    assert (len(rest), len(part)) == (30, 10)


def test_a_draw_has_the_asked_number_in_the_order_of_the_file_and_lies_within_a_larger_draw() -> None:
    examples = numbered({"glad": 40, "sad": 20})
    small, large = (list(draw(examples, number, seed=1, purpose="mine")) for number in (10, 30))
    assert (len(small), len(large)) == (10, 30)
    assert [example for example in large if example in small] == small
    assert [example for example in examples if example in large] == large
    assert list(draw(examples, 10, seed=2, purpose="mine")) != small
    assert draw(examples, 60, seed=1, purpose="mine") is examples

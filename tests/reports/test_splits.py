"""Statistics of a split, compared with independent counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.data.splits import InMemorySplit
from multitask_bert.heads import make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample, Example
from multitask_bert.reports.splits import LabelCounter, SplitFigures, count_split, describe_lengths

MOOD = make_head(HeadConfig("classification"), LabelSet(("bad", "good")))
TEXTS = [
    ("siku nzuri", "good"),
    ("Siku  NZURI", "good"),  # the same text, but for case and spacing
    ("siku nzuri", "bad"),
    ("habari \u4e9c\u0ca0", None),  # two characters that the tokenizer does not know
    ("na " * 30, "bad"),
]


def figures(tokenizer: Any, max_length: int = 12) -> SplitFigures:
    examples = [Example(f"a.csv:{i}", text.strip(), {"mood": label}) for i, (text, label) in enumerate(TEXTS)]
    dataset = InMemorySplit(encode_examples(examples, {"mood": MOOD}, tokenizer, max_length=max_length))
    return count_split("reviews", "train", dataset, tokenizer, max_length=max_length, was_cut_from_train=False)


def counted(values: Sequence[Any]) -> dict[str, int]:
    counter = LabelCounter()
    for value in values:
        counter.add(value)
    return counter.counts()


def test_examples_words_and_tokens_equal_an_independent_count(tokenizer: Any) -> None:
    found = figures(tokenizer)
    lengths = [len(tokenizer.tokenize(text)) + 2 for text, _ in TEXTS]
    assert (found.num_examples, found.num_words, found.num_pieces) == (5, 2 + 2 + 2 + 2 + 30, sum(lengths))
    assert (found.lengths.percentiles["min"], found.lengths.percentiles["max"]) == (min(lengths), max(lengths))
    assert found.lengths.percentiles["p50"] == sorted(lengths)[2]


def test_a_text_of_max_length_is_not_truncated_and_one_longer_is(tokenizer: Any) -> None:
    assert (figures(tokenizer, 32).num_truncated, figures(tokenizer, 31).num_truncated) == (0, 1)
    assert figures(tokenizer, 31).share_truncated == 1 / 5
    assert figures(tokenizer, 31).num_pieces == figures(tokenizer, 32).num_pieces


def test_copies_count_as_duplicates_whatever_their_labels_case_and_spacing(tokenizer: Any) -> None:
    assert figures(tokenizer).num_duplicates == 2


def test_the_share_of_unknown_tokens_is_of_those_that_the_encoder_reads(tokenizer: Any) -> None:
    pieces = [piece for text, _ in TEXTS for piece in tokenizer.tokenize(text)]
    assert pieces.count("[UNK]") > 0
    assert figures(tokenizer, 40).share_unknown == pieces.count("[UNK]") / len(pieces)


def test_tokens_per_word_are_those_of_texts_that_are_not_truncated_without_special_tokens(tokenizer: Any) -> None:
    short = [text for text, _ in TEXTS[:4]]
    num_tokens, num_words = sum(len(tokenizer.tokenize(text)) for text in short), 2 + 2 + 2 + 2
    assert figures(tokenizer, 31).tokens_per_word == num_tokens / num_words
    assert figures(tokenizer, 32).tokens_per_word == (num_tokens + 30) / (num_words + 30)


def test_a_missing_label_is_counted_apart_from_the_labels(tokenizer: Any) -> None:
    found = figures(tokenizer)
    assert found.num_missing == {"mood": 1}
    assert found.labels == {"mood": {"bad": 2, "good": 2}}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["b", "a", "a", None], {"a": 2, "b": 1}),
        ([("O", "B-PER", "O"), None, ("O",)], {"O": 3, "B-PER": 1}),
        ([{"joy": True, "fear": None, "anger": False}, {"joy": True, "fear": True}], {"joy": 2, "fear": 1}),
        ([3.0, 1, 3, None], {"1": 1, "3": 2}),
        ([], {}),
        ([None], {}),
    ],
)
def test_labels_of_every_form_are_counted(values: Sequence[Any], expected: dict[str, int]) -> None:
    assert counted(values) == expected
    assert list(counted(values)) == list(expected)


def test_many_numbers_are_counted_in_ranges_that_hold_them_all() -> None:
    counts = counted([number / 7 for number in range(50)])
    assert (len(counts), sum(counts.values())) == (10, 50)
    assert next(iter(counts)) == "0 to 0.7"


def test_a_percentile_is_the_length_that_so_many_texts_do_not_exceed() -> None:
    lengths = np.random.default_rng(3).integers(3, 300, size=977).tolist()
    found = describe_lengths(lengths, max_length=128).percentiles
    for share in (50, 90, 95, 99):
        length = found[f"p{share}"]
        assert sum(one <= length for one in lengths) >= share / 100 * len(lengths)
        assert sum(one < length for one in lengths) < share / 100 * len(lengths)


def test_the_histogram_has_every_text_even_those_beyond_its_end() -> None:
    lengths = [5] * 990 + [130] * 7 + [4000] * 3
    found = describe_lengths(lengths, max_length=128)
    assert sum(found.bins) == 1000
    assert found.bin_width * len(found.bins) > 128
    assert (found.bins[5 // found.bin_width], found.bins[-1]) == (990, 3 + 7 * (130 // found.bin_width == 39))


def test_a_long_context_is_one_example_in_windows_and_not_truncated(tokenizer: Any) -> None:
    example = Example("a.json:1", "nani?", {"answer": ()}, text_pair="na " * 30)
    parts = [EncodedExample(example, (101, 7, 102), (0, 0, 0), (), {}) for _ in range(3)]
    found = count_split("qa", "dev", InMemorySplit(parts), tokenizer, max_length=12, was_cut_from_train=True)
    assert (found.num_examples, found.num_in_windows, found.num_truncated) == (1, 1, 0)
    assert found.num_pieces == len(tokenizer("nani?", "na " * 30)["input_ids"])
    assert found.labels == {"answer": {"no answer": 1}}

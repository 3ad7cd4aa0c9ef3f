"""Long texts in windows, as tokens: every word once, where it has the most context; short texts as without windows."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.batching import plan_evaluation
from multitask_bert.data.collation import collate
from multitask_bert.data.encoding import ExampleTokenizer, encode_examples
from multitask_bert.data.splits import InMemorySplit
from multitask_bert.data.windows import in_windows
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import CONTINUES_WORD, EncodedExample, Example, Tokens
from multitask_bert.reports.splits import count_split

HEADS: dict[str, Head] = {
    "tags": make_head(HeadConfig("tagging"), LabelSet(("O", "B-PER", "I-PER"))),
    "mood": make_head(HeadConfig("classification"), LabelSet(("bad", "good"))),
}
LETTERS = "abcdeghikmnoswz"
SPECIAL, TEXT = (-1, -1), (0, 1)


def invented(num_words: int, seed: int = 0) -> tuple[str, ...]:
    draw = random.Random(seed)
    return tuple("".join(draw.choices(LETTERS, k=draw.randint(1, 7))) for _ in range(num_words))


def example_of(words: Sequence[str]) -> Example:
    return Example("a:1", " ".join(words), {"tags": ("O",) * len(words), "mood": "good"}, words=tuple(words))


def encode(example: Example, tokenizer: Any, max_length: int, stride: int | None) -> EncodedExample:
    (encoded,) = encode_examples([example], HEADS, tokenizer, max_length=max_length, window_stride=stride)
    return encoded


def windows_of(encoded: EncodedExample) -> list[tuple[int, ...]]:
    """The ids of each window."""
    ends = (*encoded.sequence_starts, len(encoded.input_ids))
    return [encoded.input_ids[begin:end] for begin, end in itertools.pairwise(ends)]


@pytest.mark.parametrize(("max_length", "stride"), [(16, 0), (16, 4), (16, 12), (23, 7), (64, 16)])
def test_every_word_of_a_long_text_is_read_once_at_its_first_token(
    tokenizer: Any, max_length: int, stride: int
) -> None:
    for seed in range(10):
        words = invented(90, seed)
        found = encode(example_of(words), tokenizer, max_length, stride)
        firsts = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in words]
        assert [found.input_ids[start] for start in found.word_starts] == firsts
        assert (found.targets["tags"].num_known, found.targets["mood"].num_known) == (90, 1)
        assert found.targets["tags"].token_indices == found.word_starts
        assert (found.is_truncated, found.is_in_windows) == (False, True)


@pytest.mark.parametrize(("max_length", "stride"), [(16, 0), (16, 4), (16, 12), (23, 7), (64, 16)])
def test_windows_are_full_and_cover_the_text_and_share_the_stride_or_more(
    tokenizer: Any, max_length: int, stride: int
) -> None:
    text = " ".join(invented(120))
    ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    windows = windows_of(encode(Example("a:1", text, dict.fromkeys(HEADS)), tokenizer, max_length, stride))
    assert {len(window) for window in windows} == {max_length}
    assert {(window[0], window[-1]) for window in windows} == {(tokenizer.cls_token_id, tokenizer.sep_token_id)}
    room, begin = max_length - 2, 0
    for window in windows[1:]:
        begin = next(b for b in range(begin, begin + room - stride + 1) if b and ids[b : b + room] == window[1:-1])
    assert (ids[:room], begin + room) == (windows[0][1:-1], len(ids))


@pytest.mark.parametrize(("size", "stride"), [(5, 0), (5, 1), (6, 3), (7, 6), (10, 4)])
def test_each_word_is_where_berts_rule_of_maximum_context_has_it(size: int, stride: int) -> None:
    """The rule as `_check_is_max_context` computes it, over the windows that come out."""
    number = 37
    offsets = (SPECIAL, *(TEXT for _ in range(number)), SPECIAL)
    whole = Tokens(
        tuple(range(number + 2)), (0,) * (number + 2), offsets, (False,) * (number + 2),
        word_starts=(*range(1, number + 1), -1, CONTINUES_WORD),
    )  # fmt: skip
    found, is_truncated = in_windows(whole, size + 2, stride)
    begins = [found.input_ids[start + 1] for start in found.sequence_starts]

    def context(window: int, word: int) -> int:
        left, right = word - begins[window], begins[window] + size - 1 - word
        return min(left, right)

    for word, start in enumerate(found.word_starts[:-2], start=1):
        best = max(range(len(begins)), key=lambda window: context(window, word))
        assert start == found.sequence_starts[best] + 1 + word - begins[best]
    assert (found.word_starts[-2:], is_truncated) == ((-1, CONTINUES_WORD), False)


@pytest.mark.parametrize("pair", [{}, {"words": None, "text_pair": "zuri sana", "labels": dict.fromkeys(HEADS)}])
def test_a_text_within_max_length_is_encoded_as_without_windows(tokenizer: Any, pair: dict[str, Any]) -> None:
    examples = [replace(example_of(invented(number, number)), **pair) for number in range(1, 15)]
    longest = max(len(tokenizer(one.text, one.text_pair)["input_ids"]) for one in examples)
    without = encode_examples(examples, HEADS, tokenizer, max_length=longest)
    assert encode_examples(examples, HEADS, tokenizer, max_length=longest, window_stride=longest // 4) == without
    shorter = encode_examples(examples, HEADS, tokenizer, max_length=longest - 1, window_stride=longest // 4)
    assert [one.is_in_windows for one in shorter] == [len(one.input_ids) == longest for one in without]


def test_a_word_that_the_tokenizer_drops_becomes_the_unknown_token_in_a_window_too(tokenizer: Any) -> None:
    words = [*invented(40), "\u0301", *invented(40, 1)]
    found = encode(example_of(words), tokenizer, 16, 4)
    assert found.input_ids[found.word_starts[40]] == tokenizer.unk_token_id
    assert min(found.word_starts) >= 0


def test_the_longer_of_two_texts_is_in_windows_beside_the_whole_other_one(tokenizer: Any) -> None:
    long, short = " ".join(invented(60)), "zuri sana"
    own = tuple(tokenizer(short, add_special_tokens=False)["input_ids"])
    for example in (Example("a:1", long, {}, text_pair=short), Example("a:1", short, {}, text_pair=long)):
        (found,) = encode_examples([example], {}, tokenizer, max_length=24, window_stride=6)
        is_first = example.text == short
        windows = windows_of(found)
        assert len(windows) > 3
        for window in windows:
            assert (window[1 : 1 + len(own)] if is_first else window[-1 - len(own) : -1]) == own
        assert not found.is_truncated


def test_two_long_texts_keep_room_for_windows_and_are_marked_as_truncated(tokenizer: Any) -> None:
    first, second = " ".join(invented(60)), " ".join(invented(50, 1))
    (found,) = encode_examples(
        [Example("a:1", first, {}, text_pair=second)], {}, tokenizer, max_length=24, window_stride=6
    )
    assert found.is_truncated
    assert {len(window) for window in windows_of(found)} == {24}


def test_a_batch_with_texts_in_windows_is_no_larger_than_planned(tokenizer: Any) -> None:
    draw = random.Random(4)
    examples = [example_of(invented(draw.randint(1, 60), seed)) for seed in range(60)]
    split = InMemorySplit(encode_examples(examples, HEADS, tokenizer, max_length=16, window_stride=4))
    for batch in plan_evaluation(split.lengths(), 64, 200):
        grid = collate([("t", split[index]) for index in batch], pad_id=0).input_ids_BS
        assert len(batch) == 1 or grid.numel() <= 200


def test_a_long_text_counts_as_one_example_in_windows_that_is_not_truncated(tokenizer: Any) -> None:
    split = InMemorySplit([encode(example_of(invented(number)), tokenizer, 32, 8) for number in (3, 90)])
    found = count_split("t", "dev", split, tokenizer, max_length=32, was_cut_from_train=False)
    assert (found.num_examples, found.num_in_windows, found.num_truncated) == (2, 1, 0)
    assert found.num_pieces == sum(len(tokenizer(one.example.text)["input_ids"]) for one in split)
    assert np.sum(found.lengths.bins) == 2


def test_a_stride_that_leaves_no_new_tokens_is_refused(tokenizer: Any) -> None:
    ExampleTokenizer(tokenizer, 16, None, window_stride=12)
    with pytest.raises(InputError, match=r"^batching\.stride=13: .* set it to 12 or less"):
        ExampleTokenizer(tokenizer, 16, None, window_stride=13)

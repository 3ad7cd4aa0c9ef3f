"""Words, tokens and targets: where each word begins, whichever tokenizer cuts it."""

from __future__ import annotations

import itertools
import random
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data import encoding
from multitask_bert.data.encoding import encode_examples, find_word_starts, word_offsets_of
from multitask_bert.heads import Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, EncodedExample, Example

TAGS = ("O", "B-PER", "I-PER")
LOST = ("\u0301", "\ufe0f", "\u200b", "\u00a0")  # words that BERT's tokenizer drops without a trace
LETTERS = "abcdefgHIJKLMNé"


def words_example(words: Sequence[str], tags: Sequence[str] | None = None) -> Example:
    labels = {"entities": None if tags is None else tuple(tags)}
    return Example("train.txt:1", " ".join(words), labels, words=tuple(words))


def heads() -> dict[str, Head]:
    return {"entities": make_head(HeadConfig(type="tagging"), LabelSet(TAGS))}


def encode(example: Example, tokenizer: Any, max_length: int = 512) -> EncodedExample:
    (encoded,) = encode_examples([example], heads(), tokenizer, max_length=max_length)
    return encoded


def first_pieces(word_ids: Sequence[int | None], num_words: int) -> tuple[int, ...]:
    """The alignment that transformers gives for lists of words."""
    return tuple(word_ids.index(word) if word in word_ids else -1 for word in range(num_words))


def random_words(draw: random.Random, alphabet: str, num_words: int) -> list[str]:
    words = ("".join(draw.choices(alphabet, k=draw.randint(1, 9))) for _ in range(num_words))
    return [unicodedata.normalize(draw.choice(["NFC", "NFD"]), word) for word in words]


def as_fast(tokenizer: Tokenizer, *, is_byte_level: bool) -> PreTrainedTokenizerFast:
    special = {"cls_token": "<s>", "sep_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    ends = [("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>"))]
    tokenizer.post_processor = (
        processors.RobertaProcessing(*ends, trim_offsets=True, add_prefix_space=True)
        if is_byte_level
        else processors.TemplateProcessing(single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    draw = random.Random(2)
    return [" ".join(random_words(draw, LETTERS, 8)) for _ in range(300)]


@pytest.fixture(scope="module")
def byte_tokenizer(corpus: list[str]) -> Any:
    """Byte-level tokens, in whose offsets the space is trimmed, as in RoBERTa."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return as_fast(tokenizer, is_byte_level=True)


@pytest.fixture(scope="module")
def untrimmed_tokenizer(byte_tokenizer: Any) -> Any:
    """The same with the space inside the offsets, as in ModernBERT."""
    return as_fast(Tokenizer.from_str(byte_tokenizer.backend_tokenizer.to_str()), is_byte_level=False)


@pytest.fixture(scope="module")
def sentence_tokenizer(corpus: list[str]) -> Any:
    """Unigram tokens with a mark for the space, as in XLM-R."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    return as_fast(tokenizer, is_byte_level=False)


@pytest.mark.parametrize(("family", "alphabet"), [
    ("tokenizer", LETTERS + "ñçöÅ#@'.,:/1234567890中文🙂"),
    ("byte_tokenizer", LETTERS + "ñçöÅ#@'.,:/1234567890中文🙂\u0301\ufe0f"),
    ("untrimmed_tokenizer", LETTERS + "ñçöÅ#@'.,:/1234567890中文🙂\u0301\ufe0f"),
    ("sentence_tokenizer", LETTERS + "ñçöÅ#@中🙂\u0301"),
])  # fmt: skip
def test_tokens_and_word_starts_equal_those_of_a_list_of_words(
    request: pytest.FixtureRequest, family: str, alphabet: str
) -> None:
    tokenizer = request.getfixturevalue(family)
    draw = random.Random(1)
    for _ in range(300):
        words = random_words(draw, alphabet, draw.randint(1, 12))
        expected = tokenizer(words, is_split_into_words=True)
        found = encode(words_example(words), tokenizer)
        assert list(found.input_ids) == expected["input_ids"], words
        assert found.word_starts == first_pieces(expected.word_ids(), len(words)), words


@pytest.mark.parametrize("family", ["tokenizer", "byte_tokenizer", "untrimmed_tokenizer", "sentence_tokenizer"])
def test_each_word_of_a_text_in_windows_starts_at_the_token_that_it_starts_at_in_the_whole_text(
    request: pytest.FixtureRequest, family: str
) -> None:
    tokenizer = request.getfixturevalue(family)
    example = words_example(random_words(random.Random(5), LETTERS, 60))
    whole = encode(example, tokenizer)
    (found,) = encode_examples([example], heads(), tokenizer, max_length=20, window_stride=5)
    assert [found.input_ids[start] for start in found.word_starts] == [
        whole.input_ids[start] for start in whole.word_starts
    ]
    windows = itertools.pairwise((*found.sequence_starts, len(found.input_ids)))
    assert {found.input_ids[begin:end][:: end - begin - 1] for begin, end in windows} == {
        whole.input_ids[:: len(whole.input_ids) - 1]
    }


@pytest.mark.parametrize("max_length", [3, 4, 7, 12, 30])
def test_truncated_words_have_no_start_and_the_others_keep_theirs(tokenizer: Any, max_length: int) -> None:
    draw = random.Random(3)
    for _ in range(60):
        words = random_words(draw, LETTERS, draw.randint(1, 15))
        expected = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_length)
        found = encode(words_example(words, ["O"] * len(words)), tokenizer, max_length)
        assert list(found.input_ids) == expected["input_ids"]
        assert found.word_starts == first_pieces(expected.word_ids(), len(words))
        assert found.targets["entities"].token_indices == tuple(start for start in found.word_starts if start >= 0)


@pytest.mark.parametrize("max_length", [4, 8, 16])
def test_texts_are_marked_as_truncated_exactly_where_they_are_longer(tokenizer: Any, max_length: int) -> None:
    draw = random.Random(4)
    texts = [" ".join(random_words(draw, LETTERS, draw.randint(1, 9))) for _ in range(200)]
    lengths = [len(tokenizer.tokenize(text)) + 2 for text in texts]
    found = encode_examples([Example("a:1", text, {}) for text in texts], {}, tokenizer, max_length=max_length)
    assert [e.is_truncated for e in found] == [length > max_length for length in lengths]
    assert [len(e.input_ids) for e in found] == [min(length, max_length) for length in lengths]
    assert any(e.is_truncated for e in found)


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("pattern", ["L", "La", "aL", "aLb", "LLaLLbLL", "abcL"])
def test_words_without_tokens_get_a_label_and_a_prediction(tokenizer: Any, lost: str, pattern: str) -> None:
    assert tokenizer.tokenize(f"a {lost}") == ["a"], "the tokenizer does not drop this word"
    words = [lost if letter == "L" else letter for letter in pattern]
    tags = [TAGS[n % 3] for n in range(len(words))]
    found = encode(words_example(words, tags), tokenizer)
    tokens = ["[UNK]" if word == lost else word for word in words]
    assert tokenizer.convert_ids_to_tokens(found.input_ids) == ["[CLS]", *tokens, "[SEP]"]
    assert found.word_starts == tuple(range(1, len(words) + 1))
    assert found.example.words == tuple(words)
    head = heads()["entities"]
    target = found.targets["entities"]
    assert [TAGS[value] for value in target.values] == tags
    logits_ML = np.eye(3)[list(target.values)]
    assert head.decode(logits_ML, found).value == tuple(tags)


def test_words_without_tokens_stay_in_the_kept_part_of_a_truncated_text(tokenizer: Any) -> None:
    words = ["a", "\u0301", "b", "c", "\ufe0f", "d"]
    found = {length: encode(words_example(words), tokenizer, length) for length in range(4, 9)}
    tokens = ["a", "[UNK]", "b", "c", "[UNK]", "d"]
    for length, cut in found.items():
        kept = length - 2
        assert tokenizer.convert_ids_to_tokens(cut.input_ids) == ["[CLS]", *tokens[:kept], "[SEP]"]
        assert cut.word_starts == (*range(1, kept + 1), *[-1] * (6 - kept))
        assert cut.is_truncated == (length < 8)


def test_a_word_without_tokens_that_makes_the_text_too_long_marks_it_as_truncated(tokenizer: Any) -> None:
    found = encode(words_example(["a", "\u0301", "b"]), tokenizer, max_length=4)
    assert (found.word_starts, found.is_truncated) == ((1, 2, -1), True)


def test_composed_and_decomposed_letters_give_the_same_tokens_and_word_starts(tokenizer: Any) -> None:
    words = ["Ọjọ́", "café", "été", "Ñandú", "x"]
    composed, decomposed = (
        encode(words_example([unicodedata.normalize(form, word) for word in words]), tokenizer)
        for form in ("NFC", "NFD")
    )
    assert composed.example.text != decomposed.example.text
    assert composed.input_ids == decomposed.input_ids
    assert composed.word_starts == decomposed.word_starts
    assert -1 not in composed.word_starts


def test_the_first_token_of_each_word_carries_its_tag(tokenizer: Any) -> None:
    found = encode(words_example(["Nyerere", "alizaliwa", "Butiama"], ["B-PER", "O", "I-PER"]), tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(found.input_ids)
    target = found.targets["entities"]
    labelled = {tokens[index]: TAGS[value] for index, value in zip(target.token_indices, target.values, strict=True)}
    assert labelled == {"ny": "B-PER", "ali": "O", "but": "I-PER"}


def test_missing_labels_become_unknown_targets(tokenizer: Any) -> None:
    assert encode(words_example(["a", "b"]), tokenizer).targets["entities"].values == (UNKNOWN, UNKNOWN)
    mood = {"mood": make_head(HeadConfig(type="classification"), LabelSet(("bad", "good")))}
    examples = [Example("a:1", "a", {"mood": label}) for label in ("good", None, "bad")]
    targets = [e.targets["mood"] for e in encode_examples(examples, mood, tokenizer, max_length=8)]
    assert [(t.token_indices, t.values) for t in targets] == [((0,), (1,)), ((0,), (UNKNOWN,)), ((0,), (0,))]


@pytest.mark.parametrize("max_length", [64, 9])
def test_text_pairs_are_told_apart_by_their_token_types(tokenizer: Any, max_length: int) -> None:
    pairs = [("A man plays.", "Someone is playing a guitar."), ("one two three four five six", "seven")]
    examples = [Example("a:1", text, {}, text_pair=pair) for text, pair in pairs]
    for example, found in zip(examples, encode_examples(examples, {}, tokenizer, max_length=max_length), strict=True):
        expected = tokenizer(example.text, example.text_pair, truncation=True, max_length=max_length)
        assert list(found.input_ids) == expected["input_ids"]
        assert list(found.token_type_ids) == expected["token_type_ids"]
        end = found.input_ids.index(tokenizer.sep_token_id) + 1
        assert found.token_type_ids == (0,) * end + (1,) * (len(found.input_ids) - end)
        assert 0 < end < len(found.input_ids)


def test_single_texts_have_token_type_zero(tokenizer: Any) -> None:
    assert encode(words_example(["a", "b"]), tokenizer).token_type_ids == (0, 0, 0, 0)


def test_encoding_in_batches_equals_encoding_one_at_a_time(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(5)
    examples = []
    for _ in range(50):
        words = random_words(draw, LETTERS, draw.randint(1, 9))
        words = [draw.choice(LOST) if draw.random() < 0.1 else word for word in words]
        examples.append(words_example(words, draw.choices(TAGS, k=len(words))))
    one_at_a_time = [encode(example, tokenizer, 12) for example in examples]
    assert encode_examples(examples, heads(), tokenizer, max_length=12) == one_at_a_time
    monkeypatch.setattr(encoding, "EXAMPLES_PER_CALL", 7)
    assert encode_examples(examples, heads(), tokenizer, max_length=12) == one_at_a_time


@pytest.mark.parametrize(("words", "offsets", "starts"), [
    pytest.param(["ab", "c"], [(-1, -1), (0, 1), (1, 2), (3, 4), (-1, -1)], (1, 3), id="special tokens"),
    pytest.param(["ab", "c"], [(0, 2), (2, 4)], (0, 1), id="a token that holds the space before its word"),
    pytest.param(["ab", "c"], [(0, 2), (2, 3), (3, 4)], (0, 1), id="a token for the space alone"),
    pytest.param(["ab", "c"], [(0, 0), (0, 2), (3, 3), (3, 4)], (0, 2), id="the same, its space trimmed"),
    pytest.param(["ab", "c"], [(0, 3), (3, 4)], (0, 1), id="a token that holds the space behind its word"),
    pytest.param(["ab", "c", "d"], [(0, 2), (5, 6)], (0, -1, 1), id="a word without a token"),
    pytest.param(["ab", "c"], [(1, 2)], (0, -1), id="a word whose first letter has no token"),
    pytest.param(["a", "bc"], [(0, 1)], (0, -1), id="a word that was cut off"),
    pytest.param(["🙂"], [(0, 1), (0, 1)], (0,), id="several tokens of one character"),
    pytest.param([], [(-1, -1), (0, 3)], (), id="a text without words"),
])  # fmt: skip
def test_word_starts_follow_from_the_offsets_of_tokens(
    words: list[str], offsets: list[tuple[int, int]], starts: tuple[int, ...]
) -> None:
    assert find_word_starts(offsets, word_offsets_of(words_example(words, ["O"] * len(words)))) == starts

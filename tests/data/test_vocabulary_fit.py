"""Warnings that an encoder's vocabulary does not fit the texts of a task; the one here is that of English BERT."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.data.splits import EncodedSplit, InMemorySplit
from multitask_bert.data.vocabulary_fit import LEAST_WORDS, MAX_TOKENS_PER_WORD, fit_warnings
from multitask_bert.heads import make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import Example
from multitask_bert.training.preparation import prepare
from tests.composing import config_of

MOOD = make_head(HeadConfig("classification"), LabelSet(("bad", "good")))
ENGLISH = "the film was long and we did not like it"
OROMO = "hojjetoonni waajjiraalee dhimmoota bulchiinsa magaalotaa hojjechaa turan"
TIGRINYA = "እዚ ጽቡቕ ፊልም እዩ ብጣዕሚ ባህ ኢሉኒ"
CHINESE = "这部电影很长我们不喜欢它因为它没有意思而且演员也不好"


def split_of(tokenizer: Any, text: str, copies: int = 40, max_length: int = 128) -> EncodedSplit:
    examples = [Example(f"a.csv:{number}", text, {"mood": "good"}) for number in range(copies)]
    return InMemorySplit(encode_examples(examples, {"mood": MOOD}, tokenizer, max_length=max_length))


def warnings_of(tokenizer: Any, **texts: str) -> list[str]:
    return fit_warnings([{task: split_of(tokenizer, text) for task, text in texts.items()}], tokenizer, "some/encoder")


def test_texts_in_the_language_of_the_vocabulary_give_no_warning(tokenizer: Any) -> None:
    assert warnings_of(tokenizer, films=ENGLISH) == []


def test_texts_in_another_script_are_mostly_unknown_tokens(tokenizer: Any) -> None:
    pieces = tokenizer.tokenize(TIGRINYA)
    share = pieces.count(tokenizer.unk_token) / len(pieces)
    assert share > 0.5
    (warning,) = warnings_of(tokenizer, films=ENGLISH, tir=TIGRINYA)
    assert warning.startswith(f"task tir: {share:.0%} of the tokens are unknown to some/encoder, which was made for")


def test_texts_in_a_language_that_the_vocabulary_hardly_knows_are_split_into_many_tokens(tokenizer: Any) -> None:
    tokens_per_word = len(tokenizer.tokenize(OROMO)) / len(OROMO.split())
    assert tokens_per_word > MAX_TOKENS_PER_WORD
    (warning,) = warnings_of(tokenizer, films=ENGLISH, orm=OROMO)
    assert warning.startswith(f"task orm: some/encoder splits a word into {tokens_per_word:.1f} tokens on average")


def test_texts_without_spaces_are_not_judged_by_tokens_per_word(tokenizer: Any) -> None:
    known = 3 * "".join(piece for piece in tokenizer.tokenize(CHINESE) if piece != tokenizer.unk_token)
    assert len(tokenizer.tokenize(known)) / len(known.split()) > MAX_TOKENS_PER_WORD
    split = split_of(tokenizer, known, copies=LEAST_WORDS)
    assert fit_warnings([{"zh": split}], tokenizer, "some/encoder") == []


def test_few_words_are_not_judged(tokenizer: Any) -> None:
    num_words = len(TIGRINYA.split())
    few = split_of(tokenizer, TIGRINYA, copies=LEAST_WORDS // num_words)
    assert fit_warnings([{"tir": few}], tokenizer, "some/encoder") == []
    enough = split_of(tokenizer, TIGRINYA, copies=LEAST_WORDS // num_words + 1)
    assert len(fit_warnings([{"tir": enough}], tokenizer, "some/encoder")) == 1


def test_a_task_without_a_train_set_is_judged_by_the_next_one(tokenizer: Any) -> None:
    train, test = (
        {"films": split_of(tokenizer, ENGLISH)},
        {name: split_of(tokenizer, TIGRINYA) for name in ("films", "tir")},
    )
    (warning,) = fit_warnings([train, {}, test], tokenizer, "some/encoder")
    assert warning.startswith("task tir: ")


def test_a_run_warns_of_a_vocabulary_that_does_not_fit_before_it_trains(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{TIGRINYA} {number},{number % 2}" for number in range(60)]
    (tmp_path / "train.csv").write_text("\n".join(["text,mood", *rows]), encoding="utf-8")
    config = config_of("tasks=sentiment", "model=tiny", f"data_root={tmp_path}")
    source = config.tasks["sentiment"].source
    source.samples, source.format, source.text, source.train = None, "csv", "text", "train.csv"
    source.dev = source.test = None
    config.tasks["sentiment"].heads["sentiment_head"].column = "mood"
    with caplog.at_level(logging.WARNING):
        prepare(config)
    assert any(
        record.message.startswith("task sentiment: ") and "are unknown to" in record.message
        for record in caplog.records
    )

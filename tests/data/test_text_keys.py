"""Texts of one task's dev and test sets in another one's train set."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from multitask_bert.config.schema import ExperimentConfig, HeadConfig, SourceConfig, TaskConfig
from multitask_bert.data.storage import hashes_of
from multitask_bert.data.text_keys import leak_warnings, text_hash, text_key
from multitask_bert.records import Example
from multitask_bert.training.preparation import prepare
from multitask_bert.utils.sharing import forget


def keys(*texts: str) -> np.ndarray:
    return hashes_of([Example("x:1", text, {}) for text in texts])


def test_texts_have_one_hash_exactly_where_they_have_one_key() -> None:
    texts = ["Amina yuko", "AMINA  YUKO", "Amina yupo", "half \ud83d", "ﬁn", "fin", ""]
    for first in (Example("a:1", text, {}) for text in texts):
        for second in (Example("b:2", text, {}) for text in texts):
            assert (text_hash(first) == text_hash(second)) == (text_key(first) == text_key(second))


def test_a_pair_of_tasks_has_one_line_with_the_shares() -> None:
    train = {"pos": keys("a", "b", "c", "a"), "ner": keys("x", "y")}
    dev = {"ner": keys("q", "r"), "pos": keys("c", "d")}
    test = {"ner": keys("A", "b", "z", "b"), "pos": keys("x", "e", "f")}
    assert list(leak_warnings(train, {"dev": dev, "test": test})) == [
        "task ner: 75.0% of its test texts are also in the train set of task pos, so its scores there may be too good; "
        "action=inspect names them",
        "task pos: 33.3% of its test texts are also in the train set of task ner, so its scores there may be too good; "
        "action=inspect names them",
    ]


def test_less_than_a_hundredth_and_tasks_of_their_own_have_no_line() -> None:
    many = [str(number) for number in range(101)]
    assert list(leak_warnings({"a": keys("0"), "b": keys("?")}, {"test": {"b": keys(*many)}})) == []
    assert len(list(leak_warnings({"a": keys("0"), "b": keys("?")}, {"test": {"b": keys(*many[:100])}}))) == 1
    assert list(leak_warnings({"a": keys("0")}, {"test": {"a": keys("0")}})) == []
    assert list(leak_warnings({"a": keys("0"), "b": keys("1")}, {"dev": {}, "test": {}})) == []


def test_training_says_so_whether_the_data_is_read_or_found_in_the_cache(
    make_config: Callable[..., ExperimentConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = make_config("mood")
    for split, texts in {"train": "abcd", "dev": "efgh", "test": "ijkl"}.items():
        rows = [f"{text},{'yes' if place % 2 else 'no'}" for place, text in enumerate(texts)]
        (tmp_path / f"one_{split}.csv").write_text("\n".join(["text,label", *rows]))
        (tmp_path / f"two_{split}.csv").write_text("\n".join(["text,label", *rows]).replace("a,", "L,"))
    task = {
        name: TaskConfig(
            SourceConfig(
                "csv",
                folder=str(tmp_path),
                text="text",
                train=f"{name}_train.csv",
                dev=f"{name}_dev.csv",
                test=f"{name}_test.csv",
            ),
            {"kind": HeadConfig("classification", column="label")},
        )
        for name in ("one", "two")
    }
    for cache in ("", str(tmp_path / "cache"), str(tmp_path / "cache")):
        monkeypatch.setenv("MULTITASK_BERT_CACHE", cache)
        forget()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            prepare(replace(config, tasks=task))
        lines = [record.getMessage() for record in caplog.records if "train set of task" in record.getMessage()]
        assert lines == [
            "task one: 25.0% of its test texts are also in the train set of task two, so its scores there may be too "
            "good; action=inspect names them"
        ]
    forget()

"""The cache of encoded data: what is found again is what would be made, and only where nothing has changed."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multitask_bert.config.schema import SPLITS, HeadConfig, TaskConfig
from multitask_bert.data import caching, processor, storage
from multitask_bert.data.caching import WHOLE, Cache, fingerprint_of
from multitask_bert.data.processor import DataProcessor, ProcessedData
from multitask_bert.data.reading import TaskReader
from multitask_bert.data.splits import InMemorySplit
from multitask_bert.data.storage import StoredExamples, StoredSplit
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample
from tests.data.task_files import CSV, GOOD_FILES, QUESTION, make_task, squad_file


def process(
    task: TaskConfig, tokenizer: Any, folder: Path | None, *, seed: int = 1, max_length: int = 32,
    window_stride: int | None = None, **options: Any,
) -> ProcessedData:  # fmt: skip
    cache = None if folder is None else Cache(folder)
    tasks = DataProcessor({"mine": task}, data_root="unused", seed=seed, cache=cache, **options)
    strides = {} if window_stride is None else {"mine": window_stride}
    return tasks.process(tokenizer, max_length=max_length, window_strides=strides)


def contents(data: ProcessedData) -> dict[str, list[EncodedExample]]:
    return {split: list(getattr(data, split)["mine"]) for split in SPLITS if getattr(data, split)}


@pytest.fixture(autouse=True)
def nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "NUM_IN_MEMORY", 0)


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads a file or calls the tokenizer fails."""

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("this was to be found in the cache")

    monkeypatch.setattr(processor, "tokenize_in_chunks", fail)
    monkeypatch.setattr(TaskReader, "_read_files", fail)


def rich_task(folder: Path, kind: str) -> TaskConfig:
    """A task with labels of every kind, in windows, choices and words."""
    if kind == "windows":
        context = "Habari za leo. " * 30 + "Asha alikuja."
        answer = {"text": "Asha", "answer_start": context.index("Asha")}
        file = squad_file({**QUESTION, "answers": [answer]}, {"question": "b?", "answers": []}, context=context)
        heads = {"answer": HeadConfig(type="span", stride=8)}
        return make_task(folder, "squad", {"train": file, "dev": file}, heads=heads, test_fraction=0)
    if kind == "choices":
        line = (
            '{"text": "a", "ends": ["b c", "d"], "label": 1}\n{"text": "e", "ends": ["f", "g", "h i"], "label": null}\n'
        )
        heads = {"end": HeadConfig(type="choice", column="label")}
        files = {"train": line, "dev": line}
        return make_task(folder, "jsonl", files, heads=heads, choices=["ends"], test_fraction=0)
    if kind == "labels":
        rows = "text,joy,fear,score\na,1,,1.5\nb b,0,1,\n\u0301é,,,2\n"
        heads = {
            "emotions": HeadConfig(type="multilabel", columns=["joy", "fear"]),
            "score": HeadConfig(type="regression", column="score"),
        }
        return make_task(folder, "csv", {"train": rows, "dev": rows}, heads=heads, test_fraction=0)
    return make_task(folder, kind, test_fraction=0.1 if "test" in GOOD_FILES[kind] else 0)


@pytest.mark.parametrize("kind", [*GOOD_FILES, "windows", "choices", "labels"])
def test_cached_data_equals_data_encoded_without_a_cache(tmp_path: Path, tokenizer: Any, kind: str) -> None:
    task = rich_task(tmp_path, kind)
    without = process(task, tokenizer, None)
    made, found = (process(task, tokenizer, tmp_path / "cache") for _ in range(2))
    # By repr: the targets of answers and of several labels hold NaN, which equals nothing.
    assert repr(contents(made)) == repr(contents(found)) == repr(contents(without))
    assert made.reports == found.reports == without.reports
    assert isinstance(found.train["mine"], StoredSplit)


def test_cached_long_texts_in_windows_equal_those_encoded_without_a_cache(tmp_path: Path, tokenizer: Any) -> None:
    rows = "".join(f"{word}\tO\n" for word in ("siku", "moja", "tulienda", "Asha", "sokoni") * 20)
    task = make_task(tmp_path, "conll", {"train": f"Asha\tB-PER\n\n{rows}", "dev": rows}, test_fraction=0)
    without = process(task, tokenizer, None, window_stride=8)
    made, found = (process(task, tokenizer, tmp_path / "cache", window_stride=8) for _ in range(2))
    assert contents(made) == contents(found) == contents(without)
    assert made.reports == found.reports == without.reports
    assert [one.is_in_windows for one in found.train["mine"]] == [False, True]


def test_a_second_start_reads_and_encodes_nothing_and_says_so(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    task = make_task(tmp_path, "csv")
    process(task, tokenizer, tmp_path / "cache")
    assert "found encoded" not in caplog.text
    request.getfixturevalue("no_reading")
    with caplog.at_level(logging.INFO):
        process(task, tokenizer, tmp_path / "cache")
    assert f"task mine: found encoded in {tmp_path / 'cache' / 'mine-'}" in caplog.text


def num_kept(folder: Path) -> int:
    return len(list(folder.iterdir()))


def test_options_that_change_the_encoded_data_make_a_new_cache_key(tmp_path: Path, tokenizer: Any) -> None:
    cache = tmp_path / "cache"
    task = make_task(tmp_path, "csv", {"train": CSV["train"], "dev": CSV["dev"]}, test_fraction=0)
    process(task, tokenizer, cache)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(caching, "_code_version", lambda: "another")
        process(task, tokenizer, cache)
    process(task, tokenizer, cache, seed=2)
    process(task, tokenizer, cache, max_length=16)
    process(task, tokenizer, cache, window_stride=8)
    process(replace(task, source=replace(task.source, text="id")), tokenizer, cache)
    process(replace(task, heads={"mood": replace(task.heads["mood"], labels=["good", "bad"])}), tokenizer, cache)
    (tmp_path / "dev.txt").write_text(CSV["dev"] + "5,sawa,bad\n", encoding="utf-8")
    data = process(task, tokenizer, cache)
    assert len(data.dev["mine"]) == 2
    assert num_kept(cache) == 8


def test_names_of_labels_and_options_of_readers_make_a_new_cache_key(tmp_path: Path, tokenizer: Any) -> None:
    cache = tmp_path / "cache"
    (tmp_path / "names.txt").write_text("bad\ngood\n", encoding="utf-8")
    rows = "id,text,label\n1,a,0\n2,b,1\n3,c,0\n"
    task = make_task(tmp_path, "csv", {"train": rows, "dev": rows}, test_fraction=0)
    named = replace(task, heads={"mood": replace(task.heads["mood"], names="names.txt")})
    process(task, tokenizer, cache)
    assert process(named, tokenizer, cache).heads["mine"]["mood"].labels.names == ("bad", "good")
    (tmp_path / "names.txt").write_text("mbaya\nnzuri\n", encoding="utf-8")
    assert process(named, tokenizer, cache).heads["mine"]["mood"].labels.names == ("mbaya", "nzuri")
    assert named.heads["mood"].names == "names.txt"
    for options in ({"on_bad_record": "skip"}, {"overlapping_entities": "longest"}, {"unspecified": "label"}):
        process(replace(task, source=replace(task.source, **options)), tokenizer, cache)
    wrong = {"mood": replace(task.heads["mood"], unknown_labels="wrong")}
    process(replace(task, heads=wrong), tokenizer, cache)
    assert num_kept(cache) == 7


def test_warnings_while_reading_are_repeated_from_the_cache(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"train": CSV["train"] + "7,,good\n8,c,Good\n", "dev": CSV["dev"] + "9,d,meh\n"}
    task = make_task(tmp_path, "csv", files, test_fraction=0, on_bad_record="skip")
    task.heads["mood"] = replace(task.heads["mood"], unknown_labels="wrong")
    said = []
    for _ in range(2):
        caplog.clear()
        process(task, tokenizer, tmp_path / "cache")
        said.append([record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING])
    assert said[0] == said[1]
    for part in ("1 of 5 records cannot be read", "'Good' and 'good'", "counts as wrong: meh (1)"):
        assert any(part in message for message in said[0])


def test_options_that_change_no_tokens_find_the_same_cache(tmp_path: Path, tokenizer: Any) -> None:
    task, cache = make_task(tmp_path, "csv"), tmp_path / "cache"
    process(task, tokenizer, cache)
    head = replace(task.heads["mood"], weight=2.0, dropout=0.5, metrics=["accuracy"], pooling="mean")
    process(replace(task, heads={"mood": head}), tokenizer, cache)
    tokenizer(["left over"], truncation=True, max_length=7, padding="max_length")
    process(task, tokenizer, cache)
    assert num_kept(cache) == 1


def test_tokenizers_that_differ_have_different_fingerprints(tokenizer: Any) -> None:
    from transformers import AutoTokenizer

    other = AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    assert fingerprint_of(other) == fingerprint_of(tokenizer)
    other.add_tokens(["[NEW]"])
    assert fingerprint_of(other) != fingerprint_of(tokenizer)
    assert fingerprint_of(object()) is None


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "no list", "half a list", "odd list"])
def test_a_damaged_cache_is_written_again(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    task, cache = make_task(tmp_path, "csv"), tmp_path / "cache"
    expected = contents(process(task, tokenizer, cache))
    (kept,) = cache.iterdir()
    ids, whole = kept / "train" / "input_ids.npy", kept / "whole.json"
    good = ids.read_bytes()
    if damage == "missing":
        ids.unlink()
    elif damage in ("cut", "changed"):
        ids.write_bytes(good[:-1] if damage == "cut" else good[:-1] + b"x")
    elif damage == "no list":
        whole.unlink()
    else:
        whole.write_text('{"files": ' if damage == "half a list" else "[]", encoding="utf-8")
    assert contents(process(task, tokenizer, cache)) == expected
    assert "the cached data is damaged" in caplog.text
    assert (kept / "train" / "input_ids.npy").read_bytes() == good


def test_two_runs_at_once_both_have_the_data_and_leave_one_folder(tmp_path: Path, tokenizer: Any) -> None:
    task, cache = make_task(tmp_path, "csv"), tmp_path / "cache"
    found: list[dict[str, list[EncodedExample]]] = []

    def run() -> None:
        found.append(contents(process(task, tokenizer, cache)))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [contents(process(task, tokenizer, None))] * 4
    assert num_kept(cache) == 1


def test_a_run_that_dies_while_it_writes_leaves_nothing_that_is_used(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, cache = make_task(tmp_path, "csv"), tmp_path / "cache"

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(caching, "write_json", die)
        with pytest.raises(KeyboardInterrupt):
            process(task, tokenizer, cache)
    assert num_kept(cache) == 0
    left = cache / "partial-of-a-killed-run"
    left.mkdir()
    process(task, tokenizer, cache)
    assert num_kept(cache) == 2
    os.utime(left, (time.time() - 2 * 86400,) * 2)
    (cache / next(path.name for path in cache.iterdir() if path != left) / "whole.json").unlink()
    process(task, tokenizer, cache)
    assert not left.exists()


def test_a_cache_that_cannot_be_written_costs_a_warning_only(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be", encoding="utf-8")
    task = make_task(tmp_path, "csv")
    assert contents(process(task, tokenizer, tmp_path / "cache")) == contents(process(task, tokenizer, None))
    assert "cannot be written" in caplog.text


def test_labels_are_checked_against_a_saved_models_heads_from_the_cache_too(tmp_path: Path, tokenizer: Any) -> None:
    task, cache = make_task(tmp_path, "csv"), tmp_path / "cache"
    heads: dict[str, Head] = process(task, tokenizer, cache).heads["mine"]
    assert len(process(task, tokenizer, cache, known_heads={"mine": heads}).train["mine"]) == 3
    other = {"mood": make_head(task.heads["mood"], LabelSet(("good", "meh")))}
    with pytest.raises(InputError, match=r"train.txt:3: label 'bad'"):
        process(task, tokenizer, cache, known_heads={"mine": other})


def test_a_stored_split_is_pickled_as_its_path(tmp_path: Path, tokenizer: Any) -> None:
    files = {"train": "text,label\n" + "a b c,good\nd,bad\n" * 500, "dev": "text,label\na,good\n"}
    data = process(make_task(tmp_path, "csv", files, test_fraction=0), tokenizer, tmp_path / "cache")
    stored = data.train["mine"]
    sent = pickle.dumps(stored)
    assert len(sent) < 5000
    assert list(pickle.loads(sent)) == list(stored)


def test_small_sets_are_held_in_memory(tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(tmp_path, "csv")
    on_disk = contents(process(task, tokenizer, tmp_path / "cache"))
    monkeypatch.setattr(storage, "NUM_IN_MEMORY", 3)
    data = process(task, tokenizer, tmp_path / "cache")
    assert isinstance(data.train["mine"], InMemorySplit)
    assert contents(data) == on_disk


def test_a_stored_split_and_its_examples_are_indexed_like_lists(tmp_path: Path, tokenizer: Any) -> None:
    data = process(make_task(tmp_path, "csv"), tokenizer, tmp_path / "cache")
    stored = data.train["mine"]
    assert isinstance(stored, StoredSplit)
    examples = stored.examples()
    assert isinstance(examples, StoredExamples)
    everything = list(stored)
    assert (len(stored), stored[-1], stored[np.int64(1)]) == (3, everything[2], everything[1])
    assert examples[1:] == [one.example for one in everything[1:]]
    assert (len(examples), examples[-1]) == (3, everything[2].example)
    with pytest.raises(IndexError):
        stored[3]


def test_the_cache_is_where_the_environment_says_or_switched_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MULTITASK_BERT_CACHE", str(tmp_path / "mine"))
    cache = Cache.from_environment()
    assert cache is not None
    assert cache.folder == tmp_path / "mine"
    monkeypatch.setenv("MULTITASK_BERT_CACHE", "")
    assert Cache.from_environment() is None
    monkeypatch.delenv("MULTITASK_BERT_CACHE")
    default = Cache.from_environment()
    assert default is not None
    assert default.folder == Path("~/.cache/multitask_bert").expanduser()


@pytest.mark.parametrize("name", ["x" * 250, "ñ" * 200, "../outside", "a/b", ".."])
def test_a_folder_of_the_cache_lies_in_it_whatever_the_task_is_called(
    name: str, tmp_path: Path, tokenizer: Any
) -> None:
    task = make_task(tmp_path, "csv")
    folder = tmp_path / "deep" / "cache"
    for _ in range(2):  # made, and found again
        data = DataProcessor({name: task}, data_root=".", seed=1, cache=Cache(folder)).process(tokenizer, max_length=16)
        assert len(data.train[name]) == 3
        assert [path.parent for path in folder.rglob(WHOLE)] == [next(folder.iterdir())]
    assert [path.name for path in folder.parent.iterdir()] == ["cache"]


@pytest.mark.parametrize("kind", ["csv", "windows", "choices"])
def test_a_split_on_disk_describes_itself_as_it_does_in_memory(tmp_path: Path, tokenizer: Any, kind: str) -> None:
    task = rich_task(tmp_path, kind)
    made, found = (process(task, tokenizer, tmp_path / "cache") for _ in range(2))
    assert made.reports == found.reports
    for split in contents(made):
        stored = found_on_disk(tmp_path / "cache", split, found.heads["mine"])
        in_memory = InMemorySplit(list(stored))
        assert len(stored) == len(in_memory) > 0
        assert stored.lengths() == in_memory.lengths()
        assert stored.used_ids().tolist() == in_memory.used_ids().tolist()
        assert list(stored.examples()) == list(in_memory.examples())
        assert stored.num_truncated() == in_memory.num_truncated()


def found_on_disk(cache: Path, split: str, heads: Mapping[str, Head]) -> StoredSplit:
    (folder,) = cache.glob(f"*/{split}")
    return StoredSplit(folder, heads, keeps_offsets=True)

"""Files that are too big for memory: read line by line, held on disk, encoded by several processes, all the same."""

from __future__ import annotations

import logging
import os
import pickle
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import SPLITS, SourceConfig
from multitask_bert.data import storage, workers
from multitask_bert.data.caching import Cache
from multitask_bert.data.encoding import EXAMPLES_PER_CALL, ExampleTokenizer
from multitask_bert.data.processor import DataProcessor
from multitask_bert.data.readers import READERS
from multitask_bert.data.reading import TaskReader
from multitask_bert.data.splitting import split_off
from multitask_bert.data.storage import Chunk, StoredExamples, spool
from multitask_bert.data.workers import tokenize_in_chunks
from multitask_bert.errors import InputError
from multitask_bert.records import Example
from multitask_bert.utils import progress
from multitask_bert.utils.progress import tracked
from tests.data.task_files import HEADS, SOURCES, make_task

NUM_LINES = 10_000
LINES = {  # one example each, but for CoNLL, where it is several lines
    "csv": ("text,label", '"habari, za leo ""rafiki"" yangu",good'),
    "tsv": ("text\tlabel", "habari za leo rafiki yangu\tgood"),
    "jsonl": ("", '{"text": "habari za leo", "label": "good"}'),
    "conll": ("", "Asha\tB-PER\n" + "anakuja\tO\n" * 5),
}
EXAMPLES = [
    Example(f"f:{n}", f"habari ya mtu {n} " + "ndefu sana " * (n % 7), {"mood": "good"})
    for n in range(2 * EXAMPLES_PER_CALL + 345)
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", LINES)
def test_reading_takes_no_memory_for_the_file_as_a_whole(tmp_path: Path, kind: str) -> None:
    header, line = LINES[kind]
    path = tmp_path / "train.txt"
    path.write_text(f"{header}\n{f'{line}{chr(10)}' * NUM_LINES}", encoding="utf-8")
    source = SourceConfig(**{"format": kind, **SOURCES.get(kind, {"text": "text"})})
    examples = READERS[kind](path, source, HEADS[kind])
    next(examples)
    tracemalloc.start()
    num_rest = sum(1 for _ in examples)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert num_rest == NUM_LINES - 1
    assert peak < path.stat().st_size / 2


def equal(left: Sequence[Chunk], right: Sequence[Chunk]) -> bool:
    return [repr(one) for one in left] == [repr(one) for one in right]


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, 3])
def test_several_processes_give_what_one_gives(tmp_path: Path, tokenizer: Any, num_processes: int) -> None:
    cut = ExampleTokenizer(tokenizer, 16, None)
    expected = list(tokenize_in_chunks(EXAMPLES, cut, num_processes=1))
    assert [len(chunk.examples) for chunk in expected] == [EXAMPLES_PER_CALL, EXAMPLES_PER_CALL, 345]
    for examples in (EXAMPLES, spool(tmp_path / "spool", EXAMPLES)):
        assert equal(list(tokenize_in_chunks(examples, cut, num_processes=num_processes)), expected)


def test_a_killed_worker_is_an_error_with_the_way_out(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExampleTokenizer, "__call__", lambda *_: os.kill(os.getpid(), 9))
    with pytest.raises(InputError, match=r"batching\.encoding_processes=2: .* killed.* set it to 1"):
        list(tokenize_in_chunks(EXAMPLES, ExampleTokenizer(tokenizer, 16, None), num_processes=2))


def test_small_files_are_not_worth_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert workers._num_automatic(workers.NUM_WORTH_IT - 1) == 1
    assert workers._num_automatic(workers.NUM_WORTH_IT) == workers.MAX_AUTOMATIC
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2), raising=False)
    assert workers._num_automatic(workers.NUM_WORTH_IT) == 2


@pytest.mark.parametrize("is_cached", [True, False])
def test_data_on_disk_equals_data_in_memory(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    rows = "".join(f"maneno ya mstari {n % 50},{'good' if n % 3 else 'bad'}\n" for n in range(400))
    task = make_task(tmp_path, "csv", {"train": f"text,label\n{rows}"}, dev=None, test=None)
    cache = Cache(tmp_path / "cache") if is_cached else None
    in_memory = DataProcessor({"mine": task}, data_root="unused", seed=1).process(tokenizer, max_length=16)
    monkeypatch.setattr(storage, "NUM_IN_MEMORY", 10)
    spooled: list[Path] = []
    hold = TaskReader._hold

    def watching(self: TaskReader, *rest: Any) -> Sequence[Example]:
        held = hold(self, *rest)
        assert isinstance(held, StoredExamples)
        spooled.append(held.folder)
        return held

    monkeypatch.setattr(TaskReader, "_hold", watching)
    on_disk = DataProcessor({"mine": task}, data_root="unused", seed=1, cache=cache).process(tokenizer, max_length=16)
    for split in SPLITS:
        assert list(getattr(on_disk, split)["mine"]) == list(getattr(in_memory, split)["mine"])
    assert on_disk.reports == in_memory.reports
    assert len(spooled) == 1
    assert not spooled[0].exists()
    assert not is_cached or [path.name[:5] for path in (tmp_path / "cache").iterdir()] == ["mine-"]


def test_a_part_of_stored_examples_is_not_copied(tmp_path: Path) -> None:
    stored = spool(tmp_path / "spool", EXAMPLES)
    rest, part = split_off(stored, 0.25, seed=1, purpose="mine/dev")
    assert (rest.examples, part.examples) == (stored, stored)
    smaller, other = split_off(rest, 0.25, seed=1, purpose="mine/test")
    assert sorted(one.where for half in (smaller, other, part) for one in half) == sorted(e.where for e in EXAMPLES)
    assert pickle.loads(pickle.dumps(other))[2:4] == [other[2], other[3]]
    assert b"habari" not in pickle.dumps(other)


def test_a_long_loop_is_logged_with_its_speed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert list(tracked("abc", "reading mine")) == ["a", "b", "c"]
        assert not caplog.messages
        monkeypatch.setattr(progress, "SECONDS_UNSEEN", -1.0)
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", -1.0)
        monkeypatch.setattr(progress, "SECONDS_BETWEEN_LOOKS", -1.0)
        assert list(tracked(["ab", "cd"], "encoding mine", total=4, size_of=len)) == ["ab", "cd"]
    first, second, last = caplog.messages
    assert first.startswith("encoding mine: 2 of 4 examples after")
    assert second.startswith("encoding mine: 4 of 4 examples after")
    assert last.startswith("encoding mine: 4 examples in")

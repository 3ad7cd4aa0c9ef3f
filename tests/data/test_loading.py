"""Loading in the background: the same batches in the same order, whatever becomes of the processes that help."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from torch.utils.data import Dataset

from multitask_bert.records import Batch, EncodedExample
from tests.data.batches import BATCHES, DATASET, assert_equal_batches, loader

ROOT = Path(__file__).parent.parent.parent


def assert_same(loaded: Sequence[list[Batch]], expected: Sequence[list[Batch]]) -> None:
    assert len(loaded) == len(expected)
    for one, other in zip(loaded, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert_equal_batches(a, b)


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("num_workers", [1, 2, 50])
def test_workers_give_the_same_batches_in_the_same_order(num_workers: int, layout: str) -> None:
    here, there = (list(loader(number, layout=layout).load(BATCHES)) for number in (0, num_workers))
    assert len(there) == len(BATCHES) == 15
    assert_same(there, here)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("num_workers", [1, 3])
@pytest.mark.parametrize("num_taken", [0, 1, 7])
def test_a_killed_worker_changes_no_batch_and_gives_one_warning(
    num_workers: int, num_taken: int, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    waiting = WaitingDataset(tmp_path / "go on")
    ahead = loader(num_workers, waiting)
    batches = ahead.load(BATCHES)
    loaded = [next(batches) for _ in range(num_taken)]
    if not num_taken:  # the workers start with the first batch that is asked for
        loaded.append(next(batches))
    worker = multiprocessing.active_children()[0]
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    waiting.sign.touch()
    loaded += batches
    assert_same(loaded, list(loader(0).load(BATCHES)))
    (record,) = caplog.records
    assert record.getMessage() == (
        f"batching.num_workers={num_workers}: a worker process was killed (SIGKILL), most likely out of memory; from "
        f"here on the main process makes the batches itself, which stay the same (batching.num_workers=0 does so from "
        f"the beginning)"
    )
    assert_same(list(ahead.load(BATCHES)), loaded)  # the next epoch
    assert (ahead.num_workers, len(caplog.records), multiprocessing.active_children()) == (0, 1, [])


class WaitingDataset(Dataset[EncodedExample]):
    """In a worker, the examples of the last batches wait for a file, so that none is done before one is killed."""

    def __init__(self, sign: Path) -> None:
        self.sign, self.owner = sign, os.getpid()
        self.late = {index for batch in BATCHES[-3:] for index in batch["ner"]}

    def __getitem__(self, index: int) -> EncodedExample:
        while os.getpid() != self.owner and index in self.late and not self.sign.exists():
            time.sleep(0.01)
        return DATASET[index]


class BrokenDataset(Dataset[EncodedExample]):
    def __getitem__(self, index: int) -> EncodedExample:
        if index == 17:
            raise OSError(5, "Input/output error", "examples.bin")
        return DATASET[index]


def test_an_error_in_a_worker_is_raised_here_at_its_batch() -> None:
    place = next(number for number, batch in enumerate(BATCHES) if 17 in batch["ner"])
    loaded = []
    with pytest.raises(OSError, match=r"Input/output error: 'examples\.bin'"):
        loaded.extend(loader(2, BrokenDataset()).load(BATCHES))  # keeps what came before the error
    assert len(loaded) == place


def test_batches_are_made_in_the_main_process_where_no_other_can_be_started(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(multiprocessing.get_context("fork").Process, "start", refuse)
    assert_same(list(loader(2).load(BATCHES)), list(loader(0).load(BATCHES)))
    (record,) = caplog.records
    assert "a worker process cannot be started (Cannot allocate memory); from here on" in record.getMessage()


def test_an_epoch_that_is_left_early_leaves_no_process() -> None:
    batches = loader(2).load(BATCHES)
    next(batches)
    batches.close()  # type: ignore[attr-defined]  # a generator
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_workers_end_with_a_main_process_that_is_killed() -> None:
    code = """
import multiprocessing, time
from tests.data.batches import BATCHES, DATASET, SlowDataset, loader
batches = loader(3, SlowDataset(DATASET, 0.05)).load(BATCHES * 1000)
next(batches)
print(*(child.pid for child in multiprocessing.active_children()), flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
    assert len(workers) == 3
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert alive == []

"""Encoding for storage, on one process or several: each cuts some examples into pieces and packs them; one writes."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from multitask_bert.data.encoding import CHUNK, Cutter
from multitask_bert.data.storage import Chunk, pack
from multitask_bert.errors import InputError
from multitask_bert.records import Example

NUM_WORTH_IT = 20_000  # examples from which starting processes costs less than it gains
MAX_AUTOMATIC = 8  # one process writes what the others cut: more of them would wait for it

_worker: tuple[Cutter, Sequence[Example]] | None = None  # in a worker process: what it works with


def pack_all(examples: Sequence[Example], cut: Cutter, *, num_processes: int | None) -> Iterator[Chunk]:
    """The examples as chunks, in their order. `num_processes`: None: one per core where it is worth it.

    Raises:
        InputError: a worker process was killed (mostly for want of memory).
    """
    num_processes = num_processes or _num_automatic(len(examples))
    starts = range(0, len(examples), CHUNK)
    if num_processes == 1:
        for start in starts:
            yield pack(cut(examples[start : start + CHUNK]))
        return
    # As torch's loaders do: a forked process has the tokenizer and the examples without a copy, and no script of the
    # user's runs again.
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    waiting: deque[Future[Chunk]] = deque()
    try:
        with ProcessPoolExecutor(num_processes, context, _start_worker, (cut, examples)) as pool:
            for start in starts:
                waiting.append(pool.submit(_pack_chunk, start))
                if len(waiting) > 2 * num_processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            f"batching.encoding_processes={num_processes}: one of the processes was killed, mostly for want of "
            f"memory; set it to 1"
        ) from error


def _num_automatic(num_examples: int) -> int:
    if num_examples < NUM_WORTH_IT:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MAX_AUTOMATIC)


def _start_worker(cut: Cutter, examples: Sequence[Example]) -> None:
    global _worker
    _worker = cut, examples


def _pack_chunk(start: int) -> Chunk:
    assert _worker is not None
    cut, examples = _worker
    return pack(cut(examples[start : start + CHUNK]))

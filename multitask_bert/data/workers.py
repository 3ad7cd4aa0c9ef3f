"""Step 2 of the flow, for data that goes to disk: examples are tokenized in chunks, by one process or by several."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from multitask_bert.data.encoding import EXAMPLES_PER_CALL, ExampleTokenizer
from multitask_bert.data.storage import Chunk, make_chunk
from multitask_bert.errors import InputError
from multitask_bert.records import Example

NUM_WORTH_IT = 20_000  # examples from which starting processes costs less than it gains
MAX_AUTOMATIC = 8  # a single process writes the chunks: more of the others would wait for it

_worker: tuple[ExampleTokenizer, Sequence[Example]] | None = None  # in a worker process: what it works with


def tokenize_in_chunks(
    examples: Sequence[Example], tokenize: ExampleTokenizer, *, num_processes: int | None
) -> Iterator[Chunk]:
    """The examples as chunks, in their order. `num_processes`: None: one per core where it is worth it.

    Raises:
        InputError: a worker process was killed (most likely out of memory).
    """
    num_processes = num_processes or _num_automatic(len(examples))
    starts = range(0, len(examples), EXAMPLES_PER_CALL)
    if num_processes == 1:
        for start in starts:
            yield make_chunk(tokenize(examples[start : start + EXAMPLES_PER_CALL]))
        return
    # As in torch's loaders: a forked process has the tokenizer and the examples without a copy, and does not run the
    # user's script again.
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)
    waiting: deque[Future[Chunk]] = deque()
    try:
        with ProcessPoolExecutor(num_processes, context, _start_worker, (tokenize, examples)) as pool:
            for start in starts:
                waiting.append(pool.submit(_chunk_at, start))
                if len(waiting) > 2 * num_processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            f"batching.encoding_processes={num_processes}: one of the processes was killed, most likely out of "
            f"memory; set it to 1"
        ) from error


def _num_automatic(num_examples: int) -> int:
    if num_examples < NUM_WORTH_IT:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, MAX_AUTOMATIC)


def _start_worker(tokenize: ExampleTokenizer, examples: Sequence[Example]) -> None:
    global _worker
    _worker = tokenize, examples


def _chunk_at(start: int) -> Chunk:
    assert _worker is not None
    tokenize, examples = _worker
    return make_chunk(tokenize(examples[start : start + EXAMPLES_PER_CALL]))

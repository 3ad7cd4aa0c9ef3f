"""Step 4 of the flow, its last part: planned batches are collated in order, here or by processes in the background.

Each process has a pipe of its own and shares nothing with the others. So none waits for another that was killed: the
pipe of that one ends, and the main process collates the rest itself.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import pickle
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import Dataset

from multitask_bert.data.collation import Collate, Indices
from multitask_bert.records import Batch, EncodedExample

log = logging.getLogger(__name__)


class Loader:
    """Yields batches as lists of micro-batches.

    A micro-batch has at most `micro_batch_size` examples and `micro_batch_tokens` tokens (None: no limit; an example is
    never split); in the padded layout, it has one task. `num_workers`: processes that work ahead; 0: none. If one of
    them dies, it is set to 0 with a warning; the batches stay the same.
    """

    def __init__(
        self,
        datasets: Mapping[str, Dataset[EncodedExample]],
        *,
        pad_id: int,
        layout: str = "padded",
        micro_batch_size: int | None = None,
        micro_batch_tokens: int | None = None,
        num_workers: int = 0,
    ) -> None:
        self.datasets, self.num_workers = datasets, num_workers
        self._collate = Collate(pad_id, layout, micro_batch_size, micro_batch_tokens)

    @property
    def micro_batch_tokens(self) -> int | None:
        return self._collate.max_tokens

    def limit(self, micro_batch_tokens: int | None) -> None:
        """Set the most tokens in a micro-batch, from the next `load` on."""
        self._collate.max_tokens = micro_batch_tokens

    def load(self, batches: Sequence[Indices]) -> Iterator[list[Batch]]:
        """The batches in the order given."""
        num_loaded = 0
        if self.num_workers:
            for batch in self._load_ahead(batches):
                yield batch
                num_loaded += 1
        for indices in itertools.islice(batches, num_loaded, None):
            yield self.make(indices)

    def make(self, indices: Indices) -> list[Batch]:
        """Collate one batch."""
        return self._collate(
            [(task, self.datasets[task][index]) for task, own_indices in indices.items() for index in own_indices]
        )

    def _load_ahead(self, batches: Sequence[Indices]) -> Iterator[list[Batch]]:
        """The batches that workers make, until the last, or until a worker is lost."""
        workers: list[_Worker] = []
        num_workers = min(self.num_workers, len(batches))
        try:
            for number in range(num_workers):
                workers.append(_Worker(self.make, batches[number::num_workers], [worker.pipe for worker in workers]))
            for number in range(len(batches)):
                yield workers[number % num_workers].next()
        except _WorkerLostError as loss:
            log.warning(
                "batching.num_workers=%d: %s; from here on the main process makes the batches itself, which stay the "
                "same (batching.num_workers=0 does so from the beginning)", self.num_workers, loss,
            )  # fmt: skip
            self.num_workers = 0
        finally:
            for worker in workers:
                worker.end()


class _WorkerLostError(Exception):
    """A worker process died or could not be started; the message says which."""


class _Worker:
    """A process that makes batches in order and sends them; a full pipe keeps it from getting far ahead."""

    def __init__(
        self, make: Callable[[Indices], list[Batch]], batches: Sequence[Indices], others: Sequence[Connection]
    ) -> None:
        """Start the process. `others`: the main process's ends of other workers' pipes.

        Raises:
            _WorkerLostError: the system has no room for another process.
        """
        # Forked, as in data/workers.py: it has the examples without a copy.
        context: Any = multiprocessing.get_context(
            "fork" if "fork" in multiprocessing.get_all_start_methods() else None
        )
        self.pipe: Connection
        self.pipe, to_fill = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(
            target=_work, args=(make, batches, to_fill, [*others, self.pipe]), daemon=True
        )
        try:
            self.process.start()
        except OSError as error:
            self.pipe.close()
            raise _WorkerLostError(f"a worker process cannot be started ({error.strerror})") from error
        finally:
            to_fill.close()  # the worker then holds the only one: if it dies, the pipe ends

    def next(self) -> list[Batch]:
        """Its next batch.

        Raises:
            _WorkerLostError: it died before it sent the batch.
        """
        try:
            batch: list[Batch] = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            raise _WorkerLostError(f"a worker process {self._how_it_ended()}") from None
        return batch

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()  # it holds nothing that others need
        self.process.join()
        self.process.close()

    def _how_it_ended(self) -> str:
        self.process.join(10)
        status = self.process.exitcode
        if status is None or status >= 0:
            return f"ended too early (exit status {status})"
        return f"was killed ({signal.Signals(-status).name}), most likely out of memory"


def _work(
    make: Callable[[Indices], list[Batch]], batches: Sequence[Indices], pipe: Connection, others: Sequence[Connection]
) -> None:
    """The worker's main function. An error ends it: the main process then meets the same error, and reports it."""
    for name in ("SIGINT", "SIGUSR1"):  # the main process handles them, and ends its workers
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:
        other.close()  # else the others' pipes would stay open after the main process died, and they would wait
    torch.set_num_threads(1)
    with suppress(Exception):
        for indices in batches:
            buffer = BytesIO()
            _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(make(indices))
            pipe.send_bytes(buffer.getbuffer())


class _Pickler(pickle.Pickler):
    """Pickles tensors as numpy arrays: faster than torch's own way, and without shared memory, which may run out."""

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, torch.Tensor) else NotImplemented

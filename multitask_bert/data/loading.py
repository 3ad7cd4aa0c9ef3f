"""Step 4 of the flow, at last: planned batches are collated, here or by processes in the background, in their order.

Each process has a pipe of its own and shares nothing with the others, so that one that is killed, in whatever moment,
leaves nobody waiting: its pipe ends, and this process collates the rest itself.
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
    """Yields batches as their micro-batches.

    One micro-batch is at most `micro_batch_size` examples and `micro_batch_tokens` tokens (None: no limit; one example
    is never split); where the layout is padded, it is of one task. `num_workers`: processes that work ahead; 0: none.
    It falls to 0, for good, when one of them dies: that is one warning, and the batches stay the same.
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
        """From the next `load` on, at most so many tokens in a micro-batch."""
        self._collate.max_tokens = micro_batch_tokens

    def load(self, batches: Sequence[Indices]) -> Iterator[list[Batch]]:
        """The batches in the order given; examples of a batch by task and index."""
        num_given = 0
        if self.num_workers:
            for batch in self._load_ahead(batches):
                yield batch
                num_given += 1
        for indices in itertools.islice(batches, num_given, None):
            yield self.make(indices)

    def make(self, indices: Indices) -> list[Batch]:
        """One batch."""
        return self._collate(
            [(task, self.datasets[task][index]) for task, of_task in indices.items() for index in of_task]
        )

    def _load_ahead(self, batches: Sequence[Indices]) -> Iterator[list[Batch]]:
        """As far as the workers live."""
        workers: list[_Worker] = []
        num_workers = min(self.num_workers, len(batches))
        try:
            for number in range(num_workers):
                workers.append(_Worker(self.make, batches[number::num_workers], [worker.pipe for worker in workers]))
            for number in range(len(batches)):
                yield workers[number % num_workers].next()
        except _WorkerLostError as loss:
            log.warning(
                "batching.num_workers=%d: %s; from here on this process makes the batches itself, and they are the "
                "same (batching.num_workers=0 does so from the beginning)", self.num_workers, loss,
            )  # fmt: skip
            self.num_workers = 0
        finally:
            for worker in workers:
                worker.end()


class _WorkerLostError(Exception):
    """What happened to it."""


class _Worker:
    """A process that makes its batches in their order and sends them; the pipe holds it back when it is far ahead."""

    def __init__(
        self, make: Callable[[Indices], list[Batch]], batches: Sequence[Indices], others: Sequence[Connection]
    ) -> None:
        """`others`: this process' ends of other workers' pipes.

        Raises:
            _WorkerLostError: the system has no room for another process.
        """
        # Forked as in data/workers.py: the examples are there without a copy.
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
            to_fill.close()  # the worker's is then the only one: where it dies, the pipe ends

    def next(self) -> list[Batch]:
        """Its next batch.

        Raises:
            _WorkerLostError: it died before that was sent.
        """
        try:
            batch: list[Batch] = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            raise _WorkerLostError(f"a worker process {self._fate()}") from None
        return batch

    def end(self) -> None:
        self.pipe.close()
        self.process.kill()  # it holds nothing that others need
        self.process.join()
        self.process.close()

    def _fate(self) -> str:
        self.process.join(10)
        status = self.process.exitcode
        if status is None or status >= 0:
            return f"ended too early (exit status {status})"
        return f"was killed ({signal.Signals(-status).name}), mostly for want of memory"


def _work(
    make: Callable[[Indices], list[Batch]], batches: Sequence[Indices], pipe: Connection, others: Sequence[Connection]
) -> None:
    """What a worker does. An error ends it: the process that waits meets the same error, and tells it better."""
    for name in ("SIGINT", "SIGUSR1"):  # the run ends when it has saved
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:
        other.close()  # else, where the main process dies, the pipes of others would stay open, and they would wait
    torch.set_num_threads(1)
    with suppress(Exception):
        for indices in batches:
            buffer = BytesIO()
            _Pickler(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(make(indices))
            pipe.send_bytes(buffer.getbuffer())


class _Pickler(pickle.Pickler):
    """Tensors as numpy's arrays: quicker than torch's own way, and without shared memory, which could run short."""

    def reducer_override(self, value: Any) -> Any:
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, torch.Tensor) else NotImplemented

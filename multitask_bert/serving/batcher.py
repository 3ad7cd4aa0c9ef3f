"""Batcher: one thread that predicts for the inputs of all waiting requests together.

While the model works on one batch, new requests wait; the next batch takes all of them. Nobody waits for a batch to
fill up, and under load batches become large by themselves.

The thread also loads the model. OpenMP gives each thread that computes a team of its own, and where teams have more
threads than there are cores, idle ones sleep instead of waiting actively: a text takes twice as long (on two cores).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multitask_bert.inference.inputs import Input
    from multitask_bert.inference.predictor import Predictor

log = logging.getLogger(__name__)


class TooManyWaitingError(Exception):
    """More inputs wait already than the server keeps."""


@dataclass(slots=True)
class Job:
    """The inputs of one request, and the future of their predictions."""

    inputs: Sequence[Input]
    tasks: tuple[str, ...]
    predictions: Future[list[dict[str, Any]]] = field(default_factory=Future)


class Batcher:
    """`load` is called once, in the thread that predicts; what it raises is raised here. `max_waiting`: inputs that
    wait at most. A batch is of the predictor's size, unless a single request is larger.

    `num_batches` counts the batches so far, `num_waiting` the inputs that wait.
    """

    def __init__(self, load: Callable[[], Predictor], *, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self.num_batches = self.num_waiting = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        loaded: Future[Predictor] = Future()
        self._thread = threading.Thread(target=self._work, args=(load, loaded), name="predictions", daemon=True)
        self._thread.start()
        self.predictor = loaded.result()

    def submit(self, inputs: Sequence[Input], tasks: tuple[str, ...]) -> Future[list[dict[str, Any]]]:
        """The future of what `Predictor.predict` yields for these inputs.

        Raises:
            TooManyWaitingError: they would be more than `max_waiting`.
        """
        with self._lock:
            if self.num_waiting + len(inputs) > self.max_waiting:
                raise TooManyWaitingError
            self.num_waiting += len(inputs)
        job = Job(inputs, tasks)
        self._jobs.put(job)
        return job.predictions

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self, load: Callable[[], Predictor], loaded: Future[Predictor]) -> None:
        try:
            predictor = load()
        except BaseException as error:
            loaded.set_exception(error)
            return
        loaded.set_result(predictor)
        is_open = True
        while is_open:
            batch = [self._jobs.get()]
            while batch[-1] is not None and sum(len(job.inputs) for job in batch if job) < predictor.batch_size:
                try:
                    batch.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            is_open = batch[-1] is not None
            jobs = [job for job in batch if job is not None]
            with self._lock:
                self.num_waiting -= sum(len(job.inputs) for job in jobs)
            jobs = [job for job in jobs if job.predictions.set_running_or_notify_cancel()]
            for _, group in groupby(sorted(jobs, key=_tasks_of), key=_tasks_of):
                self._predict(list(group))

    def _predict(self, jobs: Sequence[Job]) -> None:
        """Predict for jobs of the same tasks at once; if that fails, for each by itself, so that one harms no other."""
        self.num_batches += 1
        try:
            found = iter(list(self.predictor.predict([one for job in jobs for one in job.inputs], jobs[0].tasks)))
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._predict([job])
                return
            log.warning("a request of %s inputs failed", len(jobs[0].inputs), exc_info=True)
            jobs[0].predictions.set_exception(error)
            return
        for job in jobs:
            job.predictions.set_result(_take(found, len(job.inputs)))


def _tasks_of(job: Job) -> tuple[str, ...]:
    return job.tasks


def _take(records: Iterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return [next(records) for _ in range(count)]

"""What the training loop reports to the loggers; losses of steps stay on the device until several are read at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from multitask_bert.tracking.loggers import RunLogger, RunStart


class Reporter:
    """Passes metrics and files on to all loggers of a run; before `start` and after `close`, to none.

    A logger that fails has its first failure told by a warning, and the run and the other loggers go on.
    """

    def __init__(self, loggers: Sequence[RunLogger]) -> None:
        self.loggers = list(loggers)
        self._queue: list[tuple[int, Mapping[str, Tensor | float]]] = []
        self._is_open = self._was_opened = False

    def start(self, run: RunStart) -> None:
        """Start the loggers; a second call does nothing."""
        if not self._was_opened:
            self._is_open = self._was_opened = True
            for logger in self.loggers:
                logger.attempt(partial(logger.start, run))

    def queue(self, metrics: Mapping[str, Tensor | float], *, step: int) -> None:
        """Log these metrics, which may still be on the device, with the next `flush`."""
        self._queue.append((step, metrics))

    def flush(self) -> list[dict[str, float]]:
        """Log the queued metrics, and return them; only here the training loop waits for the device."""
        queued = [(step, {name: float(value) for name, value in metrics.items()}) for step, metrics in self._queue]
        self._queue.clear()
        for step, metrics in queued:
            self.log(metrics, step=step)
        return [metrics for _, metrics in queued]

    def log(self, metrics: Mapping[str, float], *, step: int) -> None:
        for logger in self.loggers if self._is_open else ():
            logger.attempt(partial(logger.log_metrics, metrics, step=step))

    def log_artifact(self, path: Path) -> None:
        """Pass a file or folder of the run on to the loggers that store artifacts."""
        for logger in self.loggers if self._is_open else ():
            logger.attempt(partial(logger.log_artifact, path))

    def close(self, status: str) -> None:
        """End the loggers; safe to call twice."""
        for logger in self.loggers if self._is_open else ():
            logger.attempt(partial(logger.close, status))
        self._is_open = False

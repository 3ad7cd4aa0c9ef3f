"""From the training loop to the loggers; losses of steps stay on the device until several are handed over at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from multitask_bert.tracking.loggers import RunLogger, RunStart


class Reporter:
    """Tells all loggers of a run; before `start` and after `close`, none."""

    def __init__(self, loggers: Sequence[RunLogger]) -> None:
        self.loggers = list(loggers)
        self._held: list[tuple[int, Mapping[str, Tensor | float]]] = []
        self._is_open = self._was_opened = False

    def start(self, run: RunStart) -> None:
        """Once; a second call changes nothing."""
        if not self._was_opened:
            self._is_open = self._was_opened = True
            for logger in self.loggers:
                logger.start(run)

    def hold(self, metrics: Mapping[str, Tensor | float], *, step: int) -> None:
        """To be told with the next `hand_over`."""
        self._held.append((step, metrics))

    def hand_over(self) -> list[dict[str, float]]:
        """Tell what is held, and give it; the only place of the loop that waits for the device."""
        told = [(step, {name: float(value) for name, value in metrics.items()}) for step, metrics in self._held]
        self._held.clear()
        for step, metrics in told:
            self.tell(metrics, step=step)
        return [metrics for _, metrics in told]

    def tell(self, metrics: Mapping[str, float], *, step: int) -> None:
        for logger in self.loggers if self._is_open else ():
            logger.log_metrics(metrics, step=step)

    def log_artifact(self, path: Path) -> None:
        """Show a file or folder of the run to the loggers that keep such."""
        for logger in self.loggers if self._is_open else ():
            logger.log_artifact(path)

    def close(self, status: str) -> None:
        """End the loggers; safe to call twice."""
        for logger in self.loggers if self._is_open else ():
            logger.close(status)
        self._is_open = False

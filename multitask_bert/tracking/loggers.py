"""Where a run's numbers go: each logger hears the same start, metrics, files and end from the Trainer.

`metrics.jsonl` (jsonl.py), always on, is the source of truth; MLflow (mlflow/) is fed from it. A logger may fail, the
run may not: an outage is one warning.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multitask_bert.errors import InputError
from multitask_bert.trust.classes import named_class

log = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class RunStart:
    """What a logger is told of a run before its first metric."""

    folder: Path
    name: str
    config: dict[str, Any]  # resolved, nested, of JSON types
    tags: dict[str, str] = field(default_factory=dict)
    step: int = 0  # from which it goes on; 0: it begins
    num_bytes_kept: int | None = None  # of metrics.jsonl, where it goes on: what follows is done again; None: all


class RunLogger(ABC):
    """Hears what a run reports. No method raises when its backend fails: it warns once and goes on."""

    _has_warned = False

    @abstractmethod
    def start(self, run: RunStart) -> None:
        """The run begins; called once, before everything else."""

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Metrics as of this optimizer step."""

    def log_artifact(self, path: Path) -> None:  # noqa: B027 - most loggers keep no files
        """A file or folder of the run that is complete and worth keeping."""

    @abstractmethod
    def close(self, status: str = "FINISHED") -> None:
        """The run ended: FINISHED, FAILED or KILLED, as in MLflow, or PRUNED. Safe to call twice."""

    def _attempt(self, act: Callable[[], object]) -> None:
        """Call `act`; if it fails, warn the first time."""
        try:
            act()
        except Exception as error:  # whatever a backend throws: hours of training are worth more than its log
            if not self._has_warned:
                self._has_warned = True
                log.warning("%s: %s; the run goes on", type(self).__name__, f"{error}" or repr(error))


def make_loggers(config: Mapping[str, Any]) -> list[RunLogger]:
    """The JSONL file's logger, and one per entry of `config.logger`.

    Raises:
        InputError: an entry has an argument that its class does not take.
    """
    from multitask_bert.tracking.jsonl import JsonlLogger  # it derives from what is here

    loggers: list[RunLogger] = [JsonlLogger()]
    for name, entry in config.items():
        arguments = {key: value for key, value in entry.items() if key != "_target_"}
        try:
            loggers.append(named_class(f"logger.{name}._target_", entry["_target_"], RunLogger)(**arguments))
        except TypeError as error:
            raise InputError(f"logger.{name}: {error}") from error
    return loggers

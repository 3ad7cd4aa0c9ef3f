"""The interface of the loggers: each is told the start, metrics, files and end of a run.

`metrics.jsonl` (jsonl.py), always on, is the source of truth; MLflow (mlflow/) is fed from it. A logger that fails
warns once and never ends the run.
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
    """What a logger is told about a run before its first metric."""

    folder: Path
    name: str
    config: dict[str, Any]  # resolved, nested, of JSON types
    tags: dict[str, str] = field(default_factory=dict)
    step: int = 0  # from which it is resumed; 0: it starts
    num_bytes_kept: int | None = None  # of metrics.jsonl in a resumed run, which writes the rest again; None: all


class RunLogger(ABC):
    """Receives what a run reports, from a `Reporter`: what a method raises is warned of once, and everything goes on.

    A method that does several things, of which one may fail, calls `attempt` for each.
    """

    _has_warned = False

    @abstractmethod
    def start(self, run: RunStart) -> None:
        """The run starts; called once, before everything else."""

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Metrics as of this optimizer step."""

    def log_artifact(self, path: Path) -> None:  # noqa: B027 - most loggers store no files
        """Store a complete file or folder of the run."""

    @abstractmethod
    def close(self, status: str = "FINISHED") -> None:
        """The run ended, as FINISHED, FAILED, KILLED (these as in MLflow) or PRUNED. Safe to call twice."""

    def attempt(self, act: Callable[[], object]) -> None:
        """Call `act`; if it fails, warn the first time."""
        try:
            act()
        except Exception as error:  # hours of training matter more than their log
            if not self._has_warned:
                self._has_warned = True
                log.warning("%s: %s; the run continues", type(self).__name__, f"{error}" or repr(error))


def make_loggers(config: Mapping[str, Any]) -> list[RunLogger]:
    """The JSONL file's logger, and one per entry of `config.logger`.

    Raises:
        InputError: an entry has an argument that its class does not take.
    """
    from multitask_bert.tracking.jsonl import JsonlLogger  # it imports this module

    loggers: list[RunLogger] = [JsonlLogger()]
    for name, entry in config.items():
        arguments = {key: value for key, value in entry.items() if key != "_target_"}
        try:
            loggers.append(named_class(f"logger.{name}._target_", entry["_target_"], RunLogger)(**arguments))
        except TypeError as error:
            raise InputError(f"logger.{name}: {error}") from error
    return loggers

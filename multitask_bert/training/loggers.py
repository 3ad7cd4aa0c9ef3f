"""Where a run's numbers go: each logger hears the same start, metrics, files and end from the trainer.

`metrics.jsonl`, always on, is the source of truth. TensorBoard is here; MLflow, in `mlflow_logger.py`, is fed from
that file. A logger may fail, the run may not: an outage is one warning.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from io import RawIOBase
from pathlib import Path
from typing import Any

from multitask_bert import trust
from multitask_bert.config import InputError
from multitask_bert.training.event_file import EventFile

log = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
SPLITS = ("train", "eval", "test")  # `eval_loss` is shown as `eval/loss` in TensorBoard


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


class JsonlLogger(RunLogger):
    """Appends one line per call to `metrics.jsonl` in the run's folder, each written through at once.

    A line is `{"step": 7, "time": 1700000000.123, "train_loss": 0.5}`, time in Unix seconds. JSON has no word for
    infinite or undefined numbers: they are the strings "NaN", "Infinity" and "-Infinity", which `float()` reads.
    """

    _file: RawIOBase | None = None
    _ends_torn = False  # the last line has no newline yet

    def start(self, run: RunStart) -> None:
        self._attempt(lambda: self._open(run.folder / METRICS_FILE, run.num_bytes_kept))

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        if self._file is not None:
            values = {name: _json_number(float(value)) for name, value in metrics.items()}
            line = json.dumps({"step": step, "time": round(time.time(), 3), **values}, ensure_ascii=False)
            self._attempt(lambda: self._write(line))

    def close(self, status: str = "FINISHED") -> None:
        file, self._file = self._file, None
        if file is not None:
            self._attempt(file.close)

    def _open(self, path: Path, num_bytes_kept: int | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if num_bytes_kept is not None and path.is_file() and path.stat().st_size > num_bytes_kept:
            os.truncate(path, num_bytes_kept)
        file = path.open("a+b", buffering=0)
        if file.tell() > 0:
            file.seek(-1, 2)
            self._ends_torn = file.read(1) != b"\n"  # an earlier run was killed while it wrote
        self._file = file

    def _write(self, line: str) -> None:
        assert self._file is not None
        # Half a pair of surrogates, in a label, is no UTF-8; what takes its place is its escape in JSON.
        data = (("\n" if self._ends_torn else "") + line + "\n").encode("utf-8", "backslashreplace")
        self._ends_torn = True
        num_written = self._file.write(data)
        if num_written != len(data):
            raise OSError(f"{METRICS_FILE}: only {num_written} of {len(data)} bytes could be written")
        self._ends_torn = False


class TensorBoardLogger(RunLogger):
    """Scalars and the config as event files in `<folder>/<log_dir>`."""

    def __init__(self, log_dir: str = "tensorboard") -> None:
        self.log_dir = log_dir
        self._file: EventFile | None = None

    def start(self, run: RunStart) -> None:
        self._attempt(lambda: self._open(run))

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        file = self._file
        if file is not None:
            for name, value in metrics.items():
                self._attempt(partial(file.add_scalar, _tag(name), value, step))

    def close(self, status: str = "FINISHED") -> None:
        file, self._file = self._file, None
        if file is not None:
            self._attempt(file.flush)

    def _open(self, run: RunStart) -> None:
        is_resumed = run.num_bytes_kept is not None  # what follows is logged again
        self._file = EventFile(run.folder / self.log_dir, first_step=run.step + 1 if is_resumed else None)
        text = json.dumps(run.config, indent=2, ensure_ascii=False, default=str)
        self._file.add_text("config", f"```json\n{text}\n```")


def make_loggers(config: Mapping[str, Any]) -> list[RunLogger]:
    """The JSONL file's logger, and one per entry of `config.logger`.

    Raises:
        InputError: an entry has an argument that its class does not take.
    """
    loggers: list[RunLogger] = [JsonlLogger()]
    for name, entry in config.items():
        arguments = {key: value for key, value in entry.items() if key != "_target_"}
        try:
            loggers.append(trust.named_class(f"logger.{name}._target_", entry["_target_"], RunLogger)(**arguments))
        except TypeError as error:
            raise InputError(f"logger.{name}: {error}") from error
    return loggers


def _json_number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _tag(name: str) -> str:
    split, _, rest = name.partition("_")
    tag = f"{split}/{rest}" if split in SPLITS and rest else name
    return tag.encode("utf-8", "backslashreplace").decode("utf-8")  # protobuf takes no half pair of surrogates

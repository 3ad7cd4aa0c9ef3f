"""`metrics.jsonl`: every metric of a run, always written; MLflow is fed from it."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from io import RawIOBase

from multitask_bert.tracking.loggers import METRICS_FILE, RunLogger, RunStart


class JsonlLogger(RunLogger):
    """Appends one line per call to `metrics.jsonl` in the run's folder, each written at once.

    A line is `{"step": 7, "time": 1700000000.123, "train_loss": 0.5}`, time in Unix seconds. Infinite and
    undefined numbers, which JSON does not have, are the strings "NaN", "Infinity" and "-Infinity", as `float()` reads.
    """

    _file: RawIOBase | None = None
    _ends_torn = False  # the last line has no newline yet

    def start(self, run: RunStart) -> None:
        path = run.folder / METRICS_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        if run.num_bytes_kept is not None and path.is_file() and path.stat().st_size > run.num_bytes_kept:
            os.truncate(path, run.num_bytes_kept)
        file = path.open("a+b", buffering=0)
        if file.tell() > 0:
            file.seek(-1, 2)
            self._ends_torn = file.read(1) != b"\n"  # an earlier run was killed while it wrote
        self._file = file

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        if self._file is not None:
            values = {name: _json_number(float(value)) for name, value in metrics.items()}
            self._write(json.dumps({"step": step, "time": round(time.time(), 3), **values}, ensure_ascii=False))

    def close(self, status: str = "FINISHED") -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _write(self, line: str) -> None:
        assert self._file is not None
        # A lone surrogate, in a label, is not UTF-8; it is written as its JSON escape.
        data = (("\n" if self._ends_torn else "") + line + "\n").encode("utf-8", "backslashreplace")
        self._ends_torn = True
        num_written = self._file.write(data)
        if num_written != len(data):
            raise OSError(f"{METRICS_FILE}: only {num_written} of {len(data)} bytes could be written")
        self._ends_torn = False


def _json_number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"

"""`mlflow.json` in a run's folder: what MLflow is to receive of the run, and how much it has received.

It holds the offset in `metrics.jsonl` up to which everything is sent; the lines after it are pending.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from multitask_bert.tracking.loggers import METRICS_FILE
from multitask_bert.utils.files import read_json

STATE_FILE = "mlflow.json"
LOCK_FILE = "mlflow.lock"  # locked by the process that sends from this folder
PARENT_TAG = "mlflow.parentRunId"  # makes a run the child of another in MLflow
PRUNED_TAG = {"pruned": "true"}


@dataclass
class UploadState:
    """The content of `mlflow.json`; `change` and `mark`, which any thread may call, write it."""

    folder: Path
    tracking_uri: str
    experiment: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    started_at: float  # Unix seconds
    upload_id: str  # a tag of the run, to find it if the answer to "create a run" was lost
    run_id: str | None = None
    are_params_sent: bool = False  # parameters and tags
    num_lines_sent: int = 0
    num_bytes_sent: int = 0  # offset of the next line in metrics.jsonl
    artifacts: dict[str, str] = field(default_factory=dict)  # path in the folder -> pending, sent or missing
    status: str | None = None  # FINISHED, FAILED, KILLED; None: not ended yet
    ended_at: float | None = None
    is_status_sent: bool = False
    is_to_reopen: bool = False  # the run is resumed, and may still have its old final status in MLflow

    def __post_init__(self) -> None:
        self._lock = threading.Lock()  # for these fields and the file; never held during a network call

    @classmethod
    def load(cls, folder: Path) -> UploadState:
        """Read the state in a run's folder.

        Raises:
            ValueError: the file is damaged.
        """
        try:
            return cls(folder, **read_json(folder / STATE_FILE))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{folder / STATE_FILE}: is damaged ({error}), so what MLflow has of this run is unknown; if that file "
                f"is removed, a resumed run starts a new one in MLflow"
            ) from error

    def change(self, **changes: Any) -> None:
        with self._lock:
            for name, value in changes.items():
                setattr(self, name, value)
            self._save()

    def mark(self, artifact: str, where: str) -> None:
        with self._lock:
            self.artifacts[artifact] = where
            self._save()

    def go_back(self, num_bytes: int | None) -> None:
        """Set the offset back to `num_bytes`, where metrics.jsonl was truncated; None: it was not truncated."""
        if num_bytes is not None and self.num_bytes_sent > num_bytes:
            with (self.folder / METRICS_FILE).open("rb") as file:
                num_lines = file.read(num_bytes).count(b"\n")
            self.change(num_bytes_sent=num_bytes, num_lines_sent=num_lines)

    def pending_lines(self) -> Iterator[bytes]:
        path = self.folder / METRICS_FILE
        if path.is_file():
            with path.open("rb") as file:
                file.seek(self.num_bytes_sent)
                yield from (line for line in file if line.endswith(b"\n"))  # the last line may be incomplete

    def num_pending_lines(self) -> int:
        return sum(1 for _ in self.pending_lines())

    def pending_artifacts(self) -> list[str]:
        with self._lock:
            return [name for name, where in self.artifacts.items() if where == "pending"]

    def is_complete(self) -> bool:
        return self.is_status_sent and not self.num_pending_lines() and not self.pending_artifacts()

    def _save(self) -> None:
        entries = asdict(self)
        del entries["folder"]
        new = self.folder / f"{STATE_FILE}.new"
        new.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")
        new.replace(self.folder / STATE_FILE)

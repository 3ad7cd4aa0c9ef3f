"""The sweep's own run in MLflow, parent of its trials' runs; sent from the sweep's folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from multitask_bert.tracking.jsonl import JsonlLogger
from multitask_bert.tracking.loggers import RunStart
from multitask_bert.tracking.mlflow.state import LOCK_FILE, PRUNED_TAG, STATE_FILE, UploadState
from multitask_bert.tracking.mlflow.store import prepare_environment
from multitask_bert.tracking.mlflow.upload import Upload, upload_run, what_failed
from multitask_bert.utils.addresses import without_password

log = logging.getLogger(__name__)

WAIT_SECONDS = 30.0  # for the run's id, if another controller creates the run


class MlflowSweep:
    """One run for the whole sweep; of several controllers, the first writes to it.

    An outage is warned of when it begins and at the end, and the sweep continues. If MLflow never got this run, those
    of the trials have no parent until `upload_sweep` sends it.
    """

    def __init__(self, tracking_uri: str, experiment: str, timeout_seconds: float) -> None:
        self.tracking_uri, self.experiment, self.timeout_seconds = tracking_uri, experiment, timeout_seconds
        self._upload: Upload | None = None  # None: another controller writes
        self._lines = JsonlLogger()
        self._lock: FileLock | None = None
        self._error: Exception | None = None  # the latest

    @classmethod
    def from_config(cls, logger: Mapping[str, Any]) -> MlflowSweep | None:
        """With the settings of the trials' MLflow logger; None if they have none."""
        entry = logger.get("mlflow")
        if entry is None:
            return None
        return cls(entry["tracking_uri"], entry.get("experiment", "multitask_bert"), entry.get("timeout_seconds", 10.0))

    def start(self, name: str, folder: Path, config: Mapping[str, Any]) -> str | None:
        """Start or resume the run; return its id, None if MLflow cannot be reached."""
        prepare_environment(self.timeout_seconds)
        lock = FileLock(folder / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return _id_from_other(folder)
        self._lock = lock
        run = RunStart(folder, name, dict(config), {"sweep": name})
        self._lines.start(run)
        self._upload = Upload.begin(run, self.tracking_uri, self.experiment)
        self._send()
        return self._upload.state.run_id

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        if self._upload is not None:
            self._lines.log_metrics(values, step=step)
            self._send()

    def prune(self, folder: Path) -> None:
        """Tag the runs of a trial as pruned, which is known only after they ended."""
        for path in sorted(folder.rglob(STATE_FILE)):
            self._try(partial(upload_run, path.parent, PRUNED_TAG))

    def close(self, status: str) -> None:
        if self._upload is None or self._lock is None:
            return
        self._lines.close()
        self._upload.end(status, time.time())
        self._send()
        if not self._upload.state.is_complete():
            log.warning("%s", self._upload.what_is_left(self._error))
        self._lock.release()

    def _send(self) -> None:
        assert self._upload is not None
        if self._error is not None and self._upload.state.run_id is None:
            return  # each try would wait as long as the first one
        self._try(self._upload.send_pending)

    def _try(self, send: Callable[[], object]) -> None:
        try:
            send()
        except Exception as error:  # the sweep matters more than its log
            if self._error is None:
                log.warning(
                    "MLflow at %s %s; the sweep continues", without_password(self.tracking_uri), what_failed(error)
                )
            self._error = error


def _id_from_other(folder: Path) -> str | None:
    """The id of the run that another controller has created or is creating; None if that takes too long."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        if (folder / STATE_FILE).is_file() and (run_id := UploadState.load(folder).run_id) is not None:
            return run_id
        time.sleep(0.2)
    return None

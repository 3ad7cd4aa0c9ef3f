"""The logger for MLflow: a thread that keeps MLflow up to date during the run (see upload.py)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from multitask_bert.errors import InputError
from multitask_bert.tracking.loggers import RunLogger, RunStart
from multitask_bert.tracking.mlflow.state import LOCK_FILE, PRUNED_TAG
from multitask_bert.tracking.mlflow.store import prepare_environment
from multitask_bert.tracking.mlflow.upload import LOCK_WAIT_SECONDS, Upload, what_failed

log = logging.getLogger(__name__)

MAX_RETRY_SECONDS = 60.0
NUM_TRIES_AT_CLOSE = 2


class MlflowLogger(RunLogger):
    """Keeps an MLflow run up to date from a thread of its own; the training thread never waits for MLflow.

    Sends the file of the `JsonlLogger`, which must run beside it. `tracking_uri`: a server (`http://…`) or a database
    (`sqlite:///outputs/mlflow.db`, created if missing, with the artifacts in `mlartifacts` beside it).
    `timeout_seconds`: of one network call. `close_timeout_seconds`: how long the end of a run waits at most.
    `log_model`: whether to send the best model as an artifact. Credentials belong in MLflow's environment variables.
    """

    def __init__(
        self,
        tracking_uri: str,
        experiment: str = "multitask_bert",
        flush_seconds: float = 5.0,
        timeout_seconds: float = 10.0,
        close_timeout_seconds: float = 30.0,
        log_model: bool = False,
    ) -> None:
        if not experiment:
            raise InputError("logger.mlflow.experiment: an experiment needs a name")
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.flush_seconds = flush_seconds
        self.timeout_seconds = timeout_seconds
        self.close_timeout_seconds = close_timeout_seconds
        self.log_model = log_model
        self._upload: Upload | None = None
        self._thread: threading.Thread | None = None
        self._is_closing = threading.Event()
        self._error: Exception | None = None  # of the last attempt; None if it succeeded

    def start(self, run: RunStart) -> None:
        prepare_environment(self.timeout_seconds)
        self._upload = Upload.begin(run, self.tracking_uri, self.experiment)
        self._thread = threading.Thread(target=self._send_until_closed, name="mlflow-upload", daemon=True)
        self._thread.start()

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Do nothing: the thread reads the metrics from `metrics.jsonl`."""

    def log_artifact(self, path: Path) -> None:
        if self._upload is not None:
            self._upload.add_artifact(path)

    def close(self, status: str = "FINISHED") -> None:
        thread, self._thread = self._thread, None
        upload = self._upload
        if thread is None or upload is None:
            return
        if status == "PRUNED":  # MLflow has no such status
            self.attempt(lambda: upload.add_tags(PRUNED_TAG))
            status = "KILLED"
        self.attempt(lambda: upload.end(status, time.time()))
        self._is_closing.set()
        thread.join(self.close_timeout_seconds)
        self.attempt(lambda: self._warn_of_unsent(upload))

    def _warn_of_unsent(self, upload: Upload) -> None:
        if not upload.state.is_complete():
            log.warning("%s", upload.what_is_left(self._error))

    def _send_until_closed(self) -> None:
        from filelock import FileLock

        assert self._upload is not None
        try:
            with FileLock(self._upload.folder / LOCK_FILE, timeout=LOCK_WAIT_SECONDS):
                self._send_in_turns(self._upload)
        except Exception as error:  # close() warns of it
            self._error = error

    def _send_in_turns(self, upload: Upload) -> None:
        num_failures = num_tries_at_close = 0
        while True:
            is_closing = self._is_closing.is_set()  # read before sending: then everything is sent
            num_tries_at_close += is_closing
            try:
                upload.send_pending()
                if num_failures:
                    log.info("MLflow at %s answers again", upload.shown_uri)
                num_failures, self._error = 0, None
            except Exception as error:  # an outage; warned of only if it lasts until the end
                self._error = error
                if not num_failures:
                    log.info("MLflow at %s %s; the run continues", upload.shown_uri, what_failed(error))
                num_failures += 1
            if is_closing and (self._error is None or num_tries_at_close >= NUM_TRIES_AT_CLOSE):
                return
            if is_closing:
                time.sleep(1.0)
            else:
                longest = max(self.flush_seconds, MAX_RETRY_SECONDS)
                self._is_closing.wait(min(self.flush_seconds * 2.0 ** min(num_failures, 16), longest))

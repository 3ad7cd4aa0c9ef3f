"""Sending a run to MLflow: what is in `metrics.jsonl` and not yet there, during the run or later.

1. `MlflowLogger.start` (logger.py) writes `mlflow.json`: what to send, and what is sent already.
2. Its thread sends what is pending every few seconds and updates `mlflow.json`.
3. What an outage or a kill left unsent, `upload_run` sends later: it continues from the same `mlflow.json`.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from multitask_bert.config.overrides import as_word
from multitask_bert.config.tree import flatten
from multitask_bert.tracking.loggers import METRICS_FILE, RunStart
from multitask_bert.tracking.mlflow.names import (
    MAX_EXPERIMENT_LENGTH,
    MAX_PARAM_LENGTH,
    MAX_RUN_NAME_LENGTH,
    MAX_TAG_LENGTH,
    key_of,
    name_of,
    text_of,
)
from multitask_bert.tracking.mlflow.state import LOCK_FILE, PARENT_TAG, STATE_FILE, UploadState
from multitask_bert.tracking.mlflow.store import artifact_root, create_database, prepare_environment, uri_for_mlflow
from multitask_bert.utils.addresses import sqlite_path, sqlite_uri, without_password
from multitask_bert.utils.command import command

log = logging.getLogger(__name__)

UPLOAD_TAG = "multitask_bert.upload_id"
LOCK_WAIT_SECONDS = 15.0

# MLflow's limits (mlflow/utils/validation.py)
MAX_PARAMS_PER_BATCH = 100
MAX_METRICS_PER_BATCH = 1000
INTERNAL_ERROR = "INTERNAL_ERROR"  # a value that the database refuses, but also any failure of the server
REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", INTERNAL_ERROR)  # MLflow's codes for bad content


def upload_run(folder: Path, tags: Mapping[str, str] | None = None) -> str:
    """Send to MLflow what it does not have yet of a run; return a line that says what was sent.

    A run that never reported its end counts as KILLED. `tags`: added where the run has no tag of that name.

    Raises:
        ValueError: the run was not logged to MLflow, or is still running.
        ConnectionError: MLflow did not accept everything; nothing is lost, the same call continues later.
    """
    from filelock import FileLock, Timeout

    if not (folder / STATE_FILE).is_file():
        raise ValueError(f"{folder}: has no {STATE_FILE}, so this run was not logged to MLflow (was logger=none?)")
    try:
        with FileLock(folder / LOCK_FILE, timeout=LOCK_WAIT_SECONDS):
            upload = Upload.load(folder)
            if new := {name: tag for name, tag in (tags or {}).items() if name not in upload.state.tags}:
                upload.add_tags(new)
            return _upload_all(upload)
    except Timeout:
        raise ValueError(f"{folder}: the run is still running and sends to MLflow itself; wait for its end") from None


def upload_sweep(folder: Path) -> Iterator[str]:
    """Send a sweep's own run and those of its trials, which become its children; yield a line for each.

    Raises:
        ValueError, ConnectionError: as `upload_run`.
    """
    yield upload_run(folder)
    parent = UploadState.load(folder).run_id
    for path in sorted(folder.rglob(STATE_FILE)):
        if path.parent != folder:
            yield upload_run(path.parent, {} if parent is None else {PARENT_TAG: parent})


class Upload:
    """One run that is sent to MLflow. `send_pending` may fail or be killed anywhere; called again, it continues.

    One thread sends; others may add artifacts and the end of the run meanwhile.
    """

    def __init__(self, state: UploadState, tracking_uri: str | None = None) -> None:
        """`tracking_uri`: the state's with its password, which is in no file; None if it has no password."""
        self.folder = state.folder
        self.state = state
        self.shown_uri = without_password(state.tracking_uri)
        self._tracking_uri = tracking_uri or state.tracking_uri
        self._client: Any = None
        self._left_out: set[str] = set()  # names of entries that MLflow refused, each warned of once

    @classmethod
    def begin(cls, run: RunStart, tracking_uri: str, experiment: str) -> Upload:
        """A new upload, or the continued one if the folder's earlier upload went to the same experiment."""
        if database := sqlite_path(tracking_uri):
            tracking_uri = sqlite_uri(database.absolute())  # upload_run may be called from elsewhere
        kept_uri = without_password(tracking_uri)
        if (run.folder / STATE_FILE).is_file():
            upload = cls(UploadState.load(run.folder), tracking_uri)
            if (upload.shown_uri, upload.state.experiment) == (kept_uri, experiment):
                upload.state.change(
                    tracking_uri=kept_uri, status=None, ended_at=None, is_status_sent=False, is_to_reopen=True
                )
                upload.state.go_back(run.num_bytes_kept)
                return upload
        params = as_params(run.config)
        tags = as_tags(run.tags)
        state = UploadState(run.folder, kept_uri, experiment, run.name, params, tags, time.time(), uuid.uuid4().hex)
        state.change()
        return cls(state, tracking_uri)

    @classmethod
    def load(cls, folder: Path) -> Upload:
        return cls(UploadState.load(folder))

    def add_artifact(self, path: Path) -> None:
        """Mark a file or folder to be sent, also if it was sent before."""
        path, folder = path.resolve(), self.folder.resolve()
        self.state.mark((path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix(), "pending")

    def add_tags(self, tags: Mapping[str, str]) -> None:
        self.state.change(tags={**self.state.tags, **as_tags(tags)}, are_params_sent=False)

    def end(self, status: str, when: float) -> None:
        when = max(when, self.state.started_at)  # the clock may have been set back
        self.state.change(status=status, ended_at=when, is_status_sent=False)

    def what_is_left(self, error: Exception | None) -> str:
        """A sentence for the user: what failed, what is still unsent, and how to send it."""
        num_artifacts = len(self.state.pending_artifacts())
        what = f"{self.state.num_pending_lines()} metric lines" + (
            f" and {num_artifacts} artifacts" if num_artifacts else ""
        )
        return (
            f"MLflow at {self.shown_uri} {what_failed(error)}: {what} are kept in {self.folder}; "
            f"send them later with: {command()} action=upload {as_word('run_dir', self.folder)}"
        )

    def send_pending(self) -> None:
        """Bring MLflow up to date; the state is saved after each successful call."""
        state = self.state
        status = state.status  # read first: what was logged before the end is sent before the end
        client = self._connect()
        if state.run_id is None:
            self.state.change(run_id=self._find_or_create_run(client))
        if state.is_to_reopen:
            client.update_run(state.run_id, status="RUNNING")
            self.state.change(is_to_reopen=False)
        if not state.are_params_sent:
            self._send_params(client)
        for metrics, num_lines, num_bytes in self._metric_batches():
            self._send_all(client, "metrics", metrics, MAX_METRICS_PER_BATCH)
            self.state.change(
                num_lines_sent=state.num_lines_sent + num_lines, num_bytes_sent=state.num_bytes_sent + num_bytes
            )
        for name in self.state.pending_artifacts():
            path = self.folder / name
            if path.exists():
                parent = Path(name).parent.as_posix()
                client.log_artifact(state.run_id, str(path), None if parent == "." or path == Path(name) else parent)
            else:
                log.warning("%s does not exist any more and is not sent to MLflow", path)
            self.state.mark(name, "sent" if path.exists() else "missing")
        if status is not None and not state.is_status_sent:
            client.set_terminated(state.run_id, status, end_time=_milliseconds(state.ended_at or time.time()))
            self.state.change(is_status_sent=True)

    def _connect(self) -> Any:
        if self._client is None:
            database, uri = sqlite_path(self._tracking_uri), self._tracking_uri
            if database is not None:
                create_database(database)
                uri = uri_for_mlflow(database)
            from mlflow.tracking import MlflowClient

            self._client = MlflowClient(tracking_uri=uri)
        return self._client

    def _find_or_create_run(self, client: Any) -> str:
        state, experiment_id = self.state, self._find_or_create_experiment(client)
        filter_string = f"tags.`{UPLOAD_TAG}` = '{state.upload_id}'"
        for run in client.search_runs([experiment_id], filter_string=filter_string, max_results=1):
            return str(run.info.run_id)
        tags = {UPLOAD_TAG: state.upload_id}
        started_at = _milliseconds(state.started_at)
        name = name_of(state.name, MAX_RUN_NAME_LENGTH)
        run = client.create_run(experiment_id, start_time=started_at, tags=tags, run_name=name)
        return str(run.info.run_id)

    def _find_or_create_experiment(self, client: Any) -> str:
        from mlflow.exceptions import MlflowException

        name = name_of(self.state.experiment, MAX_EXPERIMENT_LENGTH)
        found = client.get_experiment_by_name(name)
        if found is None:
            database = sqlite_path(self.state.tracking_uri)
            location = None if database is None else artifact_root(database)
            try:
                return str(client.create_experiment(name, artifact_location=location))
            except MlflowException:  # another run may have made it in between
                found = client.get_experiment_by_name(name)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _send_params(self, client: Any) -> None:
        from mlflow.entities import Param, RunTag

        self._send_all(client, "params", [Param(*item) for item in self.state.params.items()], MAX_PARAMS_PER_BATCH)
        self._send_all(client, "tags", [RunTag(*item) for item in self.state.tags.items()], MAX_PARAMS_PER_BATCH)
        self.state.change(are_params_sent=True)

    def _send_all(self, client: Any, field: str, entries: list[Any], max_per_call: int) -> None:
        for start in range(0, len(entries), max_per_call):
            self._send_batch(client, field, entries[start : start + max_per_call])

    def _send_batch(self, client: Any, field: str, entries: list[Any], *, is_repeated: bool = False) -> None:
        """Send `metrics`, `params` or `tags` in one call; if MLflow refuses them, in halves.

        A single entry that it refuses (twice, if the error does not say that the content is wrong) is left out, with a
        warning.
        """
        from mlflow.exceptions import MlflowException

        try:
            client.log_batch(self.state.run_id, **{field: entries})
        except MlflowException as error:
            if error.error_code not in REFUSALS or not self._takes_tags(client):
                raise
            if len(entries) > 1:
                middle = len(entries) // 2
                self._send_batch(client, field, entries[:middle])
                self._send_batch(client, field, entries[middle:])
            elif error.error_code == INTERNAL_ERROR and not is_repeated:
                self._send_batch(client, field, entries, is_repeated=True)
            elif (name := entries[0].key) not in self._left_out:
                self._left_out.add(name)
                log.warning("%s: MLflow at %s leaves it out: %s", name, self.shown_uri, what_failed(error))

    def _takes_tags(self, client: Any) -> bool:
        """Whether the run accepts a tag that it has already; if not, what was sent is not the cause of a failure."""
        try:
            client.set_tag(self.state.run_id, UPLOAD_TAG, self.state.upload_id)
        except Exception:  # the error that led here says more
            return False
        return True

    def _metric_batches(self) -> Iterator[tuple[list[Any], int, int]]:
        """Metrics of whole lines up to MLflow's limit (or of one longer line), number of lines, number of bytes."""
        metrics: list[Any] = []
        num_lines = num_bytes = 0
        for line in self.state.pending_lines():
            of_line = _metrics_of(line)
            if num_lines and len(metrics) + len(of_line) > MAX_METRICS_PER_BATCH:
                yield metrics, num_lines, num_bytes
                metrics, num_lines, num_bytes = [], 0, 0
            metrics, num_lines, num_bytes = metrics + of_line, num_lines + 1, num_bytes + len(line)
        if num_lines:
            yield metrics, num_lines, num_bytes


def as_params(config: Mapping[str, Any]) -> dict[str, str]:
    """`{"optimizer": {"lr": 0.1}}` -> `{"optimizer.lr": "0.1"}`, with names and lengths that MLflow accepts."""
    texts = {key: value if isinstance(value, str) else json.dumps(value, default=str) for key, value in flatten(config)}
    return {key_of(key): text_of(without_password(text), MAX_PARAM_LENGTH) for key, text in texts.items()}


def as_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags with names and lengths that MLflow accepts."""
    return {key_of(key): text_of(value, MAX_TAG_LENGTH) for key, value in tags.items()}


def _upload_all(upload: Upload) -> str:
    prepare_environment(timeout_seconds=10.0)
    state = upload.state
    if state.status is None:
        metrics = upload.folder / METRICS_FILE
        upload.end("KILLED", metrics.stat().st_mtime if metrics.is_file() else time.time())
    num_lines, num_artifacts = state.num_pending_lines(), len(state.pending_artifacts())
    try:
        upload.send_pending()
    except Exception as error:
        raise ConnectionError(upload.what_is_left(error)) from error
    return (
        f"sent {num_lines} metric lines and {num_artifacts} artifacts to MLflow at {upload.shown_uri}: "
        f"run {state.name} ({state.run_id}), {state.status}"
    )


def _metrics_of(line: bytes) -> list[Any]:
    from mlflow.entities import Metric

    try:
        values = json.loads(line)
        step, timestamp = values.pop("step"), _milliseconds(values.pop("time"))
        return [Metric(key_of(name), float(value), timestamp, step) for name, value in values.items()]
    except (ValueError, TypeError, KeyError, AttributeError):
        log.warning("%s: an unreadable line is not sent to MLflow: %.80r", METRICS_FILE, line)
        return []


def what_failed(error: BaseException | None) -> str:
    """What to say of an error, as the predicate of a sentence about MLflow; None: it was only too slow."""
    if error is None:
        return "did not accept everything in time"
    cause: BaseException | None = error
    while cause is not None:
        is_of_network = type(cause).__module__.startswith(("requests.", "urllib3."))
        is_answer = getattr(cause, "response", None) is not None  # such as 403: the server was reached, and refused
        if isinstance(cause, ConnectionError | TimeoutError) or (is_of_network and not is_answer):
            return "could not be reached"
        cause = cause.__cause__ or cause.__context__
    return f"failed ({without_password((str(error).strip() or repr(error)).splitlines()[0]):.200})"


def _milliseconds(unix_seconds: float) -> int:
    return round(unix_seconds * 1000)

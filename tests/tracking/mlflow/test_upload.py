"""Uploads to a real MLflow: an SQLite store, a server with an outage, and a server that never answers."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.tracking import MlflowClient

from multitask_bert.tracking.jsonl import JsonlLogger
from multitask_bert.tracking.loggers import METRICS_FILE, RunLogger, RunStart
from multitask_bert.tracking.mlflow import logger as mlflow_logger
from multitask_bert.tracking.mlflow import upload as mlflow_upload
from multitask_bert.tracking.mlflow.logger import MlflowLogger
from multitask_bert.tracking.mlflow.state import LOCK_FILE, STATE_FILE
from multitask_bert.tracking.mlflow.upload import Upload, as_params, upload_run, upload_sweep

pytestmark = pytest.mark.slow

CONFIG = {
    "seed": 1,
    "model": {"pretrained": None, "name": ""},
    "tasks": {"ner": {"weights": [1, 2]}},
    "long": "x" * 7000,
}
PARAMS = {"seed": "1", "model.pretrained": "null", "model.name": "", "tasks.ner.weights": "[1, 2]"}
Point = tuple[str, int, int, str]  # metric, step, milliseconds, value


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Restore the environment after a test, since loggers change it."""
    before = dict(os.environ)
    for name in before:
        if name.startswith("MLFLOW_"):
            del os.environ[name]
    yield
    for thread in threading.enumerate():  # of a test whose server was slower than its logger's patience
        if thread.name == "mlflow-upload":
            thread.join(timeout=10)
            assert not thread.is_alive()
    os.environ.clear()
    os.environ.update(before)


def begin(folder: Path, tracking_uri: str, **options: Any) -> tuple[JsonlLogger, MlflowLogger]:
    """The JSONL and the MLflow logger of a run that has just started."""
    folder.mkdir(parents=True, exist_ok=True)
    loggers = JsonlLogger(), MlflowLogger(tracking_uri, "greetings", **{"flush_seconds": 0.2, **options})
    for logger in loggers:
        logger.start(RunStart(folder, name="hello", config=CONFIG, tags={"host": "here"}))
    return loggers


def log_steps(loggers: tuple[RunLogger, ...], steps: range) -> float:
    """Log two metrics per step; return the longest time that MLflow's logger blocked this thread, in seconds."""
    longest = 0.0
    for step in steps:
        metrics = {"train_loss": 1.0 / (step + 1), "eval_ner_f1@1": math.nan if step == 3 else float(step)}
        loggers[0].log_metrics(metrics, step=step)
        started = time.perf_counter()
        loggers[1].log_metrics(metrics, step=step)
        longest = max(longest, time.perf_counter() - started)
    return longest


def points_in_file(folder: Path) -> list[Point]:
    """The points in `metrics.jsonl`; values as text, so that NaN equals itself."""
    points = []
    for text in (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        step, when = line.pop("step"), round(line.pop("time") * 1000)
        keys = {name: name.replace("@", ":commercial at:") for name in line}
        points += [(keys[name], step, when, str(float(value))) for name, value in line.items()]
    return sorted(points)


def points_in_mlflow(client: MlflowClient, run: Any) -> list[Point]:
    history = [point for name in run.data.metrics for point in client.get_metric_history(run.info.run_id, name)]
    return sorted((point.key, point.step, point.timestamp, str(point.value)) for point in history)


def runs_in(client: MlflowClient) -> list[Any]:
    experiment = client.get_experiment_by_name("greetings")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def the_only_run(client: MlflowClient) -> Any:
    (run,) = runs_in(client)
    return run


def test_processes_that_create_the_database_at_once_all_find_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "mlflow.db"
    code = "import sys, pathlib; from multitask_bert.tracking.mlflow.store import *; prepare_environment(1.0); "
    code += "create_database(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert outputs == ["", "", ""]
    (experiment,) = MlflowClient(f"sqlite:///{path}").search_experiments()
    assert experiment.name == "Default"
    assert sorted(path.name for path in path.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_nested_config_becomes_dotted_names_that_mlflow_accepts() -> None:
    config = {"a": {"b": 1.5, "c d+e": True, "empty": {}}, "list": ["x"], "text": "x"}
    flat = {"a.b": "1.5", "a.c d:plus sign:e": "true", "a.empty": "{}", "list": '["x"]', "text": "x"}
    assert as_params(config) == flat


def test_run_in_sqlite_holds_exactly_what_was_logged(
    database: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    loggers = begin(folder, f"sqlite:///{database}")
    log_steps(loggers, range(1200))
    (folder / "model" / "heads").mkdir(parents=True)
    for name in ("results.json", "model/config.json", "model/heads/ner.json", ".hydra/config.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    for name in ("results.json", "model", ".hydra/config.yaml"):
        loggers[1].log_artifact(folder / name)
    for logger in loggers:
        logger.close("FAILED")
        logger.close("FINISHED")  # the first counts

    client = MlflowClient(f"sqlite:///{database}")
    run = the_only_run(client)
    assert run.info.run_name == "hello"
    assert run.info.status == "FAILED"
    assert run.info.end_time >= run.info.start_time
    assert run.data.tags["host"] == "here"
    assert {name: value for name, value in run.data.params.items() if name != "long"} == PARAMS
    assert run.data.params["long"] == "x" * 5999 + "…"
    assert points_in_mlflow(client, run) == points_in_file(folder)
    files = Path(database.parent / "mlartifacts" / run.info.run_id / "artifacts")
    for name in ("results.json", "model/config.json", "model/heads/ner.json", ".hydra/config.yaml"):
        assert (files / name).read_text() == name
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert upload_run(folder).startswith("sent 0 metric lines and 0 artifacts")


class InterruptedClient:
    """An MLflow client whose call number `when` fails: before the call, or after it, so that the answer is lost."""

    def __init__(self, client: MlflowClient, when: int, *, is_made: bool) -> None:
        self._client, self._num_left, self._is_made = client, when, is_made

    def __getattr__(self, name: str) -> Any:
        def call(*values: Any, **options: Any) -> Any:
            self._num_left -= 1
            if self._num_left == 0 and not self._is_made:
                raise ConnectionError("interrupted before the call")
            answer = getattr(self._client, name)(*values, **options)
            if self._num_left == 0:
                raise ConnectionError("interrupted after the call")
            return answer

        return call


@pytest.mark.parametrize("is_made", [False, True])
def test_upload_interrupted_at_any_call_equals_an_uninterrupted_one(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_made: bool
) -> None:
    monkeypatch.setattr(mlflow_upload, "MAX_METRICS_PER_BATCH", 4)
    folder = tmp_path / "run"
    folder.mkdir()
    jsonl = JsonlLogger()
    run = RunStart(folder, name="hello", config=CONFIG, tags={"host": "here"})
    jsonl.start(run)
    upload = Upload.begin(run, f"sqlite:///{database}", "greetings")
    log_steps((jsonl, MlflowLogger("not started")), range(4))
    jsonl.close()
    (folder / "results.json").write_text("{}")
    upload.add_artifact(folder / "results.json")
    upload.end("FINISHED", time.time())

    client = MlflowClient(f"sqlite:///{database}")
    num_interruptions = 0
    while not upload.state.is_complete():
        upload = Upload.load(folder)  # as after a kill
        upload._client = InterruptedClient(client, when=num_interruptions % 5 + 1, is_made=is_made)
        try:
            upload.send_pending()
        except ConnectionError:
            num_interruptions += 1
        assert num_interruptions < 50

    assert num_interruptions > 3
    sent = the_only_run(client)
    assert sent.info.status == "FINISHED"
    assert sent.data.params["seed"] == "1"
    assert points_in_mlflow(client, sent) == points_in_file(folder)
    assert [file.path for file in client.list_artifacts(sent.info.run_id)] == ["results.json"]


def test_outage_that_ends_during_the_run_leaves_no_gap_and_no_warning(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(f"sqlite:///{database}")
    num_calls = 0

    def connect_at_the_third_call(upload: Upload) -> MlflowClient:
        nonlocal num_calls
        num_calls += 1
        if num_calls < 3:
            raise ConnectionError("connection refused")
        return client

    monkeypatch.setattr(Upload, "_connect", connect_at_the_third_call)
    caplog.set_level(logging.INFO, logger=mlflow_logger.__name__)
    loggers = begin(tmp_path / "run", f"sqlite:///{database}", flush_seconds=0.01)
    log_steps(loggers, range(5))
    deadline = time.monotonic() + 30
    while num_calls < 4:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for logger in loggers:
        logger.close()

    assert points_in_mlflow(client, the_only_run(client)) == points_in_file(tmp_path / "run")
    messages = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert messages == [
        ("INFO", f"MLflow at sqlite:///{database} could not be reached; the run continues"),
        ("INFO", f"MLflow at sqlite:///{database} answers again"),
    ]


def test_run_that_was_killed_is_uploaded_as_killed(database: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = """
import os, pathlib, signal, sys
from multitask_bert.tracking.jsonl import JsonlLogger
from multitask_bert.tracking.loggers import RunStart
from multitask_bert.tracking.mlflow.logger import MlflowLogger
loggers = JsonlLogger(), MlflowLogger(sys.argv[1], "greetings")
for logger in loggers:
    logger.start(RunStart(pathlib.Path(sys.argv[2]), "hello", {}, {}))
for step in range(7):
    loggers[0].log_metrics({"train_loss": 1.0 / (step + 1)}, step=step)
os.kill(os.getpid(), signal.SIGKILL)
"""
    folder.mkdir()
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{database}", str(folder)], check=False)

    assert upload_run(folder).startswith("sent 7 metric lines")

    client = MlflowClient(f"sqlite:///{database}")
    run = the_only_run(client)
    assert run.info.status == "KILLED"
    assert points_in_mlflow(client, run) == points_in_file(folder)


def wait_until(what: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_run_that_starts_again_in_its_folder_continues_its_mlflow_run(database: Path, tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{database}")
    for steps, status in (range(3), "FAILED"), (range(3, 6), "KILLED"), (range(6, 9), "FINISHED"):
        loggers = begin(tmp_path / "run", f"sqlite:///{database}")
        log_steps(loggers, steps)
        wait_until(lambda: bool(client.search_experiments(filter_string="name = 'greetings'")))
        wait_until(lambda: [run.info.status for run in runs_in(client)] == ["RUNNING"])
        for logger in loggers:
            logger.close(status)
        assert the_only_run(client).info.status == status
    run = the_only_run(client)
    assert run.info.end_time >= max(when for _, _, when, _ in points_in_mlflow(client, run))
    assert points_in_mlflow(client, run) == points_in_file(tmp_path / "run")


def test_run_resumed_after_an_outage_is_not_left_as_running(database: Path, tmp_path: Path) -> None:
    """The resumed part never reached MLflow: start and end of it are sent together."""
    folder, uri = tmp_path / "run", f"sqlite:///{database}"
    loggers = begin(folder, uri)
    for logger in loggers:
        logger.close("KILLED")
    upload = Upload.begin(RunStart(folder, "hello", CONFIG), uri, "greetings")
    upload.end("FINISHED", time.time())
    upload_run(folder)
    assert the_only_run(MlflowClient(uri)).info.status == "FINISHED"


def test_a_sweep_is_uploaded_with_its_trials_below_it(database: Path, tmp_path: Path) -> None:
    """MLflow was unreachable from the start, so that no trial knew the id of its parent."""
    uri, sweep = f"sqlite:///{database}", tmp_path / "sweep"
    for folder in (sweep, sweep / "trial_0000", sweep / "trial_0001" / "seed_1"):
        jsonl = JsonlLogger()
        run = RunStart(folder, folder.name, CONFIG)
        folder.mkdir(parents=True)
        jsonl.start(run)
        jsonl.log_metrics({"best": 1.0}, step=1)
        jsonl.close()
        Upload.begin(run, uri, "greetings").end("FINISHED", time.time())

    lines = list(upload_sweep(sweep))

    assert [line.partition(" to MLflow")[0] for line in lines] == ["sent 1 metric lines and 0 artifacts"] * 3
    runs = {run.info.run_name: run for run in runs_in(MlflowClient(uri))}
    assert runs.keys() == {"sweep", "trial_0000", "seed_1"}
    assert {name: run.data.tags.get("mlflow.parentRunId") for name, run in runs.items()} == {
        "sweep": None, "trial_0000": runs["sweep"].info.run_id, "seed_1": runs["sweep"].info.run_id,
    }  # fmt: skip
    assert all(line.startswith("sent 0 metric lines") for line in upload_sweep(sweep))


def metrics_sent(database: Path, folder: Path, metrics: dict[str, float], name: str = "hello") -> Any:
    """The run in MLflow of a folder in which one line was logged."""
    folder.mkdir()
    jsonl, run = JsonlLogger(), RunStart(folder, name, {"weights": {"C++": 2, "C**": 3}, "bad": "x"})
    jsonl.start(run)
    jsonl.log_metrics(metrics, step=1)
    jsonl.close()
    Upload.begin(run, f"sqlite:///{database}", "greetings").end("FINISHED", time.time())
    upload_run(folder)
    return the_only_run(MlflowClient(f"sqlite:///{database}"))


def test_scores_and_parameters_of_labels_with_special_characters_stay_apart(database: Path, tmp_path: Path) -> None:
    labels = ("C++", "C**", "http://schema.org/Person", "http://schema.org/Place", "a/../b", "!", "@", "x" * 300)
    metrics = {f"eval_cpp_kind_f1_of_{label}": index / 8 for index, label in enumerate(labels)}

    run = metrics_sent(database, tmp_path / "run", metrics)

    assert sorted(run.data.metrics.values()) == sorted(metrics.values())
    assert run.data.metrics["eval_cpp_kind_f1_of_C:plus sign::plus sign:"] == 0.0
    weights = {key: value for key, value in run.data.params.items() if key.startswith("weights.")}
    assert weights == {"weights.C:plus sign::plus sign:": "2", "weights.C:asterisk::asterisk:": "3"}


def test_infinite_and_undefined_scores_reach_mlflow_beside_the_others(database: Path, tmp_path: Path) -> None:
    metrics = {"up": math.inf, "down": -math.inf, "nan": math.nan, "half": 0.5}
    found = metrics_sent(database, tmp_path / "run", metrics).data.metrics
    assert math.isnan(found.pop("nan"))
    assert found == {"up": sys.float_info.max, "down": -sys.float_info.max, "half": 0.5}  # infinity in a database


def test_a_run_and_an_experiment_with_over_long_names_reach_mlflow(database: Path, tmp_path: Path) -> None:
    run = metrics_sent(database, tmp_path / "run", {"x": 0.5}, name="n\0" * 400)
    assert len(run.info.run_name) == 250
    folder = tmp_path / "other"
    folder.mkdir()
    Upload.begin(RunStart(folder, "hello", {}), f"sqlite:///{database}", "e" * 600).end("FINISHED", time.time())
    upload_run(folder)
    names = [experiment.name for experiment in MlflowClient(f"sqlite:///{database}").search_experiments()]
    assert sorted(len(name) for name in names) == [len("Default"), len("greetings"), 500]


def test_a_database_in_a_folder_with_any_name_gets_the_run_and_nothing_appears_beside_it(
    tmp_path: Path, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "is it 100%?#%20x"
    (project / "outputs").mkdir(parents=True)
    monkeypatch.chdir(project)
    folder = project / "run"
    folder.mkdir()
    jsonl, run = JsonlLogger(), RunStart(folder, "hello", CONFIG)
    jsonl.start(run)
    jsonl.log_metrics({"x": 0.5}, step=1)
    jsonl.close()
    (folder / "results.json").write_text("{}")
    upload = Upload.begin(run, "sqlite:///outputs/mlflow.db", "greetings")
    upload.add_artifact(folder / "results.json")
    upload.end("FINISHED", time.time())

    monkeypatch.chdir(tmp_path)  # later, from elsewhere
    assert upload_run(folder).startswith("sent 1 metric lines and 1 artifacts")

    monkeypatch.chdir(project)
    client = MlflowClient("sqlite:///outputs/mlflow.db")
    run_id = the_only_run(client).info.run_id
    assert the_only_run(client).data.metrics == {"x": 0.5}
    assert (project / "outputs" / "mlartifacts" / run_id / "artifacts" / "results.json").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [project.name, database.parent.name]
    assert sorted(path.name for path in project.iterdir()) == ["outputs", "run"]


class PickyClient:
    """A client of a server that refuses every batch with a name in it that begins with `bad`."""

    def __init__(self, client: MlflowClient, error_code: int) -> None:
        self._client, self._error_code = client, error_code

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def log_batch(self, run_id: str, **batch: Any) -> None:
        if any(entry.key.startswith("bad") for entries in batch.values() for entry in entries):
            raise MlflowException("no such names here", self._error_code)
        self._client.log_batch(run_id, **batch)


@pytest.mark.parametrize("error_code", [INVALID_PARAMETER_VALUE, BAD_REQUEST, INTERNAL_ERROR])
def test_only_the_refused_entry_of_a_batch_is_left_out_and_named(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error_code: int
) -> None:
    client = PickyClient(MlflowClient(f"sqlite:///{database}"), error_code)
    monkeypatch.setattr(Upload, "_connect", lambda self: client)
    metrics = {f"good_{index}": float(index) for index in range(9)}

    run = metrics_sent(database, tmp_path / "run", {**metrics, "bad_one": 0.5})

    assert run.data.metrics == metrics
    assert len(run.data.params) == 2
    assert run.info.status == "FINISHED"
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    left_out = f"MLflow at sqlite:///{database} leaves it out: failed (no such names here)"
    assert told == [f"bad: {left_out}", f"bad_one: {left_out}"]


def test_a_run_that_was_deleted_in_mlflow_loses_nothing_of_its_own(database: Path, tmp_path: Path) -> None:
    """MLflow refuses whatever is sent there; that says nothing against a single metric."""
    folder, client = tmp_path / "run", MlflowClient(f"sqlite:///{database}")
    run = metrics_sent(database, folder, {"x": 0.5})
    client.delete_run(run.info.run_id)
    with (folder / METRICS_FILE).open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "time": 1.0, "x": 0.75}\n')

    with pytest.raises(ConnectionError, match="1 metric lines are kept in"):
        upload_run(folder)

    client.restore_run(run.info.run_id)
    upload_run(folder)
    assert the_only_run(client).data.metrics == {"x": 0.75}


def test_a_run_does_not_end_before_it_began_where_the_clock_was_set_back(tmp_path: Path) -> None:
    upload = Upload.begin(RunStart(tmp_path, "hello", CONFIG), f"sqlite:///{tmp_path / 'x.db'}", "greetings")
    upload.end("FINISHED", upload.state.started_at - 3600)
    assert upload.state.ended_at == upload.state.started_at


def test_folder_that_was_not_logged_to_mlflow_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no mlflow\.json, so this run was not logged to MLflow"):
        upload_run(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", '{"run_id": "1"}'])
def test_a_damaged_state_file_is_named_in_the_error(tmp_path: Path, content: str) -> None:
    (tmp_path / STATE_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"mlflow\.json: is damaged"):
        upload_run(tmp_path)


def test_folder_of_a_run_that_is_still_running_is_refused(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loggers = begin(tmp_path / "run", f"sqlite:///{database}")
    while not (tmp_path / "run" / LOCK_FILE).exists():
        time.sleep(0.01)
    monkeypatch.setattr(mlflow_upload, "LOCK_WAIT_SECONDS", 0.1)
    with pytest.raises(ValueError, match="still running"):
        upload_run(tmp_path / "run")
    for logger in loggers:
        logger.close()


def test_server_that_never_answers_costs_no_more_than_the_close_timeout(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_port = silent.getsockname()[1]
        uri = f"http://user:secret@127.0.0.1:{silent_port}"
        started = time.perf_counter()
        loggers = begin(tmp_path / "run", uri, timeout_seconds=60.0, close_timeout_seconds=1.5)
        start_seconds = time.perf_counter() - started
        assert log_steps(loggers, range(100)) < 0.05
        started = time.perf_counter()
        for logger in loggers:
            logger.close()
        assert time.perf_counter() - started < 2.5
    assert start_seconds < 0.5
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "100 metric lines are kept in" in record.getMessage()
    assert f"python run.py action=upload run_dir={tmp_path / 'run'}" in record.getMessage()
    kept = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "run").iterdir() if path.is_file())
    assert "secret" not in record.getMessage() + kept
    assert f"http://user@127.0.0.1:{silent_port}" in kept  # the password has to come from MLflow's variables
    assert len(points_in_file(tmp_path / "run")) == 200


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def mlflow_server(database: Path, port: int) -> Iterator[str]:
    """A real server on this database, leading a process group; ended, with its workers, when the block ends."""
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{database}"]
    command += ["--artifacts-destination", str(database.parent / "served")]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (database.parent / "server.log").open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    (database.parent / "server.pid").write_text(str(process.pid))
    try:
        deadline = time.monotonic() + 60
        while not is_healthy(port):
            assert process.poll() is None, (database.parent / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # the session that this process leads
        process.wait(timeout=30)


def is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def test_server_that_stops_during_a_run_gets_everything_later(
    database: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, port = tmp_path / "run", free_port()
    with mlflow_server(database, port) as uri:
        loggers = begin(folder, uri, timeout_seconds=2.0, close_timeout_seconds=8.0)
        log_steps(loggers, range(10))
        state = folder / STATE_FILE
        deadline = time.monotonic() + 30
        while json.loads(state.read_text())["num_lines_sent"] < 10:
            assert time.monotonic() < deadline
            time.sleep(0.1)

    assert log_steps(loggers, range(10, 130)) < 0.05
    time.sleep(1.0)  # the thread meets the outage more than once
    (folder / "results.json").write_text("{}")
    loggers[1].log_artifact(folder / "results.json")
    started = time.perf_counter()
    for logger in loggers:
        logger.close()
    assert time.perf_counter() - started < 9.0
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage() == (
        f"MLflow at {uri} could not be reached: 120 metric lines and 1 artifacts are kept in {folder}; "
        f"send them later with: python run.py action=upload run_dir={folder}"
    )
    with pytest.raises(ConnectionError, match="120 metric lines and 1 artifacts are kept in"):
        upload_run(folder)

    with mlflow_server(database, port) as uri:
        assert upload_run(folder).startswith(f"sent 120 metric lines and 1 artifacts to MLflow at {uri}: run hello")
        client = MlflowClient(uri)
        run = the_only_run(client)
        assert run.info.status == "FINISHED"
        assert points_in_mlflow(client, run) == points_in_file(folder)
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["results.json"]


def test_server_that_is_late_and_then_hangs_for_a_while_gets_everything_without_a_warning(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mlflow_logger, "MAX_RETRY_SECONDS", 0.5)
    caplog.set_level(logging.INFO)
    folder, port = tmp_path / "run", free_port()
    loggers = begin(folder, f"http://127.0.0.1:{port}", timeout_seconds=1.0)
    assert log_steps(loggers, range(20)) < 0.05
    wait_until(lambda: "could not be reached; the run continues" in caplog.text)

    def is_sent(num_lines: int) -> bool:
        return bool(json.loads((folder / STATE_FILE).read_text())["num_lines_sent"] == num_lines)

    with mlflow_server(database, port) as uri:
        wait_until(lambda: is_sent(20))
        with frozen(database):
            caplog.clear()
            assert log_steps(loggers, range(20, 40)) < 0.05
            wait_until(lambda: "could not be reached; the run continues" in caplog.text)
        wait_until(lambda: is_sent(40))
        for logger in loggers:
            logger.close()
        client = MlflowClient(uri)
        run = the_only_run(client)
        assert run.info.status == "FINISHED"
        assert points_in_mlflow(client, run) == points_in_file(folder)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@contextmanager
def frozen(database: Path) -> Iterator[None]:
    """The server of this database takes connections, and says nothing."""
    group = int((database.parent / "server.pid").read_text())
    os.killpg(group, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(group, signal.SIGCONT)

"""`format=mlflow`: what MLflow serves and loads answers as `Predictor` does, and is registered where the run is."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.checks import check
from multitask_bert.config.schema import ExperimentConfig, ExportConfig
from multitask_bert.errors import InputError
from multitask_bert.export.exporting import export_run
from multitask_bert.inference.predictor import Predictor
from multitask_bert.tracking.loggers import RunStart
from multitask_bert.tracking.mlflow.store import create_database
from multitask_bert.tracking.mlflow.upload import Upload
from multitask_bert.utils.files import compare_checksums
from tests.export.run_of_all_heads import TEXTS, make_run

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*Any type hint is inferred:UserWarning")  # when MLflow loads it

TASKS = ("moods", "people")  # of the run
INPUTS: list[Any] = [*TEXTS[:5], {"text": TEXTS[5], "id": 7}, {"words": TEXTS[6].split()}, ""]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore the environment and the import path after a test.

    MLflow changes both: a model that is loaded leaves its own copy of the package first on the path. Processes that a
    later test starts would import it, or not find it once the folder is gone.
    """
    before = dict(os.environ)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    os.environ.clear()
    os.environ.update(before)


def exporting_of(run: Path, **fields: Any) -> ExperimentConfig:
    return ExperimentConfig(action="export", run_dir=str(run), format="mlflow", **fields)


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    return export_run(exporting_of(run))


def ask(port: int, content: Any) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.slow
def test_served_model_answers_as_the_predictor_and_refuses_without_a_stack_trace(
    run: Path, exported: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # MLflow starts uvicorn by its name, and finds no other multitask_bert than the folder's from here.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with (tmp_path / "log.txt").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(exported), "--env-manager", "local",
             "-h", "127.0.0.1", "-p", str(port)],
            cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        for _ in range(1200):
            assert server.poll() is None, (tmp_path / "log.txt").read_text()
            try:
                status, answer = ask(port, {"inputs": INPUTS})
                break
            except urllib.error.URLError:
                time.sleep(0.1)
        assert status == 200, answer
        assert answer["predictions"] == list(Predictor.load(run, device="cpu").predict(INPUTS))
        status, answer = ask(port, {"inputs": [{"text": "a", "text_pair": "b"}]})
        assert status == 400
        assert "input 1: no head of moods, people predicts for this type of input (pair)" in answer["message"]
        assert "Traceback" not in json.dumps(answer)
        assert not answer.get("stack_trace")
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
def test_folder_stands_alone_and_names_no_path_of_the_machine(run: Path, exported: Path) -> None:
    compare_checksums(exported)
    assert (exported / "code" / "multitask_bert" / "inference" / "predictor.py").is_file()
    for path in exported.rglob("*"):
        if path.suffix in (".md", ".json", ".yaml", ".txt") or path.name == "MLmodel":
            text = path.read_text(encoding="utf-8")
            assert str(run.parent) not in text, path
            assert str(Path.cwd()) not in text, path
    requirements = (exported / "requirements.txt").read_text(encoding="utf-8")
    assert "torch==" in requirements
    assert "+" not in requirements
    assert "mlflow models serve -m FOLDER" in (exported / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_versions_are_registered_in_the_store_of_the_run_and_keep_their_files(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import mlflow

    run = tmp_path / "run"
    make_run(run, tokenizer, names=("moods",))
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    asked = exporting_of(run, export=ExportConfig(name="moods", alias="champion"))
    with pytest.raises(InputError, match=r"export\.name: .*run has no mlflow\.json.*leave export\.name out"):
        export_run(asked)
    create_database(tmp_path / "mlflow.db")
    upload = Upload.begin(RunStart(run, "moods", {}, {}), uri, "experiment")
    with pytest.raises(InputError, match="MLflow has nothing of this run; first: action=upload"):
        export_run(asked)
    assert not (run / "export").exists()
    upload.send_pending()
    with caplog.at_level("INFO"):
        export_run(asked)
        export_run(asked)
    assert "models:/moods/2, models:/moods@champion" in caplog.text
    client = mlflow.MlflowClient(uri, uri)
    versions = [client.get_model_version("moods", number) for number in ("1", "2")]
    assert versions[0].source != versions[1].source
    assert {one.run_id for one in versions} == {upload.state.run_id}
    assert client.get_model_version_by_alias("moods", "champion").version in (2, "2")
    mlflow.set_registry_uri(uri)
    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model("models:/moods@champion")
        assert loaded.predict(TEXTS[:3]) == list(Predictor.load(run, device="cpu").predict(TEXTS[:3]))
    finally:
        mlflow.set_registry_uri(None)
        mlflow.set_tracking_uri(None)
    asked.export.alias = "not an alias"
    with pytest.raises(InputError, match=r"export\.name=moods: MLflow at sqlite.* failed \(.*not registered"):
        export_run(asked)


@pytest.mark.parametrize(
    ("export_format", "export", "message"),
    [
        ("onnx", ExportConfig(name="moods"), "export.name=moods: only format=mlflow is registered"),
        ("mlflow", ExportConfig(alias="champion"), "export.alias=champion: belongs to a registered name; give it"),
    ],
)
def test_settings_that_register_nothing_are_refused(export_format: str, export: ExportConfig, message: str) -> None:
    config = ExperimentConfig(action="export", run_dir="run", format=export_format, export=export)
    config.model.pretrained = "some/encoder"
    with pytest.raises(InputError, match=message):
        check(config)

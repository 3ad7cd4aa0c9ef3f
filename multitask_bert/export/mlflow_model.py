"""`format=mlflow`: a folder with MLflow's "models from code", and its registration where the run was logged."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
import tempfile
import uuid
import warnings
from pathlib import Path

import multitask_bert
from multitask_bert.config.schema import ExportConfig
from multitask_bert.errors import InputError
from multitask_bert.tracking.mlflow.state import STATE_FILE, UploadState
from multitask_bert.tracking.mlflow.store import prepare_environment, uri_for_mlflow
from multitask_bert.tracking.mlflow.upload import what_failed
from multitask_bert.trust import foreign_folders
from multitask_bert.trust.permissions import refuse
from multitask_bert.utils.addresses import sqlite_path, without_password

log = logging.getLogger(__name__)

MODEL_CODE = Path(__file__).parent / "templates" / "mlflow_model.py"
REQUIREMENTS = (
    "hydra-core", "mlflow", "numpy", "omegaconf", "psutil", "safetensors", "scipy", "tokenizers", "torch",
    "transformers",
)  # fmt: skip
ARTIFACTS = "mlflow_model"  # folder of registered models among the artifacts of the run in MLflow
MLMODEL = "MLmodel"  # MLflow's description of the folder
TIMEOUT_SECONDS = 60.0


def write_mlflow(model_folder: Path, folder: Path, *, precision: str) -> None:
    """Write the model, the code that loads it, a copy of this package, and the versions of the packages it needs."""
    prepare_environment(TIMEOUT_SECONDS)
    import mlflow

    # MLflow warns of inputs of any type, partly whatever the filters are: `record` keeps that from being shown.
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings(record=True):
        warnings.simplefilter("ignore")
        package = Path(temporary, multitask_bert.__name__)
        source = Path(multitask_bert.__file__).parent
        shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(MODEL_CODE),
            artifacts={"model": str(model_folder)},
            code_paths=[str(package)],
            model_config={"precision": precision},
            pip_requirements=[f"{name}=={_version(name)}" for name in REQUIREMENTS],
        )
    described = mlflow.models.Model.load(folder)
    flavor = described.flavors["python_function"]
    flavor["model_code_path"] = MODEL_CODE.name  # without the paths of this machine
    flavor["artifacts"]["model"]["uri"] = flavor["artifacts"]["model"]["path"]
    described.save(folder / MLMODEL)


def store_of(run_dir: Path) -> UploadState:
    """Where a run was logged.

    Raises:
        InputError: nowhere, or nothing of it has arrived there.
    """
    if not (run_dir / STATE_FILE).is_file():
        raise InputError(
            f"export.name: {run_dir} has no {STATE_FILE}, so this run was not logged to MLflow, where it would be "
            f"registered; leave export.name out"
        )
    refuse(foreign_folders.upload_problems(run_dir, STATE_FILE), run_dir)
    try:
        state = UploadState.load(run_dir)
    except ValueError as error:
        raise InputError(str(error)) from error
    if state.run_id is None:
        raise InputError(f"export.name: MLflow has nothing of this run; first: action=upload run_dir={run_dir}")
    return state


def register(folder: Path, store: UploadState, export: ExportConfig) -> str:
    """Send an exported folder to the run in MLflow, as a new version of the model `export.name`; what was registered.

    Raises:
        InputError: MLflow cannot be reached, or refuses the name or the alias.
    """
    prepare_environment(TIMEOUT_SECONDS)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    assert export.name is not None
    assert store.run_id is not None
    database = sqlite_path(store.tracking_uri)
    uri = store.tracking_uri if database is None else uri_for_mlflow(database)
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        try:
            client.create_registered_model(export.name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        inside = f"{ARTIFACTS}/{uuid.uuid4().hex}"  # an earlier version keeps its files
        client.log_artifacts(store.run_id, str(folder), inside)
        source = f"{client.get_run(store.run_id).info.artifact_uri}/{inside}"
        version = client.create_model_version(export.name, source, store.run_id).version
        if export.alias is not None:
            client.set_registered_model_alias(export.name, export.alias, version)
    except (MlflowException, OSError) as error:
        raise InputError(
            f"export.name={export.name}: MLflow at {without_password(store.tracking_uri)} {what_failed(error)}; "
            f"the model is in {folder}, not registered"
        ) from error
    alias = "" if export.alias is None else f", models:/{export.name}@{export.alias}"
    return f"models:/{export.name}/{version}{alias}"


def _version(package: str) -> str:
    """The installed version, without the part that no index has (`+cpu`)."""
    return importlib.metadata.version(package).partition("+")[0]

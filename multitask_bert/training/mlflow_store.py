"""MLflow's surroundings: its environment variables, and the one SQLite file that is its store by default."""

from __future__ import annotations

import logging
import math
import os
import re
from pathlib import Path


def prepare_environment(timeout_seconds: float) -> None:
    """Bound MLflow's network calls and keep it quiet; what the user has set in the environment wins."""
    for name, value in {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, math.ceil(timeout_seconds))),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we try again ourselves, and can be stopped between two tries
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow.store.db.utils", "alembic"):  # one INFO line per table of a new database
        logging.getLogger(name).setLevel(logging.WARNING)


def create_database(path: Path) -> None:
    """Make MLflow's SQLite database if there is none: once, however many processes ask, and whole or not at all."""
    if path.is_file():
        return
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            new = path.with_name(f"{path.name}.new")
            new.unlink(missing_ok=True)  # of a process that was killed over it
            SqlAlchemyStore(f"sqlite:///{new.as_posix()}", artifact_root(path)).engine.dispose()
            new.replace(path)


def sqlite_path(tracking_uri: str) -> Path | None:
    """The file of a plain `sqlite:///path`; None for everything else."""
    is_file = tracking_uri.startswith("sqlite:///") and "?" not in tracking_uri and ":memory:" not in tracking_uri
    return Path(tracking_uri.removeprefix("sqlite:///")) if is_file else None


def artifact_root(database: Path) -> str:
    return (database.absolute().parent / "mlartifacts").as_uri()


def shown_uri(uri: str) -> str:
    """For messages: without a password."""
    return re.sub(r"//[^/@]*@", "//***@", uri)

"""MLflow's environment variables, and the SQLite database that is its store by default."""

from __future__ import annotations

import atexit
import logging
import math
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from multitask_bert.utils.addresses import SQLITE


def prepare_environment(timeout_seconds: float) -> None:
    """Limit MLflow's network calls and silence it; environment variables of the user win."""
    for name, value in {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, math.ceil(timeout_seconds))),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we retry ourselves, and can stop between two tries
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
    """Create MLflow's SQLite database unless it exists; safe to call from several processes at once."""
    if path.is_file():
        return
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            new = path.with_name(f"{path.name}.new")
            new.unlink(missing_ok=True)  # left by a process that was killed
            SqlAlchemyStore(uri_for_mlflow(new), artifact_root(path)).engine.dispose()
            new.replace(path)


def uri_for_mlflow(database: Path) -> str:
    """The URI of an SQLite file that MLflow and every version of SQLAlchemy read alike.

    They differ on `?` and `%` in a path: a folder with these gets a temporary link without them.
    """
    if not any(sign in database.as_posix() for sign in "?%"):
        return f"{SQLITE}{database.as_posix()}"
    return f"{SQLITE}{(_linked(database.absolute().parent) / 'link' / database.name).as_posix()}"


def artifact_root(database: Path) -> str:
    """The URI of the folder of artifacts beside a database."""
    return (database.absolute().parent / "mlartifacts").as_uri()


@cache
def _linked(folder: Path) -> Path:
    """A temporary folder, removed when the process ends, with a `link` to this one."""
    temporary = Path(tempfile.mkdtemp(prefix="multitask_bert-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    (temporary / "link").symlink_to(folder, target_is_directory=True)
    return temporary

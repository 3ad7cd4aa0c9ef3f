"""The databases and study files that a foreign config may name: MLflow's, Optuna's, or new ones."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from multitask_bert.trust.paths import is_inside
from multitask_bert.trust.permissions import is_allowed, opened
from multitask_bert.utils.addresses import sqlite_path, sqlite_uri

NOT_THERE = f"this database does not exist; {opened('tracking_uri')} has it created"


def is_inner_store(uri: Any) -> bool:
    """Whether MLflow's store is a server, or a database below the working directory."""
    text = str(uri)
    if text.startswith(("http://", "https://")):
        return True
    path = sqlite_path(text)
    if path is None or not is_inside(path.as_posix()):
        return False
    return path.suffix in (".db", ".sqlite", ".sqlite3") and not is_other_file(path)


def is_other_file(path: Path, tables: Collection[str] = ("experiments", "studies")) -> bool:
    """Whether a file exists that is not a database of MLflow or Optuna, to which they would add their tables.

    `tables`: those that their own databases have.
    """
    if not os.path.lexists(path):
        return False
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return True
    return found.isdisjoint(tables)


def store_problems(loggers: Mapping[str, Any]) -> Iterator[str]:
    """MLflow stores that an earlier run's folder names, and that resuming the run would create."""
    for name, logger in loggers.items():
        if not is_known_store(uri := logger.get("tracking_uri", "http://")):
            yield f"logger.{name}.tracking_uri={uri}: {NOT_THERE}"


def storage_problems(storage: str | None) -> Iterator[str]:
    """The storage that a sweep's folder names, if looking at the sweep would create it, or if it holds no study."""
    if storage is None or storage.startswith(("postgresql://", "postgres://")):
        return
    if storage.startswith("sqlite:///"):
        path = Path(storage.removeprefix("sqlite:///"))
        if path.name == ":memory:":
            return
        is_of_optuna = "?" not in storage and not is_other_file(path, ("studies",))
    else:
        path = Path(storage)
        is_of_optuna = "://" not in storage and path.is_file() and _is_journal(path)
    if not os.path.lexists(path):
        yield f"storage={storage}: this file does not exist"
    elif not is_of_optuna:
        yield f"storage={storage}: holds no study"


def is_known_store(uri: Any) -> bool:
    """Whether MLflow's store is one that a file may name, exists already, or lies below the working directory."""
    database = sqlite_path(str(uri))
    is_there = database is not None and database.is_file() and not is_other_file(database, ("experiments",))
    is_below = (
        database is not None and database.resolve().is_relative_to(Path.cwd()) and is_inner_store(_from_here(database))
    )
    return is_there or is_below or is_inner_store(uri) or is_allowed("tracking_uri")


def _from_here(database: Path) -> str:
    return sqlite_uri(database.resolve().relative_to(Path.cwd().resolve()))


def _is_journal(path: Path) -> bool:
    """Whether a file begins as Optuna's journals do."""
    try:
        with path.open(encoding="utf-8") as file:
            return "op_code" in json.loads(file.readline(10_000))
    except (OSError, ValueError, TypeError, RecursionError):
        return False

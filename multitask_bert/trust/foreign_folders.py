"""What stands in the folder of somebody else's run, sweep or model, and must lead nowhere else (docs/trust.md)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from multitask_bert.errors import InputError
from multitask_bert.trust.classes import target_problems
from multitask_bert.trust.config_files import reference_problems
from multitask_bert.trust.paths import LEFT_BY_RUNS, is_inner_store, is_other_file
from multitask_bert.trust.permissions import is_allowed, leaves, opened
from multitask_bert.utils.addresses import sqlite_path, sqlite_uri
from multitask_bert.utils.files import read_json

WEIGHTS_INDEX, ADAPTER = "model.safetensors.index.json", "adapter_config.json"
MAX_LAYERS = 1000
NOT_THERE = f"this database is not there; {opened('tracking_uri')} has it made"


def run_problems(tree: Any) -> Iterator[str]:
    """What the config in an earlier run's folder may not say; `tree`: as it stands there, unresolved."""
    yield from target_problems("", tree)
    for key, value in leaves(tree):
        if isinstance(value, str) and not is_allowed(key):
            yield from reference_problems(key, value)


def link_problems(folder: Path) -> Iterator[str]:
    """Links in the folder of a run or a sweep, at any depth, that lead out of it and would be followed.

    Also what is neither a file nor a folder: opening a pipe would wait for ever.
    """
    here = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            name = path.relative_to(folder)
            if path.is_symlink():
                try:
                    is_inside = path.resolve().is_relative_to(here)
                except (OSError, RuntimeError):  # it leads to itself
                    is_inside = False
                if not is_inside:
                    yield f"{name} is a link that leads out of this folder; put what it leads to in its place"
            elif not (path.is_file() or path.is_dir()):
                yield f"{name} is neither a file nor a folder; remove it"


def is_of_a_run(folder: Path) -> bool:
    """Whether a folder holds what a run or a sweep leaves, or links of such names."""
    return any(os.path.lexists(folder / name) for name in LEFT_BY_RUNS)


def store_problems(loggers: Mapping[str, Any]) -> Iterator[str]:
    """Where an earlier run's folder says that MLflow is, and that a run which goes on would make anew."""
    for name, logger in loggers.items():
        if not _is_known_store(uri := logger.get("tracking_uri", "http://")):
            yield f"logger.{name}.tracking_uri={uri}: {NOT_THERE}"


def upload_problems(run_dir: Path, state_file: str) -> Iterator[str]:
    """What an earlier run's list of uploads may not say: files of elsewhere, which would be sent, or a new database."""
    try:
        state = read_json(run_dir / state_file)
        artifacts, uri = list(state["artifacts"]), state["tracking_uri"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # there is none, or a damaged one, which whoever reads it says
    if not _is_known_store(uri):
        yield f"{state_file}: tracking_uri={uri}: {NOT_THERE}"
    here = run_dir.resolve()
    for name in artifacts:
        path = run_dir / name
        if not all(file.resolve().is_relative_to(here) for file in (path, *path.rglob("*"))):
            yield f"{state_file}: artifacts: {name} leads out of this folder, and is not sent"


def storage_problems(storage: str | None) -> Iterator[str]:
    """A file that a sweep's folder names as its storage, and that looking at the sweep would make anew."""
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
        yield f"storage={storage}: this file is not there"
    elif not is_of_optuna:
        yield f"storage={storage}: holds no study"


def refuse_foreign_weights(files: Mapping[str, Path], field: str) -> None:
    """What stands in a model's folder and leads to other models, other folders or pickles; `files`: by their names.

    Raises:
        InputError: there is such a thing.
    """
    if ADAPTER in files:
        raise InputError(f"{field}: its {ADAPTER} leads to another model; merge the adapter into one, and name that")
    if WEIGHTS_INDEX not in files:
        return
    try:
        listed = set(read_json(files[WEIGHTS_INDEX])["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{field}: its {WEIGHTS_INDEX} is damaged ({error!r})") from error
    for name in map(str, listed):
        if PurePath(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{field}: its {WEIGHTS_INDEX} names {name}, which is no .safetensors file beside it")


def refuse_kernels(encoder_config: Any, field: str) -> None:
    """Refuse a model whose attention would come from a repository.

    Raises:
        InputError: a model's config names a repository whose code would be fetched and run as its attention.
    """
    parts = [
        encoder_config,
        *(getattr(encoder_config, name, None) for name in getattr(encoder_config, "sub_configs", ())),
    ]
    for part in parts:
        for kind in ("_attn_implementation", "_experts_implementation"):
            if "/" in str(name := getattr(part, kind, None)):
                raise InputError(f"{field}: {kind}={name} is code from a repository, which is not run; remove it")


def refuse_sizes(encoder_config: Any, field: str) -> None:
    """Refuse a number of layers that would be built, one after the other, long before their weights are missed.

    Raises:
        InputError: there are too many.
    """
    num_layers = getattr(encoder_config, "num_hidden_layers", 0)
    if not isinstance(num_layers, int) or not 0 <= num_layers <= MAX_LAYERS:
        raise InputError(f"{field}: num_hidden_layers={num_layers}: must be a number from 0 to {MAX_LAYERS}")


def _is_known_store(uri: Any) -> bool:
    """One that a file may name, one that is there already, or one below the working directory."""
    database = sqlite_path(str(uri))
    is_there = database is not None and database.is_file() and not is_other_file(database, ("experiments",))
    is_below = (
        database is not None and database.resolve().is_relative_to(Path.cwd()) and is_inner_store(_from_here(database))
    )
    return is_there or is_below or is_inner_store(uri) or is_allowed("tracking_uri")


def _from_here(database: Path) -> str:
    return sqlite_uri(database.resolve().relative_to(Path.cwd().resolve()))


def _is_journal(path: Path) -> bool:
    """Whether a file begins as those do that Optuna keeps a study in."""
    try:
        with path.open(encoding="utf-8") as file:
            return "op_code" in json.loads(file.readline(10_000))
    except (OSError, ValueError, TypeError, RecursionError):
        return False

"""The cache of encoded tasks: a folder per task under `MULTITASK_BERT_CACHE`, named by a hash of all it depends on.

1. `key_of` hashes the files' contents, the task, the tokenizer, the options and our own code; any change is a new key.
2. `Cache.find` gives a folder that is complete: its `whole.json`, written last, lists every file with its hash.
3. `Cache.write` writes beside the folder and renames in one step. Of two runs at once both write; one is kept.

Deleting the cache costs time and nothing else.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import inspect
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from multitask_bert.config.schema import TaskConfig
from multitask_bert.data.storage import Chunk, write_split
from multitask_bert.errors import InputError
from multitask_bert.utils.files import expand_user_path, sha256_of, write_json

log = logging.getLogger(__name__)

VARIABLE, DEFAULT = "MULTITASK_BERT_CACHE", "~/.cache/multitask_bert"
WHOLE = "whole.json"
MAX_NAME = 60  # characters of a task's name in the name of its folder
PARTIAL = "partial-"  # how the names of folders begin that are incomplete, or temporary
ABANDONED_SECONDS = 24 * 3600  # age at which an incomplete folder is taken for that of a run that died
COMMIT = re.compile("[0-9a-f]{40}")
PACKAGE = Path(__file__).parents[1]
# Fields of heads that change neither what is read nor how it is tokenized. Any other field makes a new key.
WITHOUT_EFFECT = (
    "weight", "metrics", "pooling", "dropout", "hidden_size", "activation", "class_weights", "label_smoothing",
    "threshold", "constrained", "max_answer_length", "no_answer_threshold", "clip", "lr_factor", "init",
)  # fmt: skip


class CachedTask(NamedTuple):
    """An encoded task in the cache."""

    folders: dict[str, Path]  # by split
    notes: Mapping[str, Any]  # what was written down beside the splits


class Cache:
    """Folders of encoded tasks, by key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def from_environment(cls) -> Cache | None:
        """The user's cache; None where `MULTITASK_BERT_CACHE` is set to nothing, which switches it off."""
        folder = os.environ.get(VARIABLE, DEFAULT)
        return cls(Path(expand_user_path(folder))) if folder else None

    def find(self, key: str) -> CachedTask | None:
        """The task with this key; None where there is none (a damaged one is removed)."""
        folder = self.folder / key
        if not folder.is_dir():
            return None
        try:
            listed = json.loads((folder / WHOLE).read_text(encoding="utf-8"))
            is_whole = all(sha256_of(folder / name) == sha256 for name, sha256 in listed["files"].items())
            found = CachedTask({split: folder / split for split in listed["splits"]}, listed["notes"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            is_whole = False
        if is_whole:
            return found
        log.warning("%s: the cached data is damaged; it is made again", folder)
        shutil.rmtree(folder, ignore_errors=True)
        return None

    def write(self, key: str, splits: Mapping[str, Iterable[Chunk]], notes: Mapping[str, Any]) -> CachedTask | None:
        """Write the splits of a task; None where the cache cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_abandoned()
            partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=self.folder))
        except OSError as error:
            log.warning("%s: cannot be written (%s); the encoded data is not cached", self.folder, error.strerror)
            return None
        try:
            for split, chunks in splits.items():
                write_split(partial / split, chunks)
            paths = [path for path in sorted(partial.rglob("*.*")) if path.is_file()]
            files = {path.relative_to(partial).as_posix(): sha256_of(path) for path in paths}
            write_json(partial / WHOLE, {"splits": list(splits), "files": files, "notes": notes})
            folder = partial.replace(self.folder / key)
            return CachedTask({split: folder / split for split in splits}, notes)  # just hashed: not checked again
        except OSError as error:
            if not (self.folder / key).is_dir():  # else another run was quicker
                log.warning("%s: cannot be written (%s); the encoded data is not cached", partial, error.strerror)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return self.find(key)  # that of the other run, if it is complete

    def _remove_abandoned(self) -> None:
        for path in self.folder.glob(f"{PARTIAL}*"):
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def temporary_folder(parent: Path | None) -> Path:
    """A folder that is removed when the process ends; in `parent`, where that can be written."""
    for candidate in (parent, None):
        try:
            if candidate is not None:
                candidate.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=candidate))
        except OSError as error:
            if candidate is None:
                raise InputError(
                    f"{tempfile.gettempdir()}: cannot be written ({error.strerror}), and the data is too big for "
                    f"memory; set TMPDIR to a folder with room"
                ) from error
        else:
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            return folder
    raise AssertionError("unreachable")


def key_of(
    name: str,
    task: TaskConfig,
    paths: Mapping[str, Path | None],
    fingerprint: str,
    *,
    max_length: int,
    window_stride: int | None,
    seed: int,
) -> str | None:
    """The name of a task's folder; None where its data is in no files of ours (on the hub, or embedded).

    A streamed set of the hub has one if its revision is a commit, whose files never change.

    `paths`: of each split's file, as `TaskReader.locate` gives them; `fingerprint`: that of the tokenizer;
    `window_stride`: see `ExampleTokenizer`.
    """
    contents: dict[str, Any] = {}
    for split, path in paths.items():
        if path is None:
            continue
        files = _files_of(path)
        is_fixed = task.source.streaming and COMMIT.fullmatch(task.source.revision or "") is not None
        if not files and not is_fixed:
            return None
        contents[split] = [str(path), {str(file): sha256_of(file) for file in files}]
    source = {field: value for field, value in asdict(task.source).items() if field != "downloads"}
    heads = {
        head: {field: value for field, value in asdict(config).items() if field not in WITHOUT_EFFECT}
        for head, config in task.heads.items()
    }
    parts = [name, contents, source, heads, fingerprint, max_length, window_stride, seed]
    parts += [_code_version(), _users_code(task)]
    readable = re.sub("[^A-Za-z0-9_.-]", "_", name)[:MAX_NAME].lstrip(".")
    return f"{readable}-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]}"


def fingerprint_of(tokenizer: Any) -> str | None:
    """A hash of what a tokenizer does, apart from options of its last call; None if it cannot describe itself."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    described = str(backend.to_str())
    described = described[described.index('"added_tokens"') :]  # before it: truncation and padding of the last call
    parts = [type(tokenizer).__name__, tokenizer.special_tokens_map, described]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _files_of(path: Path) -> list[Path]:
    """The files that a path stands for: itself, those below a folder, those that a `*` matches.

    A split of a saved data set is a folder only where it was saved with splits; else the folder above is meant.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if "*" in path.name:
        return sorted(path.parent.glob(path.name))
    return (
        sorted(file for file in path.parent.rglob("*") if file.is_file())
        if (path.parent / "state.json").is_file()
        else []
    )


def _users_code(task: TaskConfig) -> list[str]:
    """The hashes of the user's own modules with a reader or head types of the task."""
    names = [task.source.format, *(head.type for head in task.heads.values())]
    modules = {name.rpartition(".")[0] for name in names if "." in name}
    found = (inspect.getsourcefile(importlib.import_module(module)) for module in sorted(modules))
    return [sha256_of(Path(file)) for file in found if file is not None]


@cache
def _code_version() -> str:
    """A hash of the code that reads and encodes, and of the version of the library that tokenizes."""
    import tokenizers

    rooms = [
        PACKAGE / "records.py",
        PACKAGE / "labels.py",
        *(PACKAGE / "data").rglob("*.py"),
        *(PACKAGE / "heads").rglob("*.py"),
    ]
    hashes = {path.relative_to(PACKAGE).as_posix(): sha256_of(path) for path in sorted(rooms)}
    return hashlib.sha256(json.dumps([hashes, tokenizers.__version__]).encode()).hexdigest()

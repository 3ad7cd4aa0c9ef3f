"""Where a task's files are; public ones that are missing are fetched and verified."""

from __future__ import annotations

import hashlib
import logging
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from multitask_bert.config import DownloadConfig, InputError, SourceConfig, expand_user_path
from multitask_bert.trust import is_inside
from multitask_bert.utils.files import sha256_of, write_bytes

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30.0


def locate(source: SourceConfig, split: str, *, data_root: str, parts: Sequence[str] = ()) -> Path | None:
    """The file of a split (train, dev or test), downloaded if it is missing; None where the task names none.

    `parts`: the files of a split that has several; the place is then their folder, or their name with a `*`. For
    `path` (a data set of the `datasets` library) the place is its folder or name, and below it the split.

    Raises:
        InputError: the file is missing and cannot be had; says where it belongs and where it comes from.
    """
    name: str | None = getattr(source, split)
    if name is None:
        return None
    folder = Path(expand_user_path(data_root)) / expand_user_path(source.folder)
    if source.path is not None:
        saved = folder / expand_user_path(source.path)
        return (saved if saved.is_dir() else Path(source.path)) / name
    path = folder / expand_user_path(name)
    if not parts:
        _have(path, split, source, split, data_root)
    for part in parts:
        _have(part_of(path, part), f"{split}/{part}", source, split, data_root)
    return path


def part_of(path: Path, name: str) -> Path:
    """One of the files of a split: `train` and `seq.in` are `train/seq.in`; `train.*` and `in` are `train.in`."""
    return path.with_name(path.name.replace("*", name)) if "*" in path.name else path / name


def _have(path: Path, key: str, source: SourceConfig, split: str, data_root: str) -> None:
    """See to it that a file is there; `key`: its own in `source.downloads`."""
    download = source.downloads.get(key)
    if path.is_file():
        if download is not None and sha256_of(path) != download.sha256:
            log.warning("%s differs from the published file (%s): scores may not compare", path, download.url)
        return
    if path.exists():
        raise InputError(f"{path}: is not a file; `source.{split}` must name one")
    if download is None:
        raise InputError(
            f"{path}: no such file. It is `source.folder` and `source.{split}` of the task, under "
            f"data_root={data_root}; put it there, or "
            f"point data_root=… (or MULTITASK_BERT_DATA) at the folder that has it"
        )
    # The lines of a download come from a task's file, maybe somebody else's: it may write into the data's folder only.
    if not all(map(is_inside, (source.folder, getattr(source, split.partition("/")[0]) or "", key.partition("/")[2]))):
        raise InputError(
            f"{path}: not downloaded, since `source.folder` and `source.{split}` leave data_root={data_root}; put the "
            f"file from {download.url} there, or name a place below data_root"
        )
    _fetch(download, path)


def _fetch(download: DownloadConfig, path: Path) -> None:
    """Write the file whole and verified, or not at all."""
    log.info("downloading %s to %s", download.url, path)
    way_out = f"put the file from {download.url} there, or point data_root=… at the folder that has it"
    try:
        with urllib.request.urlopen(download.url, timeout=TIMEOUT_SECONDS) as response:
            content: bytes = response.read()
    except (OSError, HTTPException, ValueError) as error:
        # URLError and time-outs are OSErrors; HTTPException: it broke off midway; ValueError: a malformed address
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise InputError(f"{path}: the file is missing and could not be downloaded ({reason}); {way_out}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != download.sha256:
        raise InputError(
            f"{path}: not written, since what came from {download.url} has sha256 {found} and not {download.sha256}; "
            f"the published file has changed, or something stands in between"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); {way_out}") from error

"""Where a task's files are; public ones that are missing are fetched and verified."""

from __future__ import annotations

import hashlib
import logging
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from multitask_bert.config import DownloadConfig, InputError, SourceConfig, expand_user_path
from multitask_bert.utils.files import sha256_of, write_bytes

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30.0


def locate(source: SourceConfig, split: str, *, data_root: str) -> Path | None:
    """The file of a split (train, dev or test), downloaded if it is missing; None where the task names none.

    Raises:
        InputError: the file is missing and cannot be had; says where it belongs and where it comes from.
    """
    name: str | None = getattr(source, split)
    if name is None:
        return None
    path = Path(expand_user_path(data_root)) / expand_user_path(source.folder) / expand_user_path(name)
    download = source.downloads.get(split)
    if path.is_file():
        if download is not None and sha256_of(path) != download.sha256:
            log.warning("%s differs from the published file (%s): scores may not compare", path, download.url)
        return path
    if path.exists():
        raise InputError(f"{path}: is not a file; `source.{split}` must name one")
    if download is None:
        raise InputError(
            f"{path}: no such file. It is `source.folder` and `source.{split}` of the task, under "
            f"data_root={data_root}; put it there, or "
            f"point data_root=… (or MULTITASK_BERT_DATA) at the folder that has it"
        )
    _fetch(download, path)
    return path


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

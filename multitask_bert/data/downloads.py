"""Step 1 of the flow: a task's files are found; public ones that are missing are downloaded and verified."""

from __future__ import annotations

import hashlib
import logging
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO

from multitask_bert.config.schema import DownloadConfig, SourceConfig
from multitask_bert.errors import InputError
from multitask_bert.trust.downloads import download_path_problem
from multitask_bert.utils.files import expand_user_path, sha256_of, write_stream

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 30.0
MAX_BYTES = 16 * 2**30  # of a download: a longer one is taken for endless
IN_MEMORY_BYTES = 64 * 2**20  # more than this is held in a temporary file until it is verified
CHUNK_BYTES = 2**20
NUM_SHOWN = 10  # files of a folder that an error names


def locate(source: SourceConfig, split: str, *, data_root: str, parts: Sequence[str] = ()) -> Path | None:
    """The path of a split (train, dev, test or test.<name>), downloaded if missing; None where the task names none.

    `parts`: the files of a split that has several; the path is then their folder, or their name with a `*`. For
    `source.path` (a data set of the `datasets` library) it is that folder or name, followed by the split.

    Raises:
        InputError: the file is missing and cannot be had; says where it belongs and where it comes from.
    """
    name = source.file_of(split)
    if name is None:
        return None
    folder = Path(expand_user_path(data_root)) / expand_user_path(source.folder)
    if source.path is not None:
        saved = folder / expand_user_path(source.path)
        return (saved if saved.is_dir() else Path(source.path)) / name
    path = folder / expand_user_path(name)
    if not parts:
        _ensure(path, split, source, split, data_root)
    for part in parts:
        _ensure(part_of(path, part), f"{split}/{part}", source, split, data_root)
    return path


def part_of(path: Path, name: str) -> Path:
    """One of the files of a split: `train` and `seq.in` are `train/seq.in`; `train.*` and `in` are `train.in`."""
    return path.with_name(path.name.replace("*", name)) if "*" in path.name else path / name


def _ensure(path: Path, key: str, source: SourceConfig, split: str, data_root: str) -> None:
    """Download a file if it is missing; `key`: its key in `source.downloads`."""
    download = source.downloads.get(key)
    field = f"source.{split.replace('test.', 'tests.', 1)}"
    if path.is_file():
        if download is not None and sha256_of(path) != download.sha256:
            log.warning("%s differs from the published file (%s): scores may not compare", path, download.url)
        return
    if path.exists():
        raise InputError(f"{path}: is not a file; `{field}` must name one")
    if download is None:
        raise InputError(f"{path}: no such file. {_where_it_should_be(path, field, source, data_root)}")
    # Downloads are named in a task's file, maybe somebody else's: it may add data, and nothing else.
    inside = (source.folder, source.file_of(split) or "", key.partition("/")[2])
    if (problem := download_path_problem(data_root, path, inside)) is not None:
        raise InputError(
            f"{path}: not downloaded, since {problem}; put the file from {download.url} there yourself, or name a "
            f"folder for data (data_root=…)"
        )
    _fetch(download, path)


def _where_it_should_be(path: Path, field: str, source: SourceConfig, data_root: str) -> str:
    """What of the config names a file that is missing, and the way out."""
    if Path(expand_user_path(source.folder)).is_absolute():
        names = [item.name for item in sorted(path.parent.glob("*")) if item.is_file()]
        names[NUM_SHOWN:] = ["…"] if len(names) > NUM_SHOWN else []
        there = f"; the folder has {', '.join(names)}" if names else ""
        return f"It is `source.folder` and `{field}` of the task; put it there, or correct them{there}"
    return (
        f"It is `source.folder` and `{field}` of the task, under data_root={data_root}; put it there, or "
        f"point data_root=… (or MULTITASK_BERT_DATA) at the folder that has it"
    )


def _fetch(download: DownloadConfig, path: Path) -> None:
    """Download a file and write it whole and verified, or not at all."""
    log.info("downloading %s to %s", download.url, path)
    way_out = f"put the file from {download.url} there, or point data_root=… at the folder that has it"
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES) as file:
        try:
            found = _receive(download.url, file)
        except (OSError, HTTPException, ValueError) as error:
            # URLError and time-outs are OSErrors; HTTPException: it broke off midway; ValueError: a malformed address
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            if isinstance(error, urllib.error.HTTPError):
                error.close()  # it holds the connection
            raise InputError(
                f"{path}: the file is missing and could not be downloaded ({reason}); {way_out}"
            ) from error
        if found != download.sha256:
            raise InputError(
                f"{path}: not written, since the download from {download.url} has sha256 {found} and not "
                f"{download.sha256}; the published file has changed, or the connection alters it"
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_stream(path, file)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}); {way_out}") from error


def _receive(url: str, file: IO[bytes]) -> str:
    """Download into `file`, over http or https, and rewind it; the sha256 of the content."""
    digest, num_bytes = hashlib.sha256(), 0
    with _web().open(url, timeout=TIMEOUT_SECONDS) as response:
        while chunk := response.read(CHUNK_BYTES):
            num_bytes += len(chunk)
            if num_bytes > MAX_BYTES:
                raise OSError(f"it has more than {MAX_BYTES:,} bytes")
            digest.update(chunk)
            file.write(chunk)
        if getattr(response, "length", None):  # bytes that were announced and not received
            raise OSError(f"it broke off after {num_bytes:,} bytes")
    file.seek(0)
    return digest.hexdigest()


def _web() -> urllib.request.OpenerDirector:
    """Opens http and https only, also after redirects: `urlopen` would follow file, data and ftp."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler, urllib.request.HTTPErrorProcessor, urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener

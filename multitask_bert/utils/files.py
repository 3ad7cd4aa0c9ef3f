"""Files: written completely or not at all, and checked by their hash."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO

CHECKSUMS = "checksums.json"  # in a folder: sha256 by the names of its files
NAME_BYTES = 120  # of a name that is made from other names; file systems allow 143 to 255, prefixes included
HASH_DIGITS = 10
CHUNK_BYTES = 1 << 20  # of a stream, read at once


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def short_name(name: str, num_bytes: int = NAME_BYTES) -> str:
    """The name itself where it is short enough; else its beginning, `-` and the start of the sha256 of the whole."""
    encoded = name.encode()
    if len(encoded) <= num_bytes:
        return name
    start = encoded[: num_bytes - HASH_DIGITS - 1].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(encoded).hexdigest()[:HASH_DIGITS]}"


def partial_of(folder: Path) -> Path:
    """The path at which a folder is written until it is complete and gets its name."""
    return folder.with_name(f".{folder.name}.partial")


def checksums_of(folder: Path) -> dict[str, str]:
    """The content of `CHECKSUMS` for the files that are in the folder now."""
    return {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.is_file()}


def compare_checksums(folder: Path) -> None:
    """Compare the files of a folder with the checksums in it.

    Raises:
        OSError, ValueError: a file of the folder, or `CHECKSUMS` itself, is missing or not what was written.
    """
    listed = read_json(folder / CHECKSUMS)
    if not isinstance(listed, dict):
        raise ValueError(f"{CHECKSUMS} is no table of file names")
    for name, expected in listed.items():
        if name != Path(name).name:
            raise ValueError(f"{CHECKSUMS} names {name}, which is no file of the folder")
        if sha256_of(folder / name) != expected:
            raise ValueError(f"{name} is not what was written, says {CHECKSUMS}")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        OSError, ValueError: there is no such file, or it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deeply") from error


def write_json(path: Path, value: Any) -> None:
    """Write through a temporary file beside it, so that a reader never sees half."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """As `write_json`, for any content."""
    write_stream(path, BytesIO(content))


def write_stream(path: Path, content: IO[bytes]) -> None:
    """As `write_bytes`, for the rest of an open file."""
    write_parts(path, iter(lambda: content.read(CHUNK_BYTES), b""))


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """As `write_bytes`, for content that comes in parts, of which one at a time is in memory."""
    with replacing(path) as file:
        file.writelines(parts)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `path`, which takes its place on exit; after an error, nothing of it is left."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.unlink(missing_ok=True)
        with temporary.open("xb") as file:  # new: through a link of that name, another file would be overwritten
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_half_written(folder: Path) -> None:
    """Remove what `write_bytes` left at any depth when its process was killed; no other one may be writing there."""
    for path in folder.rglob(".*.*.partial"):
        if path.is_file():
            path.unlink()


def finite(value: Any) -> Any:
    """The same value with None for NaN and infinity, at any depth: JSON lacks them."""
    if isinstance(value, dict):
        return {key: finite(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [finite(child) for child in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def expand_user_path(path: str) -> str:
    """`~` and environment variables written out."""
    return os.path.expandvars(Path(path).expanduser())


def shown(path: Path) -> Path:
    """The path relative to the working directory, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path

"""A lock on a run's folder: one process at a time writes into it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from multitask_bert.errors import InputError
from multitask_bert.utils.files import shown

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

LOCK_FILE = ".lock"  # held by the process that writes into the folder; the system frees it when that process ends
_held: dict[Path, BaseFileLock] = {}  # by this process


def hold(folder: Path, what: str) -> None:
    """Lock a folder until this process ends; does nothing if this process has locked it already.

    `what`: names the folder in a message, as `hydra.run.dir=FOLDER`. On a file system without locks, warns.

    Raises:
        InputError: another process is writing there.
    """
    from filelock import FileLock, Timeout

    path = folder.resolve()
    if path in _held:
        return
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{what}: another run is writing into this folder; wait for its end, or name another folder"
        ) from None
    except (OSError, NotImplementedError) as error:
        log.warning("%s: cannot be locked (%s); a second run in it would not be noticed", what, error)
    else:
        _held[path] = lock


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Lock a folder for the duration of a block; on exit, remove it if it is new and empty."""
    path = folder.resolve()
    is_new, was_there = path not in _held, path.exists()
    hold(folder, str(shown(folder)))
    try:
        yield
    finally:
        if is_new and (lock := _held.pop(path, None)) is not None:
            if not was_there and list(path.iterdir()) == [path / LOCK_FILE]:
                (path / LOCK_FILE).unlink()
                with contextlib.suppress(OSError):  # another process may have written into it
                    path.rmdir()
            lock.release()

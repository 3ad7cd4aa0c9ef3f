"""One process at a time writes into a run's folder."""

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
    """Keep other processes from writing into a folder until this one ends; nothing new where it is held already.

    `what`: names the folder in a message, as `hydra.run.dir=FOLDER`. A file system without locks is warned of.

    Raises:
        InputError: another process is writing there.
    """
    from filelock import FileLock, Timeout

    place = folder.resolve()
    if place in _held:
        return
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{what}: another run is writing into this folder; wait for its end, or name another folder"
        ) from None
    except (OSError, NotImplementedError) as error:
        log.warning("%s: cannot be locked (%s), so that a second run in it would not be noticed", what, error)
    else:
        _held[place] = lock


@contextlib.contextmanager
def holding(folder: Path) -> Iterator[None]:
    """`hold` for the time of a block, unless the folder is held anyway; one that stays empty is removed."""
    place = folder.resolve()
    is_new, was_there = place not in _held, place.exists()
    hold(folder, str(shown(folder)))
    try:
        yield
    finally:
        if is_new and (lock := _held.pop(place, None)) is not None:
            if not was_there and list(place.iterdir()) == [place / LOCK_FILE]:
                (place / LOCK_FILE).unlink()
                with contextlib.suppress(OSError):  # another process may have put something into it
                    place.rmdir()
            lock.release()

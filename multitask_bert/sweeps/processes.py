"""The processes that run trials: who they are, and whether they are still alive.

A process is identified by its machine, its id there and its start time. On this machine the answer is certain. Of other
machines nothing is known, unless the storage keeps heartbeats (SQLite, PostgreSQL) or the user says that they are gone
(`hydra.sweeper.take_over`).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

START_TOLERANCE_SECONDS = 1.5  # between two readings of the start time of a process


def this_process() -> dict[str, Any]:
    """Machine, id and start time of this process, as JSON types."""
    return {"machine": _machine(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def is_here(process: Mapping[str, Any]) -> bool:
    """Whether the process belongs to this machine, so that `is_alive` can tell."""
    return process.get("machine") == _machine()


def is_alive(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine still runs; another one with the same id does not count."""
    assert is_here(process)
    try:
        found = psutil.Process(process["pid"])
        started = abs(found.create_time() - process["started"]) < START_TOLERANCE_SECONDS
        return bool(started and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _machine() -> str:
    """Host name, boot id and, in a container, its namespace of process ids."""
    parts = [platform.node()]
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.is_file():
        parts.append(boot.read_text(encoding="ascii").strip())
    namespace = Path("/proc/self/ns/pid")
    if namespace.is_symlink():
        parts.append(str(namespace.readlink()))
    return "/".join(parts)

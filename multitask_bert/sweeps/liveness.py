"""Whether the process that works on a trial still lives. A trial is taken over only where it surely does not.

A process is known by its machine, its number there and when it began. On the same machine the answer is certain; of
another machine nothing is known, unless the storage keeps heartbeats (SQLite, PostgreSQL) or the user says so
(`hydra.sweeper.take_over`).
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

START_TOLERANCE_SECONDS = 1.5  # between two readings of when a process began


def this_process() -> dict[str, Any]:
    """What finds this process again: of JSON types."""
    return {"machine": _machine(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def is_here(process: Mapping[str, Any]) -> bool:
    """Whether it is of this machine, where it can be asked."""
    return process.get("machine") == _machine()


def is_alive(process: Mapping[str, Any]) -> bool:
    """Of a process of this machine: whether it is still there, and not another one under its number."""
    assert is_here(process)
    try:
        found = psutil.Process(process["pid"])
        began = abs(found.create_time() - process["started"]) < START_TOLERANCE_SECONDS
        return bool(began and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _machine() -> str:
    """Host, start of the system and, in a container, its own numbering of processes."""
    parts = [platform.node()]
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.is_file():
        parts.append(boot.read_text(encoding="ascii").strip())
    namespace = Path("/proc/self/ns/pid")
    if namespace.is_symlink():
        parts.append(str(namespace.readlink()))
    return "/".join(parts)

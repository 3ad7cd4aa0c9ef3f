"""Sweeps in processes of their own, for tests that kill them or run several at a time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sweeps.support import COMMAND

SCRIPT = Path(__file__).parent / "slow_sweep.py"


def started(seconds: float, *arguments: str) -> subprocess.Popen[str]:
    """A sweep in a process of its own, with fake trainings that take this long."""
    command = [sys.executable, str(SCRIPT), str(seconds), *COMMAND, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_until(what: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.05)


def running_in(folder: Path, number: int) -> bool:
    """Whether this trial is running."""
    trial = folder / f"trial_{number:04d}"
    return (trial / "run.log").exists() and not (trial / "results.json").exists()

"""The version of the running code: the commit of its git checkout, and the changes to it."""

from __future__ import annotations

import functools
import logging
import subprocess
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

GIT_SECONDS = 10


@functools.cache
def checkout() -> dict[str, Any]:
    """`commit`, `is_changed` and `changes` (a diff or None); empty where the code is not in a checkout.

    Cached, and to be called near the start of a process: later the files may differ from those that were imported.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS).stdout

    try:
        commit, status = git("rev-parse", "HEAD").strip(), git("status", "--porcelain").strip()
        changes = git("diff", "HEAD") if status else ""
        return {"commit": commit, "is_changed": bool(status), "changes": changes or None}
    except (OSError, subprocess.SubprocessError):
        log.info("no git commit is known: the code is not in a git checkout")
        return {}

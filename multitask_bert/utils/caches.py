"""Writable caches for Hugging Face's libraries where the user's home is read-only: in containers, on cluster nodes."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)

# Written even where everything else is only read: copies of metrics' code, and their data.
WRITTEN = {"HF_MODULES_CACHE": "modules", "HF_EVALUATE_CACHE": "evaluate", "HF_METRICS_CACHE": "metrics"}


def use_writable_caches() -> None:
    """Move caches that cannot be written to a temporary folder, with a warning; call before importing the libraries.

    An existing cache that is read-only is still read: models and data may have been put there for all users.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    home = Path(os.environ.get("HF_HOME") or default).expanduser()
    if _can_be_written(home):
        return
    if home.is_dir():
        folders = {name: part for name, part in WRITTEN.items() if name not in os.environ}
    else:
        folders = {"HF_HOME": ""}
    if not folders:
        return
    temporary = Path(tempfile.mkdtemp(prefix="multitask_bert-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    os.environ.update({name: str(temporary / part) for name, part in folders.items()})
    log.warning(
        "%s: cannot be written; a temporary folder is used instead until the end (HF_HOME names another one)", home,
    )  # fmt: skip


def _can_be_written(folder: Path) -> bool:
    """Whether the folder can be written, or can be made."""
    for existing in (folder, *folder.parents):
        try:
            existing.stat()
        except FileNotFoundError:
            continue
        except OSError:  # a file among the parents, or one that may not be entered
            return False
        return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return False

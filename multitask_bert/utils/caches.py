"""The caches of Hugging Face's libraries, where the user's home cannot be written: in containers, on cluster nodes."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from pathlib import Path

log = logging.getLogger(__name__)

# Written even where all else is only read: copies of metrics' code, and what these keep.
WRITTEN = {"HF_MODULES_CACHE": "modules", "HF_EVALUATE_CACHE": "evaluate", "HF_METRICS_CACHE": "metrics"}


def use_writable_caches() -> None:
    """Put what cannot be written into a temporary folder, with a warning; before those libraries are imported.

    A cache that is there and only readable is still read: models and data may have been put there for all.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    home = Path(os.environ.get("HF_HOME") or default).expanduser()
    if _can_be_written(home):
        return
    if home.is_dir():
        places = {name: part for name, part in WRITTEN.items() if name not in os.environ}
    else:
        places = {"HF_HOME": ""}
    if not places:
        return
    temporary = Path(tempfile.mkdtemp(prefix="multitask_bert-"))
    atexit.register(shutil.rmtree, temporary, ignore_errors=True)
    os.environ.update({name: str(temporary / part) for name, part in places.items()})
    log.warning(
        "%s: cannot be written; what would be kept there is in a temporary folder until the end (HF_HOME names another "
        "place)", home,
    )  # fmt: skip


def _can_be_written(folder: Path) -> bool:
    """Whether the folder is one that can be written, or can be made."""
    for place in (folder, *folder.parents):
        try:
            place.stat()
        except FileNotFoundError:
            continue
        except OSError:  # a file among the parents, or one that may not be entered
            return False
        return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return False

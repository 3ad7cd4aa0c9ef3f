"""Addresses of stores: paths in them, and passwords that nobody is to see."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

SQLITE = "sqlite:///"
HIDDEN = "***"
_PASSWORD = re.compile(r"(?<=://)([^\s/?#]*?):([^\s]*)@")


def sqlite_path(uri: str) -> Path | None:
    """The file of a plain `sqlite:///path`, in which `%3F` stands for a `?`; None for everything else."""
    is_file = uri.startswith(SQLITE) and "?" not in uri and ":memory:" not in uri
    return Path(unquote(uri.removeprefix(SQLITE))) if is_file else None


def sqlite_uri(path: Path) -> str:
    """The address of a file, such that `sqlite_path` gives it back."""
    return SQLITE + path.as_posix().replace("%", "%25").replace("?", "%3F")

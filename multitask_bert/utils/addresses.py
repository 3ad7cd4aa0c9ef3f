"""Addresses of stores: paths in them, and passwords, which must not be shown."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

SQLITE = "sqlite:///"
# `user:password@` of an address, whatever the password holds; `host:80/a@b` is none.
_PASSWORD = re.compile(r"(?<=://)([^\s:/@]*):(?!\d*(?:[/?#]|$))\S*@")
_PASSWORD_FIELD = re.compile(r"(?<=[?&])(password|passwd|pwd|sslpassword)=[^&\s]+", re.IGNORECASE)


def without_password(text: str) -> str:
    """A text with addresses in it, without their passwords: `http://me:secret@host` becomes `http://me@host`."""
    return _PASSWORD_FIELD.sub(r"\1=***", _PASSWORD.sub(r"\1@", text))


def has_password(text: str) -> bool:
    return without_password(text) != text


def sqlite_path(uri: str) -> Path | None:
    """The file of a plain `sqlite:///path`, in which `%3F` stands for a `?`; None for everything else."""
    is_file = uri.startswith(SQLITE) and "?" not in uri and ":memory:" not in uri
    return Path(unquote(uri.removeprefix(SQLITE))) if is_file else None


def sqlite_uri(path: Path) -> str:
    """The address of a file, such that `sqlite_path` gives it back."""
    return SQLITE + path.as_posix().replace("%", "%25").replace("?", "%3F")

"""Names and texts that MLflow accepts; different names stay different, whatever characters the labels in them have."""

from __future__ import annotations

import hashlib
import posixpath
import re
import unicodedata

# MLflow's limits (mlflow/utils/validation.py; a run's name: its column in mlflow/store/tracking/dbmodels/models.py)
MAX_KEY_LENGTH = 250
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
MAX_EXPERIMENT_LENGTH = 500
MAX_RUN_NAME_LENGTH = 250

_ACCEPTED = re.compile(r"[\w/. :-]+")
_ESCAPE = re.compile(r":[a-z0-9 -]+:")
# A slash is kept only between two word characters: MLflow refuses names like `a//b`, `a/../b` and `a/`.
_TO_ESCAPE = re.compile(r"[^\w/. -]|(?<!\w)/|/(?!\w)|^\.")


def key_of(name: str) -> str:
    """The name of a metric, parameter or tag in MLflow: `f1_of_C++` becomes `f1_of_C:plus sign::plus sign:`.

    A name that MLflow accepts stays as it is. In others, each character that it refuses becomes its Unicode name
    between colons, and so does each colon; likewise in a name that looks like the result of this. So no two names
    become the same. A key that is too long ends with a part of its hash.
    """
    key = name if _is_accepted(name) and not _ESCAPE.search(name) else _TO_ESCAPE.sub(_spelled_out, name)
    return _shortened(key, MAX_KEY_LENGTH)


def text_of(text: str, max_length: int) -> str:
    """The value of a parameter or a tag, truncated to this length, with characters that databases refuse escaped."""
    text = without_refused(text)
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def name_of(name: str, max_length: int) -> str:
    """The name of a run or of an experiment: any text of a limited length."""
    return _shortened(without_refused(name), max_length)


def without_refused(text: str) -> str:
    r"""The text with `\x00` for NUL and `\ud800` for a lone surrogate, which is not UTF-8."""
    return text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _is_accepted(name: str) -> bool:
    is_normal_path = posixpath.normpath(name) == name and not name.startswith(("/", "..")) and name != "."
    return _ACCEPTED.fullmatch(name) is not None and is_normal_path


def _spelled_out(match: re.Match[str]) -> str:
    character = match[0]
    return f":{unicodedata.name(character, f'u{ord(character):04x}').lower()}:"


def _shortened(text: str, max_length: int) -> str:
    if len(text) <= max_length:
        return text
    end = f"...{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return text[: max_length - len(end)] + end

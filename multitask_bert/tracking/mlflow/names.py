"""Names and texts as MLflow takes them: one name for each of ours, since labels may hold anything."""

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

_TAKEN = re.compile(r"[\w/. :-]+")
_ESCAPE = re.compile(r":[a-z0-9 -]+:")
# A slash stays between two word characters only: MLflow refuses a name that is no normal path (`a//b`, `a/../b`, `a/`).
_TO_ESCAPE = re.compile(r"[^\w/. -]|(?<!\w)/|/(?!\w)|^\.")


def key_of(name: str) -> str:
    """The name of a metric, parameter or tag in MLflow: `f1_of_C++` becomes `f1_of_C:plus sign::plus sign:`.

    A name that MLflow takes stays as it is. In others, each character that it refuses becomes its Unicode name between
    colons, and so does each colon; the same in a name that could be taken for the result of this. So no two names
    become one. A key that is too long ends with a part of its hash.
    """
    key = name if _is_taken(name) and not _ESCAPE.search(name) else _TO_ESCAPE.sub(_spelled_out, name)
    return _shortened(key, MAX_KEY_LENGTH)


def text_of(text: str, max_length: int) -> str:
    """The value of a parameter or a tag: cut at this length, without the two characters that databases refuse."""
    text = without_refused(text)
    return text if len(text) <= max_length else text[: max_length - 1] + "…"


def name_of(name: str, max_length: int) -> str:
    """The name of a run or of an experiment: any text, but of a limited length."""
    return _shortened(without_refused(name), max_length)


def without_refused(text: str) -> str:
    r"""The same with `\x00` for NUL and `\ud800` for half a pair of surrogates, which are no UTF-8."""
    return text.replace("\0", r"\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _is_taken(name: str) -> bool:
    is_normal_path = posixpath.normpath(name) == name and not name.startswith(("/", "..")) and name != "."
    return _TAKEN.fullmatch(name) is not None and is_normal_path


def _spelled_out(match: re.Match[str]) -> str:
    character = match[0]
    return f":{unicodedata.name(character, f'u{ord(character):04x}').lower()}:"


def _shortened(text: str, max_length: int) -> str:
    if len(text) <= max_length:
        return text
    end = f"...{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    return text[: max_length - len(end)] + end

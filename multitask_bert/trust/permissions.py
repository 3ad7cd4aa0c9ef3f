"""What the user has opened with `MULTITASK_BERT_ALLOW`, and error messages that name the way out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from multitask_bert.errors import InputError

ALLOW = "MULTITASK_BERT_ALLOW"  # environment: packages, config keys, paths of metrics, variables; joined by commas
LIST_INDEX = re.compile(r"(\.\d+)+$")  # at the end of the full name of a value in a list
OUR_VARIABLES = "MULTITASK_BERT_"


def is_allowed(name: str) -> bool:
    """Whether the user has opened this package, config key, variable or path of a metric, or one that contains it."""
    items = [item.strip() for item in os.environ.get(ALLOW, "").split(",")]
    return any(name == item or name.startswith((f"{item}.", f"{item}/")) for item in items if item)


def refuse(problems: Iterable[str], source: object = None) -> None:
    """Raise one error for all problems, if there are any; `source`: the file or folder in which they were found.

    Raises:
        InputError: there are problems.
    """
    if lines := [problem if source is None else f"{source}: {problem}" for problem in problems]:
        raise InputError("\n".join(lines))


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its full name, also in lists; an empty dict or list counts as a value."""
    items = list(tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ())
    for key, value in items:
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    if not items and prefix:
        yield prefix, tree


def typed_words(key: str, value: Any) -> str:
    """The way out for a key that only the command line may set."""
    name = LIST_INDEX.sub("", key)
    return f"if you want it, type it: {name}={shortened(value) if name == key else f'[{shortened(value)}]'}"


def opened(name: str) -> str:
    """The setting of the environment that opens `name`."""
    return f"{ALLOW}={name}"


def shortened(value: Any) -> str:
    """A value in one line of at most 60 characters."""
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:60]}…"

"""What the user has opened (`MULTITASK_BERT_ALLOW`), and how a problem is told with its way out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from multitask_bert.errors import InputError

ALLOW = "MULTITASK_BERT_ALLOW"  # environment: packages, config keys, metrics' places, variables; joined by commas
LAST_PLACE = re.compile(r"(\.\d+)+$")  # of a value in a list
OUR_VARIABLES = "MULTITASK_BERT_"


def is_allowed(name: str) -> bool:
    """Whether the user has opened this package, config key, variable or place of a metric, or what it lies in."""
    items = [item.strip() for item in os.environ.get(ALLOW, "").split(",")]
    return any(name == item or name.startswith((f"{item}.", f"{item}/")) for item in items if item)


def refuse(problems: Iterable[str], source: object = None) -> None:
    """Raise one error of all problems, if there are any.

    Raises:
        InputError: there are problems; `source`: the file or folder that they stand in, if it is one.
    """
    if lines := [problem if source is None else f"{source}: {problem}" for problem in problems]:
        raise InputError("\n".join(lines))


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its full name, elements of lists too; an empty dict or list is a value of its own."""
    items = list(tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ())
    for key, value in items:
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    if not items and prefix:
        yield prefix, tree


def typed_words(key: str, value: Any) -> str:
    name = LAST_PLACE.sub("", key)
    return f"if you want it, type it: {name}={shortened(value) if name == key else f'[{shortened(value)}]'}"


def opened(name: str) -> str:
    return f"{ALLOW}={name}"


def shortened(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:60]}…"

"""`setting` declares a field of the config: its default, meaning, unit, choices and bounds, in one place.

The checks, the error messages, `--help` and docs/settings.md read them from there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any

from multitask_bert.trust.permissions import is_allowed, opened


@dataclass(frozen=True)
class Setting:
    """The facts about one field, beside its type and default; bounds hold for every element of a list."""

    meaning: str  # what the value is, its unit, and what null means
    choices: Mapping[str, str]  # what each one means, where `meaning` does not say it; empty: any value
    at_least: float | None
    more_than: float | None
    at_most: float | None
    below: float | None
    form: tuple[str, str] | None  # a regular expression that the whole string matches, and the same in words
    only_for: tuple[str, ...]  # formats of a source, or actions, that read the field; empty: all of them
    or_own: str  # `function` or `class`, where a name of the user's own module is a choice, too; else empty
    recommends: str  # in a recipe: the full name of the field that follows it; else empty

    @property
    def bounds(self) -> str:
        """`at least 0 and less than 1`; empty where there are none."""
        words = {
            "at least": self.at_least,
            "more than": self.more_than,
            "at most": self.at_most,
            "less than": self.below,
        }
        return " and ".join(f"{word} {bound:g}" for word, bound in words.items() if bound is not None)

    def problem(self, value: Any) -> str | None:
        """Why the value cannot be right; None: it can."""
        if self.choices and value not in self.choices and not (self.or_own and is_allowed(value)):
            return f"choose one of {', '.join(self.choices)}{self._own_way(value)}"
        if self.form is not None and not re.fullmatch(self.form[0], value, re.DOTALL):
            return f"must {self.form[1]}"
        numbers = value if isinstance(value, list) else [value]
        if self.bounds and not all(map(self._is_within, numbers)):
            each = "each " if isinstance(value, list) else ""
            finite = "" if all(map(math.isfinite, numbers)) else " and finite"
            return f"{each}must be {self.bounds}{finite} ({self.meaning})"
        return None

    def _own_way(self, value: str) -> str:
        """The end of the refusal of a dotted name: how to allow code of your own."""
        if not self.or_own:
            return ""
        return f", or a {self.or_own} of your own ({opened(value.partition('.')[0])})" if "." in value else ""

    def described(self) -> str:
        """The meaning with choices and bounds, in a line."""
        choices = " | ".join(f"{name} ({gloss})" if gloss else name for name, gloss in self.choices.items())
        prefix = f"{', '.join(self.only_for)}: " if self.only_for else ""
        return "; ".join(filter(None, (f"{prefix}{self.meaning}", choices, self.bounds)))

    def _is_within(self, number: float) -> bool:
        return (
            math.isfinite(number)
            and (self.at_least is None or number >= self.at_least)
            and (self.more_than is None or number > self.more_than)
            and (self.at_most is None or number <= self.at_most)
            and (self.below is None or number < self.below)
        )


def setting(
    default: Any,
    meaning: str,
    *,
    choices: Collection[str] = (),
    at_least: float | None = None,
    more_than: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
    form: tuple[str, str] | None = None,
    only_for: tuple[str, ...] = (),
    or_own: str = "",
    recommends: str = "",
) -> Any:
    """A dataclass field with its facts; see `Setting`. A class as default (`list`, `ModelConfig`) is called for it."""
    glosses = choices if isinstance(choices, Mapping) else dict.fromkeys(choices, "")
    bounds = (at_least, more_than, at_most, below)
    facts = {"setting": Setting(meaning, glosses, *bounds, form, only_for, or_own, recommends)}
    if isinstance(default, type):
        return field(default_factory=default, metadata=facts)
    return field(default=default, metadata=facts)


def recommended(key: str, default: Any) -> Any:
    """The field of a recipe whose value is that of `key` (a full name), unless an experiment or the user sets it."""
    return setting(default, f"recommended {key}", recommends=key)


def setting_of(item: Field[Any]) -> Setting:
    """The facts that a field of the schema was given by `setting`."""
    found = item.metadata["setting"]
    assert isinstance(found, Setting)
    return found


def choices_of(config: type, name: str) -> Collection[str]:
    """The values that a field of a config class may have."""
    (item,) = (item for item in fields(config) if item.name == name)
    return setting_of(item).choices


def value_problems(config: Any, where: str = "") -> Iterator[str]:
    """One line per value, at any depth, that its field does not allow; `where`: begins the full names, as `model.`."""
    for item in fields(config):
        value, name = getattr(config, item.name), f"{where}{item.name}"
        if is_dataclass(value):
            yield from value_problems(value, f"{name}.")
        elif isinstance(value, dict):
            for key, child in value.items():
                if is_dataclass(child):
                    yield from value_problems(child, f"{name}.{key}.")
        elif value is not None and (problem := setting_of(item).problem(value)) is not None:
            yield f"{name}={_shown(value)}: {problem}"


def _shown(value: Any) -> Any:
    """The value as a message shows it; quoted if it begins or ends with blanks."""
    return repr(value) if isinstance(value, str) and value.strip() != value else value

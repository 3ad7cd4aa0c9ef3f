"""Overrides (`key=value`, `+key=value`, `~key`) as Hydra reads them: written with their quotes, and parsed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Quote, QuotedString
from hydra.errors import HydraException

from multitask_bert.errors import InputError

PLAIN = re.compile(r"[A-Za-z0-9_+./@%-]+")  # what may need no quotes


def as_value(value: Any) -> str:
    """A value written so that Hydra reads just this value: `a/b`, `null`, `[1, "a"]`, but `'1e-4'` for that text."""
    if not isinstance(value, str):
        return nested_value(value)
    return value if PLAIN.fullmatch(value) and read_value(value) == value else _quoted(value, Quote.single)


def as_word(key: str, value: object) -> str:
    """`key=value` as it is typed in a shell, so that Hydra reads the value as text."""
    word = f"{key}={as_value(str(value))}"
    return f'"{word}"' if shlex.quote(word) != word and not set(word) & set('"$`\\!') else shlex.quote(word)


def read_value(text: str) -> Any:
    """What Hydra reads where an override has this text after its `=`; None also where it reads nothing."""
    with suppress(HydraException):
        return OverridesParser.create().parse_override(f"key={text}").value()
    return None


def without_quotes(value: Any) -> Any:
    """A parsed value, at any depth, with plain strings for those that stood in quotes, which Hydra's parser marks."""
    if isinstance(value, list):
        return list(map(without_quotes, value))
    if isinstance(value, dict):
        return {without_quotes(key): without_quotes(child) for key, child in value.items()}
    return value.text if isinstance(value, QuotedString) else value


def quote_compared_runs(arguments: Sequence[str]) -> list[str]:
    """The arguments of the command line, with quotes around the A,B of `action=compare run_dir=A,B`: without them,
    Hydra would read a sweep over two values. `run_dir=[A,B]` means the same.

    Also with other actions, which say that they need one run.
    """
    if {"-m", "--multirun"} & {*arguments}:
        return list(arguments)
    return [_with_quotes(argument) if argument.startswith("run_dir=") else argument for argument in arguments]


def _with_quotes(override: str) -> str:
    """`key=A,B` and `key=[A,B]` -> `key='A,B'`; a value that has quotes, or neither comma nor brackets, stays."""
    key, _, value = override.partition("=")
    if value.startswith("[") and value.endswith("]") and not set(value) & {*"'\""}:
        return f"{key}={_quoted(value[1:-1], Quote.single)}"
    return override if "," not in value or value[0] in "'\"[" else f"{key}={_quoted(value, Quote.single)}"


def keys_of(overrides: Iterable[str]) -> list[str]:
    """The keys and groups that are overridden: `["+a.b=1", "~c"]` -> `["a.b", "c"]`."""
    return [override.key_or_group for override in OverridesParser.create().parse_overrides(list(overrides))]


def swept_values(overrides: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Key and value of each alternative in a multirun: `["a=1,2", "b=3"]` -> `("a", 1), ("a", 2)`.

    The options that a `glob` stands for are left out: they are those of a group.

    Raises:
        InputError: values are to be drawn from an interval, which only a search does.
    """
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        if override.is_interval_sweep():
            raise InputError(
                f"{override.input_line}: without a search, a multirun needs the values themselves, as in "
                f"{override.key_or_group}=A,B; a search draws them: -m sweep=recipe {override.input_line}"
            )
        if override.is_discrete_sweep() and not isinstance(override.value(), Glob):
            for text in override.sweep_string_iterator():
                yield override.key_or_group, read_value(text)


def lies_in(key: str, names: Iterable[str]) -> str | None:
    """The one of `names` that a key or group is, or lies in; None: it lies in none."""
    return next((name for name in names if f"{key}.".startswith(f"{name}.")), None)


def nested_value(value: Any) -> str:
    """As `as_value`, but with double quotes around every string: studies keep lists and dicts as this text."""
    if isinstance(value, str):
        return _quoted(value, Quote.double)
    if isinstance(value, list):
        return f"[{', '.join(map(nested_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {nested_value(child)}' for key, child in value.items())}}}"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _quoted(text: str, quote: Quote) -> str:
    return QuotedString(text, quote).with_quotes()

"""The search space: dimensions over config keys, and how the values of a trial become Hydra overrides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
)
from omegaconf import DictConfig, OmegaConf

from multitask_bert.config.overrides import as_value, nested_value, read_value, without_quotes
from multitask_bert.config.sweep_config import SweepConfig
from multitask_bert.errors import InputError
from multitask_bert.trust.config_files import searched_key_problem

FIELD = "hydra.sweeper.space"
SHAPES = "give {low: …, high: …} (with log, step, type: float or int), or a list of choices"
WRITTEN = re.compile(r"""\[.*\]|\{.*\}|'.*'|".*\"""", re.DOTALL)  # a list, a dict or a quoted string, as in an override
Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Dimension:
    """The values that one config key may take: a range of numbers, or one of several choices."""

    key: str
    type: str  # float | int | categorical
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Scalar, ...] = ()
    overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by choice, where it stands for several

    def described(self) -> dict[str, Any]:
        """The dimension in JSON types, as the study keeps it."""
        if self.overrides:
            by_choice = {choice: list(overrides) for choice, overrides in self.overrides.items()}
            return {"type": self.type, "choices": list(self.choices), "overrides": by_choice}
        if self.type == "categorical":
            return {"type": self.type, "choices": list(self.choices)}
        return {"type": self.type, "low": self.low, "high": self.high, "log": self.log, "step": self.step}

    def probes(self) -> list[Scalar]:
        """Values whose configs are composed before the first trial: both ends, or every choice."""
        return list(self.choices) if self.type == "categorical" else [self.low, self.high]

    def holds(self, value: Any) -> bool:
        """Whether a trial could have this value."""
        if self.type == "categorical":
            return plain_choice(value) in self.choices
        if not isinstance(value, int | float) or self.low is None or self.high is None:
            return False
        offset = 0.0 if self.step is None else (value - self.low) / self.step
        return self.low <= value <= self.high and abs(offset - round(offset)) < 1e-6

    def grid(self) -> list[Scalar]:
        """All values, for a grid.

        Raises:
            InputError: a range without steps has infinitely many.
        """
        if self.type == "categorical":
            return list(self.choices)
        assert self.low is not None
        assert self.high is not None
        step = self.step or (1 if self.type == "int" else None)
        if step is None or self.log:
            raise InputError(
                f"{FIELD}.{self.key}: hydra.sweeper.sampler=grid needs every value; give a step (and no log), or a list"
            )
        low, high, exact = (Decimal(str(number)) for number in (self.low, self.high, step))  # 3 * 0.1 is not 0.3
        values = [low + exact * index for index in range(int((high - low) / exact) + 1)]
        return [int(value) if self.type == "int" else float(value) for value in values]


@dataclass(frozen=True)
class Request:
    """The search that `hydra.sweeper` and the command line ask for together."""

    dimensions: tuple[Dimension, ...]
    fixed: tuple[str, ...]  # overrides of every trial


def read_request(arguments: Sequence[str], sweeper: SweepConfig, config: DictConfig) -> Request:
    """Read the dimensions of `hydra.sweeper.space` and of sweeps on the command line; other arguments are fixed.

    The command line wins. `config`: composed without the space; says whether the numbers of a key are integers.

    Raises:
        InputError: a dimension is invalid, or there is none.
    """
    for key in sweeper.space:
        if (problem := searched_key_problem(str(key))) is not None:
            raise InputError(f"{FIELD}.{key}: {problem}")
    dimensions = {str(key): _read(str(key), value, config) for key, value in sweeper.space.items()}
    fixed = []
    for override in OverridesParser.create().parse_overrides(list(arguments)):
        key = override.get_key_element()
        for searched in [name for name in dimensions if name.lstrip("+") == key.lstrip("+~")]:
            del dimensions[searched]
        if override.is_sweep_override():
            dimensions[key] = _read_sweep(key, override, config)
        else:
            fixed.append(str(override.input_line))
    if not dimensions and sweeper.function is None and sweeper.arms is None:
        raise InputError(f"{FIELD}: is empty, so there is nothing to search; {SHAPES} per config key")
    return Request(tuple(dimensions[key] for key in sorted(dimensions)), tuple(fixed))


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """`{"optimizer.lr": 1e-4}` -> `["optimizer.lr=0.0001"]`, sorted by key.

    A string that reads as a list, a dict or a quoted string means just that: the choices of Optuna are scalars.
    """
    return [f"{key}={_as_text(values[key])}" for key in sorted(values)]


def overrides_with(dimensions: Iterable[Dimension], values: Mapping[str, Any]) -> list[str]:
    """The overrides of a trial with these values, which may be of other keys than the dimensions, too."""
    several = {dimension.key: dimension.overrides for dimension in dimensions if dimension.overrides}
    of_choices = [override for key in several for override in several[key][values[key]]]
    return of_choices + as_overrides({key: value for key, value in values.items() if key not in several})


def probe_overrides(dimensions: Iterable[Dimension]) -> list[list[str]]:
    """Overrides of the fewest configs that have both ends and every choice of each dimension."""
    dimensions = list(dimensions)
    probes = {dimension.key: dimension.probes() for dimension in dimensions}
    rows = max(map(len, probes.values()), default=1)
    return [
        overrides_with(dimensions, {key: values[row % len(values)] for key, values in probes.items()})
        for row in range(rows)
    ]


def _read(key: str, value: Any, config: DictConfig) -> Dimension:
    where = f"{FIELD}.{key}"
    if isinstance(value, list):
        return _categorical(where, key, value)
    if not isinstance(value, dict):
        raise InputError(f"{where}={value}: this is one value; {SHAPES}")
    if unknown := sorted(value.keys() - {"low", "high", "log", "step", "type", "choices"}):
        raise InputError(f"{where}.{unknown[0]}: no such key; {SHAPES}")
    if "choices" in value:
        return _categorical(where, key, value["choices"])
    low, high, step = (value.get(name) for name in ("low", "high", "step"))
    for name, number in (("low", low), ("high", high), *([("step", step)] if step is not None else [])):
        if not isinstance(number, int | float) or isinstance(number, bool):
            raise InputError(f"{where}.{name}={number}: must be a number; {SHAPES}")
    return _range(where, Dimension(key, _type(where, key, value, config), low, high, bool(value.get("log")), step))


def _read_sweep(key: str, override: Override, config: DictConfig) -> Dimension:
    """`key=a,b`, `key=range(1,8)`, `key=interval(0,1)` and `key=tag(log,interval(1e-5,1e-3))` on the command line."""
    sweep = override.value()
    if isinstance(sweep, ChoiceSweep):
        return _categorical(key, key, list(sweep.list))
    if isinstance(sweep, RangeSweep):
        return _categorical(key, key, list(override.sweep_iterator()))
    if isinstance(sweep, IntervalSweep):
        ends = {"low": sweep.start, "high": sweep.end, "log": "log" in sweep.tags}
        return _range(key, Dimension(key, "float", sweep.start, sweep.end, bool(ends["log"])))
    raise InputError(f"{override.input_line}: no such sweep is supported; write {key}=a,b or {key}=interval(0,1)")


def _categorical(where: str, key: str, choices: Any) -> Dimension:
    if not isinstance(choices, list) or not choices:
        raise InputError(f"{where}: must be a list of at least one choice")
    plain = tuple(plain_choice(choice) for choice in choices)
    for choice, text in zip(choices, map(_as_text, plain), strict=True):
        if repr(read_value(text)) != repr(without_quotes(choice)):
            raise InputError(
                f"{where}: {without_quotes(choice)!r} cannot be written as an override (the keys of a dict are words "
                f"of ASCII letters, digits and _); put it into a file of a config group, and search the file's name"
            )
    if len(set(map(_as_text, plain))) < len(plain):
        raise InputError(f"{where}: a choice is listed twice")
    return Dimension(key, "categorical", choices=plain)


def _range(where: str, found: Dimension) -> Dimension:
    assert found.low is not None
    assert found.high is not None
    if not found.low < found.high:
        raise InputError(f"{where}: low={found.low:g} must be less than high={found.high:g}")
    if found.log and (found.low <= 0 or found.step is not None):
        raise InputError(f"{where}: with log, low must be over 0 and there can be no step")
    if found.step is not None and found.step <= 0:
        raise InputError(f"{where}.step={found.step:g}: must be over 0")
    return found


def _type(where: str, key: str, value: Mapping[str, Any], config: DictConfig) -> str:
    """The given type; without one, float if one of the numbers or the config's value is a float, else int."""
    numbers = [value.get(name) for name in ("low", "high", "step")]
    named = value.get("type")
    if named not in (None, "float", "int"):
        raise InputError(f"{where}.type={named}: choose float or int")
    has_fraction = any(isinstance(number, float) for number in numbers)
    if named == "int" and has_fraction:
        raise InputError(f"{where}: type: int needs whole numbers")
    is_float = has_fraction or isinstance(OmegaConf.select(config, key, throw_on_missing=False), float)
    return named or ("float" if is_float else "int")


def plain_choice(value: Any) -> Scalar:
    """The choice as a scalar, for Optuna; a list, a dict, or a string that looks like one, as text of an override."""
    value = without_quotes(value)
    if value is None or isinstance(value, int | float | bool):
        return value
    if isinstance(value, list | dict) or WRITTEN.fullmatch(str(value)):
        return nested_value(value)
    return str(value)


def _as_text(value: Scalar) -> str:
    """A choice as an override has it; a string that looks like a list, a dict or a quoted string is one already."""
    return value if isinstance(value, str) and WRITTEN.fullmatch(value) else as_value(value)

"""Samplers and pruners by name: Optuna's classes, and what each cannot do."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna import pruners, samplers
from optuna.exceptions import ExperimentalWarning

from multitask_bert.config.tree import nearest
from multitask_bert.errors import InputError
from multitask_bert.sweeps.pruning import RankPruner
from multitask_bert.sweeps.settings import MAXIMIZE, MINIMIZE, SweepConfig
from multitask_bert.sweeps.space import FIELD, Dimension

SAMPLERS: dict[str, Callable[..., samplers.BaseSampler]] = {
    "tpe": samplers.TPESampler,
    "gp": samplers.GPSampler,
    "cmaes": samplers.CmaEsSampler,
    "random": samplers.RandomSampler,
    "grid": samplers.GridSampler,
    "nsga2": samplers.NSGAIISampler,
}
PRUNERS: dict[str, Callable[..., pruners.BasePruner]] = {
    "rank": RankPruner,
    "median": pruners.MedianPruner,
    "successive_halving": pruners.SuccessiveHalvingPruner,
    "hyperband": pruners.HyperbandPruner,
    "wilcoxon": pruners.WilcoxonPruner,
    "none": pruners.NopPruner,
}
FOR_ONE_OBJECTIVE = ("cmaes",)
WHERE = "hydra.sweeper"


def check_methods(settings: SweepConfig, dimensions: Sequence[Dimension]) -> None:
    """Refuse what cannot be searched like this; what needs no study to be seen.

    Raises:
        InputError: with the field and the way out.
    """
    _check_numbers(settings)
    _known(f"{WHERE}.sampler", settings.sampler, SAMPLERS)
    _known(f"{WHERE}.pruner", settings.pruner_name, PRUNERS)
    metrics, directions = settings.metrics, settings.directions
    if not metrics or len(set(metrics)) < len(metrics):
        raise InputError(f"{WHERE}.metric={metrics}: name one metric, or a list of different ones")
    for direction in directions:
        _known(f"{WHERE}.direction", direction, (MAXIMIZE, MINIMIZE))
    if len(directions) != len(metrics):
        raise InputError(f"{WHERE}.direction: {len(directions)} for {len(metrics)} metrics; give one for each, or null")
    if len(metrics) > 1 and settings.sampler in FOR_ONE_OBJECTIVE:
        able = ", ".join(name for name in SAMPLERS if name not in FOR_ONE_OBJECTIVE)
        raise InputError(f"{WHERE}.sampler={settings.sampler}: searches for one metric only; for several choose {able}")
    if len(metrics) > 1 and settings.pruner_name != "none":
        raise InputError(
            f"{WHERE}.pruner={settings.pruner}: nothing can be pruned for several metrics; "
            f"set {WHERE}.pruner=none, or name one metric"
        )
    if settings.pruner_name == "wilcoxon" and settings.seeds < 2:
        raise InputError(f"{WHERE}.pruner=wilcoxon: compares seeds; set {WHERE}.seeds to 2 or more, or use median")
    _check_sampler(settings, dimensions)
    make_pruner(settings)
    make_sampler(settings, dimensions, num_trials=0)


def make_sampler(settings: SweepConfig, dimensions: Sequence[Dimension], *, num_trials: int) -> samplers.BaseSampler:
    """The sampler for the next proposal of a study of `num_trials`.

    Its seed moves with the study: a sampler that began anew with the same one would propose the same again. Studies of
    neighbouring seeds have nothing in common.
    """
    options = dict(settings.sampler_options)
    seed = int(np.random.SeedSequence((settings.seed, num_trials)).generate_state(1)[0])
    if settings.sampler == "grid":
        options["search_space"] = {dimension.key: dimension.grid() for dimension in dimensions}
        seed = settings.seed  # it numbers the points of the grid, which must be the same numbers each time
    elif settings.sampler == "tpe":
        options.setdefault("constant_liar", True)  # keep away from what runs at the same time
    elif settings.sampler in ("cmaes", "gp"):
        options.setdefault("warn_independent_sampling", False)
    made: samplers.BaseSampler = _made(
        f"{WHERE}.sampler_options", SAMPLERS[settings.sampler], {"seed": seed, **options}
    )
    return made


def make_pruner(settings: SweepConfig) -> pruners.BasePruner:
    made: pruners.BasePruner = _made(f"{WHERE}.pruner_options", PRUNERS[settings.pruner_name], settings.pruner_options)
    return made


def grid_size(dimensions: Sequence[Dimension]) -> int:
    size = 1
    for dimension in dimensions:
        size *= len(dimension.grid())
    return size


def _check_numbers(settings: SweepConfig) -> None:
    for name, least in (("n_trials", 1), ("seeds", 1), ("max_failures", 0), ("n_jobs", 1), ("seed", 0)):
        value = getattr(settings, name)
        if value is not None and value < least:
            raise InputError(f"{WHERE}.{name}={value}: must be at least {least}")


def _check_sampler(settings: SweepConfig, dimensions: Sequence[Dimension]) -> None:
    if settings.sampler == "grid" and settings.function is not None:
        raise InputError(f"{WHERE}.sampler=grid: cannot know the values of {WHERE}.function; choose another sampler")
    if settings.sampler == "cmaes":
        choices = [dimension.key for dimension in dimensions if dimension.type == "categorical"]
        if len(choices) == len(dimensions):
            raise InputError(f"{FIELD}: {WHERE}.sampler=cmaes needs a range of numbers among them; choose tpe")


def _known(field: str, value: str, names: Mapping[str, Any] | Sequence[str]) -> None:
    if value not in names:
        raise InputError(f"{field}={value}: choose one of {', '.join(names)}")


def _made(field: str, make: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    known = [name for name in inspect.signature(make).parameters if name != "self"]
    for name in options:
        if name not in known:
            near = nearest(name, known)
            raise InputError(f"{field}.{name}: no such option; " + (f"did you mean {near}?" if near else _list(known)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return make(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"{field}: {error}") from error


def _list(names: Sequence[str]) -> str:
    return f"there are: {', '.join(names)}"

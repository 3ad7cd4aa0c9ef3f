"""Samplers and pruners by name, and which searches they cannot do."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna import pruners, samplers
from optuna.exceptions import ExperimentalWarning

from multitask_bert.config.setting import value_problems
from multitask_bert.config.sweep_config import MAXIMIZE, MINIMIZE, SweepConfig
from multitask_bert.config.tree import nearest
from multitask_bert.errors import InputError
from multitask_bert.sweeps.rank_pruner import RankPruner
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


def check_sampler_and_pruner(sweeper: SweepConfig, dimensions: Sequence[Dimension]) -> None:
    """Refuse a sampler or pruner that cannot do this search.

    Raises:
        InputError: with the field, its value and the way out.
    """
    for problem in value_problems(sweeper, f"{WHERE}."):
        raise InputError(problem)
    metrics, directions = sweeper.metrics, sweeper.directions
    if not metrics or len(set(metrics)) < len(metrics):
        raise InputError(f"{WHERE}.metric={metrics}: name one metric, or a list of different metrics")
    for direction in directions:
        _known(f"{WHERE}.direction", direction, (MAXIMIZE, MINIMIZE))
    if len(directions) != len(metrics):
        raise InputError(f"{WHERE}.direction: {len(directions)} for {len(metrics)} metrics; give one for each, or null")
    if len(metrics) > 1 and sweeper.sampler in FOR_ONE_OBJECTIVE:
        able = ", ".join(name for name in SAMPLERS if name not in FOR_ONE_OBJECTIVE)
        raise InputError(
            f"{WHERE}.sampler={sweeper.sampler}: searches for one metric only; for several metrics choose {able}"
        )
    if len(metrics) > 1 and sweeper.pruner_name != "none":
        raise InputError(
            f"{WHERE}.pruner={sweeper.pruner}: there is no pruning with several metrics; "
            f"set {WHERE}.pruner=none, or name one metric"
        )
    if sweeper.pruner_name == "wilcoxon" and sweeper.seeds < 2:
        raise InputError(f"{WHERE}.pruner=wilcoxon: compares seeds; set {WHERE}.seeds to 2 or more, or use median")
    _check_sampler(sweeper, dimensions)
    make_pruner(sweeper)
    make_sampler(sweeper, dimensions, num_trials=0)


def make_sampler(sweeper: SweepConfig, dimensions: Sequence[Dimension], *, num_trials: int) -> samplers.BaseSampler:
    """The sampler for the next proposal in a study of `num_trials`.

    Its seed depends on the number of trials: a new sampler with the same seed would propose the same values again.
    Studies with neighbouring seeds do not share proposals.
    """
    options = dict(sweeper.sampler_options)
    seed = int(np.random.SeedSequence((sweeper.seed, num_trials)).generate_state(1)[0])
    if sweeper.sampler == "grid":
        options["search_space"] = {dimension.key: dimension.grid() for dimension in dimensions}
        seed = sweeper.seed  # it numbers the points of the grid, which must stay the same
    elif sweeper.sampler == "tpe":
        options.setdefault("constant_liar", True)  # propose no values close to those of trials that run now
    elif sweeper.sampler in ("cmaes", "gp"):
        options.setdefault("warn_independent_sampling", False)
    made: samplers.BaseSampler = _made(f"{WHERE}.sampler_options", SAMPLERS[sweeper.sampler], {"seed": seed, **options})
    return made


def make_pruner(sweeper: SweepConfig) -> pruners.BasePruner:
    made: pruners.BasePruner = _made(f"{WHERE}.pruner_options", PRUNERS[sweeper.pruner_name], sweeper.pruner_options)
    return made


def grid_size(dimensions: Sequence[Dimension]) -> int:
    size = 1
    for dimension in dimensions:
        size *= len(dimension.grid())
    return size


def _check_sampler(sweeper: SweepConfig, dimensions: Sequence[Dimension]) -> None:
    if sweeper.sampler == "grid" and sweeper.function is not None:
        raise InputError(f"{WHERE}.sampler=grid: cannot know the values of {WHERE}.function; choose another sampler")
    if sweeper.sampler == "cmaes":
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

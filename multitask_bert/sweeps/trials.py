"""The trials of a study: which ones count, how a new one is asked for, and how a dead one is retried."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from multitask_bert.config.sweep_config import HAS_CONFIG_VALUES, SweepConfig
from multitask_bert.errors import InputError
from multitask_bert.sweeps.processes import is_alive, is_here, this_process
from multitask_bert.sweeps.samplers_and_pruners import make_sampler
from multitask_bert.sweeps.space import Dimension, overrides_with
from multitask_bert.sweeps.study import TRIAL_FOLDER, database_of

log = logging.getLogger(__name__)

MAX_TRIES = 3  # of values whose process dies each time, as when memory runs out; then the trial counts as failed
SECONDS = "seconds"  # user attribute: duration of the job
RETRY_OF = "retry_of"  # user attribute: number of the dead trial whose values this one has

Define = Callable[[BaseTrial], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Counts:
    """Numbers of trials by state, without those that were retried."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.failed


def counted_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: all that started, without those that died and were retried."""
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs[RETRY_OF] for trial in trials if RETRY_OF in trial.user_attrs}
    return [trial for trial in trials if trial.number not in retried and trial.state != TrialState.WAITING]


def seconds_of(trial: FrozenTrial) -> float:
    """Duration of the trial as its job measured it, else from the timestamps in the study; 0 unless it ended."""
    by_clock = trial.duration.total_seconds() if trial.duration is not None else 0.0
    return float(trial.user_attrs.get(SECONDS, max(0.0, by_clock)))


def counts_of(study: optuna.Study) -> Counts:
    states = [trial.state for trial in counted_trials(study)]
    return Counts(
        complete=states.count(TrialState.COMPLETE), pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL), running=states.count(TrialState.RUNNING),
    )  # fmt: skip


def ask(
    study: optuna.Study, sweeper: SweepConfig, dimensions: Sequence[Dimension], define: Define | None
) -> tuple[Trial, list[str]]:
    """Ask for the next trial, and give its overrides: values to retry, else a proposal of the sampler."""
    num_trials = len(study.get_trials(deepcopy=False))
    study.sampler = make_sampler(sweeper, dimensions, num_trials=num_trials)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Heartbeat of storage")  # the job sends it
        trial = study.ask({dimension.key: distribution_of(dimension) for dimension in dimensions})
    if unknown := sorted(trial.params.keys() - {dimension.key for dimension in dimensions}):
        # A trial that somebody else enqueued: its parameters would become arguments of a command.
        fail(
            study, study.get_trials(deepcopy=False)[trial.number], "its parameters are not in the space of this search"
        )
        raise InputError(
            f"trial {trial.number} of study {study.study_name} has {', '.join(unknown)}, which this search does not "
            f"change; name another study with hydra.sweeper.study=NAME"
        )
    trial.set_user_attr("process", this_process())
    overrides = overrides_of(trial, dimensions, define)
    study.sampler = optuna.samplers.RandomSampler()  # a grid sampler would stop the study, whose loop is ours
    trial.set_user_attr("overrides", overrides)
    trial.set_user_attr("folder", TRIAL_FOLDER.format(number=trial.number))
    return trial, overrides


def overrides_of(trial: Any, dimensions: Sequence[Dimension], define: Define | None) -> list[str]:
    """Overrides of the trial's parameters, and those that `define` returns (None: all parameters are config keys)."""
    fixed = dict(trial.params)
    more = define(trial) if define is not None else {}
    if more is not None and not isinstance(more, Mapping):
        raise InputError(f"hydra.sweeper.function: must return a dict of config keys and values, or None; got {more!r}")
    return overrides_with(dimensions, dict(trial.params) if more is None else {**fixed, **more})


def distribution_of(dimension: Dimension) -> BaseDistribution:
    if dimension.type == "categorical":
        return CategoricalDistribution(dimension.choices)
    low, high, step = dimension.low, dimension.high, dimension.step
    assert low is not None
    assert high is not None
    if dimension.type == "int":
        return IntDistribution(int(low), int(high), log=dimension.log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=dimension.log, step=step)


def load_function(dotted: str) -> Define:
    """Import `module.function`.

    Raises:
        InputError: it cannot be imported, or is not callable.
    """
    module, _, name = dotted.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"hydra.sweeper.function={dotted}: cannot be imported ({error}); name module.function of a module that "
            f"Python finds (PYTHONPATH=FOLDER)"
        ) from error
    if not callable(found):
        raise InputError(f"hydra.sweeper.function={dotted}: is not a function")
    define: Define = found
    return define


def retry_the_dead(study: optuna.Study, *, take_over: bool) -> list[int]:
    """Enqueue the values of running trials whose process is dead again, fail those trials, and return their numbers.

    The sweep's lock must be held.
    """
    stale = _without_heartbeat(study)
    dead = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if trial._trial_id in stale or _is_dead(trial, take_over=take_over)
    ]
    for trial in dead:
        retry(study, trial)
    return [trial.number for trial in dead]


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Enqueue the values of the trial again, then fail it; if killed in between, the next controller fails it."""
    trials = study.get_trials(deepcopy=False)
    tries = 1 + _num_before(trials, trial)
    is_queued = any(other.user_attrs.get(RETRY_OF) == trial.number for other in trials)
    if tries < MAX_TRIES and not is_queued:
        queued = trial.system_attrs.get("fixed_params", {})  # a trial that died early has no other values
        kept = {name: value for name, value in trial.user_attrs.items() if name == HAS_CONFIG_VALUES}
        study.enqueue_trial({**queued, **trial.params}, user_attrs={**kept, RETRY_OF: trial.number})
    fail(study, trial, f"its process died ({tries} of {MAX_TRIES} tries)")


def fail(study: optuna.Study, trial: FrozenTrial, error: str) -> None:
    """Record the trial as failed, unless its result was told meanwhile."""
    try:
        Trial(study, trial._trial_id).set_user_attr("error", error)
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
        log.info("trial %d finished meanwhile", trial.number)


def runs_elsewhere(study: optuna.Study) -> list[FrozenTrial]:
    """Running trials of other machines, of which nothing is known."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if not is_here(trial.user_attrs.get("process", {}))]


def _num_before(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> int:
    """How many earlier trials had the same values and died."""
    earlier = trial.user_attrs.get(RETRY_OF)
    return 0 if earlier is None else 1 + _num_before(trials, trials[earlier])


def _is_dead(trial: FrozenTrial, *, take_over: bool) -> bool:
    process = trial.user_attrs.get("process")
    if process is None:  # its controller died while it asked for the trial: we hold the lock, so none is asking now
        return True
    return not is_alive(process) if is_here(process) else take_over


def _without_heartbeat(study: optuna.Study) -> set[int]:
    database = database_of(study._storage)
    # `optuna.storages.fail_stale_trials` would fail these trials before their values are enqueued again.
    return set() if database is None else set(database._get_stale_trial_ids(study._study_id))

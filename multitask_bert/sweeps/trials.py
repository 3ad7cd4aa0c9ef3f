"""The trials of a study: which count, which are dead and tried again, and how a new one is asked for."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from multitask_bert.errors import InputError
from multitask_bert.sweeps.liveness import is_alive, is_here, this_process
from multitask_bert.sweeps.methods import make_sampler
from multitask_bert.sweeps.settings import SweepConfig
from multitask_bert.sweeps.space import Dimension, as_overrides
from multitask_bert.sweeps.study import TRIAL_FOLDER

log = logging.getLogger(__name__)

MAX_TRIES = 3  # of one choice of values whose process dies, as where memory ends; then it counts as failed
SECONDS = "seconds"  # user attribute: how long its job took
RETRY_OF = "retry_of"  # user attribute: the number of the dead trial whose values this one has

Define = Callable[[BaseTrial], Mapping[str, Any] | None]


@dataclass(frozen=True)
class Counts:
    """Trials by how they ended; those that were tried again are in none."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0

    @property
    def finished(self) -> int:
        return self.complete + self.pruned + self.failed


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: all that were begun, without those whose process died and that were tried again."""
    trials = study.get_trials(deepcopy=False)
    retried = {trial.user_attrs[RETRY_OF] for trial in trials if RETRY_OF in trial.user_attrs}
    return [trial for trial in trials if trial.number not in retried and trial.state != TrialState.WAITING]


def seconds_of(trial: FrozenTrial) -> float:
    """How long it took, as its job has measured; else by the times of day in the study. 0 where it did not end."""
    by_clock = trial.duration.total_seconds() if trial.duration is not None else 0.0
    return float(trial.user_attrs.get(SECONDS, max(0.0, by_clock)))


def count(study: optuna.Study) -> Counts:
    states = [trial.state for trial in counted(study)]
    return Counts(
        complete=states.count(TrialState.COMPLETE), pruned=states.count(TrialState.PRUNED),
        failed=states.count(TrialState.FAIL), running=states.count(TrialState.RUNNING),
    )  # fmt: skip


def ask(
    study: optuna.Study, settings: SweepConfig, dimensions: Sequence[Dimension], define: Define | None
) -> tuple[Trial, list[str]]:
    """The next trial and its overrides: one that is to be tried again, else what the sampler proposes."""
    num_trials = len(study.get_trials(deepcopy=False))
    study.sampler = make_sampler(settings, dimensions, num_trials=num_trials)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Heartbeat of storage")  # it is the job that sends it
        trial = study.ask({dimension.key: distribution_of(dimension) for dimension in dimensions})
    if unknown := sorted(trial.params.keys() - {dimension.key for dimension in dimensions}):
        # A queued trial of somebody else's storage: its parameters would be typed words of a command.
        fail(study, study.get_trials(deepcopy=False)[trial.number], "its parameters are not of this search")
        raise InputError(
            f"trial {trial.number} of study {study.study_name} waits with {', '.join(unknown)}, which this search does "
            f"not change; name another study with hydra.sweeper.study=NAME"
        )
    trial.set_user_attr("process", this_process())
    overrides = overrides_of(trial, define)
    study.sampler = optuna.samplers.RandomSampler()  # that of a grid would want to stop the loop, which is ours
    trial.set_user_attr("overrides", overrides)
    trial.set_user_attr("folder", TRIAL_FOLDER.format(number=trial.number))
    return trial, overrides


def overrides_of(trial: Any, define: Define | None) -> list[str]:
    """What was chosen; and, where a function defines more, what it returns (None: its parameters are config keys)."""
    fixed = dict(trial.params)
    more = define(trial) if define is not None else {}
    if more is not None and not isinstance(more, Mapping):
        raise InputError(f"hydra.sweeper.function: must return a dict of config keys and values, or None; got {more!r}")
    return as_overrides(dict(trial.params) if more is None else {**fixed, **more})


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
    """`module.function` as Python imports it.

    Raises:
        InputError: it is not there.
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
        raise InputError(f"hydra.sweeper.function={dotted}: is no function")
    define: Define = found
    return define


def retry_the_dead(study: optuna.Study, *, take_over: bool, ours: Sequence[int] = ()) -> list[int]:
    """Give up the running trials whose process is dead, and queue their values again; the numbers of those.

    `ours`: trials of this process, which are its own business. To be called with the sweep's lock held.
    """
    stale = _without_sign_of_life(study)
    dead = [
        trial
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        if trial.number not in ours and (trial._trial_id in stale or _is_dead(trial, take_over=take_over))
    ]
    for trial in dead:
        retry(study, trial)
    return [trial.number for trial in dead]


def retry(study: optuna.Study, trial: FrozenTrial) -> None:
    """Queue it again, then give it up: killed in between, the next one does the rest."""
    trials = study.get_trials(deepcopy=False)
    tries = 1 + _num_before(trials, trial)
    is_queued = any(other.user_attrs.get(RETRY_OF) == trial.number for other in trials)
    if tries < MAX_TRIES and not is_queued:
        queued = trial.system_attrs.get("fixed_params", {})  # all that a trial has that died before it took them
        study.enqueue_trial({**queued, **trial.params}, user_attrs={RETRY_OF: trial.number})
    fail(study, trial, f"its process died ({tries} of {MAX_TRIES} tries)")


def fail(study: optuna.Study, trial: FrozenTrial, error: str) -> None:
    """Record it as failed, unless it told its result meanwhile."""
    try:
        Trial(study, trial._trial_id).set_user_attr("error", error)
        study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
        log.info("trial %d finished meanwhile", trial.number)


def runs_elsewhere(study: optuna.Study) -> list[FrozenTrial]:
    """Running trials of machines that cannot be asked."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial for trial in running if not is_here(trial.user_attrs.get("process", {}))]


def _num_before(trials: Sequence[FrozenTrial], trial: FrozenTrial) -> int:
    """How often the same values were tried before."""
    earlier = trial.user_attrs.get(RETRY_OF)
    return 0 if earlier is None else 1 + _num_before(trials, trials[earlier])


def _is_dead(trial: FrozenTrial, *, take_over: bool) -> bool:
    process = trial.user_attrs.get("process")
    if process is None:  # its controller died between two lines; the lock is ours, so nobody is there now
        return True
    return not is_alive(process) if is_here(process) else take_over


def _without_sign_of_life(study: optuna.Study) -> set[int]:
    storage: Any = study._storage
    backend = getattr(storage, "_backend", storage)
    # Optuna's own way fails such trials itself, before we could queue their values again.
    return set(backend._get_stale_trial_ids(study._study_id)) if isinstance(backend, RDBStorage) else set()

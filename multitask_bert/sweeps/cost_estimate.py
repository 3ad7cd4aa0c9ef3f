"""An estimate of the cost of a sweep: steps are counted over its space, speed is measured on this machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import optuna

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.sweeps.space import as_overrides
from multitask_bert.sweeps.spec import SweepSpec
from multitask_bert.sweeps.trials import distribution_of, overrides_of
from multitask_bert.utils.clock import rough_duration
from multitask_bert.utils.cost import Speed, Work

# Keys that do not change the number of steps or tokens.
WITHOUT_EFFECT = ("optimizer", "scheduler", "balancing", "model.dropout", "model.head_init")
NUM_SAMPLED = 8  # random configs of the space; their mean stands for the work of a usual trial
USUAL_SHARE = 0.5  # of the work of whole trials that a sweep with pruning does (docs/experiments.md, "Pruning")


class MeasureSpeed(Protocol):
    """Measures the speed of training and evaluating with a config, as in `training/cost.py`."""

    def __call__(self, config: ExperimentConfig, *, num_threads: int | None = None) -> Speed: ...


@dataclass(frozen=True)
class CostEstimate:
    """The cost of the trials that remain."""

    num_trials: int
    num_trainings: int  # a trial has one per seed
    least_steps: int  # of a training
    most_steps: int
    most_seconds: float  # of a training
    mean_steps: float  # of a training
    mean_seconds: float  # of a training
    num_jobs: int
    is_pruned: bool
    is_study: bool  # the trials are the arms of a study, whose steps are all known
    note: str  # where the speed was measured

    @property
    def num_in_a_row(self) -> int:
        """How many trainings follow each other: after trials side by side, the next begin when all have ended."""
        return math.ceil(self.num_trials / self.num_jobs) * (self.num_trainings // self.num_trials)

    def __str__(self) -> str:
        """For example `16 trials of 738 to 1,968 steps each: at most 31,488 steps, about 1.3 h; …`."""
        if self.is_study:
            runs = (
                f"{self.num_trials} arms over {self.num_trainings // self.num_trials} seeds: {self.num_trainings} runs"
            )
            in_all = f"{self.num_trainings * self.mean_steps:,.0f} steps"
            seconds = self.num_in_a_row * self.mean_seconds
            return f"{runs}, {in_all}, about {rough_duration(seconds)} ({self.note})"
        steps = f"{self.most_steps:,}"
        if self.least_steps < self.most_steps:
            steps = f"{self.least_steps:,} to {steps}"
        trials = f"{self.num_trials} {'trial' if self.num_trials == 1 else 'trials'}"
        per_trial = self.num_trainings // self.num_trials
        trials += f" of {per_trial} trainings" if per_trial > 1 else ""
        seconds = self.num_in_a_row * self.most_seconds
        most = f"at most {self.num_trainings * self.most_steps:,} steps, about {rough_duration(seconds)}"
        share = USUAL_SHARE if self.is_pruned else 1.0
        usual = ""
        if self.is_pruned or self.least_steps < self.most_steps:
            num_steps = float(f"{share * self.num_trainings * self.mean_steps:.2g}")
            seconds = share * self.num_in_a_row * self.mean_seconds
            how = "with pruning usually" if self.is_pruned else "usually"
            usual = f"; {how} {num_steps:,.0f} steps, {rough_duration(seconds)}"
        return f"{trials} of {steps} steps each: {most}{usual} ({self.note})"


def estimate_cost(
    spec: SweepSpec, num_trials: int, *, count_work: Callable[[ExperimentConfig], Work], measure_speed: MeasureSpeed
) -> CostEstimate:
    """Estimate the cost of `num_trials` more trials.

    Raises:
        InputError: data or weights cannot be loaded.
    """
    known: dict[tuple[str, ...], Work] = {}

    def work_of(overrides: Sequence[str]) -> Work:
        key = tuple(override for override in overrides if not override.startswith(WITHOUT_EFFECT))
        if key not in known:
            known[key] = count_work(spec.compose(key))
        return known[key]

    if spec.arms is not None:  # every trial is known
        sampled = extremes = [work_of(overrides) for overrides in spec.probes]
    else:
        sampled = [work_of(overrides) for overrides in _sampled(spec)]
        extremes = [work_of(overrides) for overrides in [*spec.probes, _longest(spec, work_of)]]
    speed = measure_speed(spec.config, num_threads=spec.threads_per_job)
    sweeper = spec.sweeper
    num_trainings = num_trials * sweeper.seeds
    works = sampled + extremes
    return CostEstimate(
        num_trials=num_trials,
        num_trainings=num_trainings,
        least_steps=min(work.num_steps for work in works),
        most_steps=max(work.num_steps for work in works),
        most_seconds=max(map(speed.seconds, works)),
        mean_steps=sum(work.num_steps for work in sampled) / len(sampled),
        mean_seconds=sum(map(speed.seconds, sampled)) / len(sampled),
        num_jobs=spec.num_jobs,
        is_study=spec.arms is not None,
        is_pruned=sweeper.pruner_name != "none" and sweeper.seeds == 1,
        note=f"measured on this machine with {speed.num_steps} steps"
        + (f" and one process; each trial has {spec.num_processes}" if spec.num_processes > 1 else "")
        + ("; the trials run on other machines" if spec.runs_elsewhere else "")
        + ("; without restarts" if spec.config.trainer.restart_collapsed else ""),
    )


def _sampled(spec: SweepSpec) -> list[list[str]]:
    """Overrides of random trials; the same ones at each call."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = {dimension.key: distribution_of(dimension) for dimension in spec.dimensions}
    return [overrides_of(study.ask(distributions), spec.dimensions, spec.define) for _ in range(NUM_SAMPLED)]


def _longest(spec: SweepSpec, work_of: Callable[[Sequence[str]], Work]) -> list[str]:
    """Overrides of the longest trial: of each dimension, the value with which the first probe has the most tokens."""
    longest = list(spec.probes[0])
    if spec.define is not None:  # its overrides do not follow from the dimensions
        return longest
    for dimension in spec.dimensions:
        choices = [as_overrides({dimension.key: value})[0] for value in dimension.probes()]
        others = [override for override in longest if override.partition("=")[0] != dimension.key]
        best = max(choices, key=lambda choice: work_of([*others, choice]).num_tokens)
        longest = sorted([*others, best])
    return longest

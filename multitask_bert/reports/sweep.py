"""The contents of an Optuna study as plain values; the study may be running, empty, or have failed trials only.

study -> `SweepReport` (here) -> plots (sweep_plots.py) -> page and files (sweep_page.py)
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

NUM_FOR_IMPORTANCES = 10  # complete trials; with fewer, even the order of the parameters is chance
STATES = {
    TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
    TrialState.RUNNING: "running", TrialState.WAITING: "waiting",
}  # fmt: skip
NUM_FOR_OUTLIERS, REACH = 8, 3.0  # fewest values with outliers; interquartile ranges beyond the worse quartile
NO_ERROR = "no error was recorded; the process may have died"


@dataclass(frozen=True)
class Parameter:
    """One parameter of the search space."""

    name: str  # config key
    type: str  # float | int | categorical
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = None
    choices: tuple[Any, ...] = ()

    @property
    def is_numeric(self) -> bool:
        return self.type != "categorical"


@dataclass(frozen=True)
class TrialReport:
    """One trial."""

    number: int
    state: str  # one of STATES
    values: list[float]  # by metric: the mean over seeds; empty unless the trial is complete
    deviations: list[float]  # by metric: sample standard deviation over seeds; empty with fewer than two
    seed_scores: dict[str, list[float]]  # by seed, then by metric
    params: dict[str, Any]
    overrides: list[str]
    folder: str | None  # name below the sweep's folder
    seconds: float | None  # None if the trial has not started
    steps: int | None  # training steps of all its seeds; None if unknown, as of a trial that failed or is running
    reports: dict[int, float]  # intermediate values, by step as `SweepReport.reports` says
    scores: dict[str, float]  # all metrics of the last evaluation
    collapsed: list[str]  # heads (task.head) that learned nothing in the best model
    error: str | None


@dataclass(frozen=True)
class SweepReport:
    """Everything that the page shows; `report.json` has the same fields."""

    study: str
    caveats: list[str]  # why the metric does not compare its trials
    written: str  # local time
    metrics: list[str]
    directions: list[str]  # maximize | minimize, by metric
    seeds: int  # trainings per trial
    conf_hash: str | None
    fixed_overrides: list[str]  # of every trial
    counts: dict[str, int]  # trials by state, without those that were retried
    num_tried_again: int
    num_collapsed: int  # trials with a collapsed head, pruned ones included
    reports: str  # unit of the steps of intermediate values: steps | permille (of a trial's own steps) | seeds
    training_steps: int  # of all trials together, as far as they are known
    training_seconds: float  # of all trials together
    elapsed_seconds: float  # from the first start to the last end, interruptions included
    parameters: list[Parameter]
    best: list[int]  # numbers of complete trials, best first; with several metrics, the Pareto front
    best_so_far: dict[int, float]  # by number of complete trial; empty with several metrics
    importances: dict[str, float]  # add up to 1, greatest first; if empty, `importances_note` says why
    importances_note: str
    trials: list[TrialReport]

    @property
    def best_trials(self) -> list[TrialReport]:
        by_number = {trial.number: trial for trial in self.trials}
        return [by_number[number] for number in self.best]

    def in_state(self, *states: str) -> list[TrialReport]:
        return [trial for trial in self.trials if trial.state in states]


def read_sweep(study: optuna.Study) -> SweepReport:
    """Read the study; nothing is written."""
    now, attributes = datetime.now(), study.user_attrs
    all_trials = study.get_trials(deepcopy=False)
    tried_again = {trial.user_attrs["retry_of"] for trial in all_trials if "retry_of" in trial.user_attrs}
    counted = [trial for trial in all_trials if trial.number not in tried_again]
    trials = [_read_trial(trial, now) for trial in counted]
    states = [trial.state for trial in trials]
    best = _best_first(study)
    importances, note = _importances(study)
    return SweepReport(
        study=study.study_name,
        caveats=list(attributes.get("caveats", [])),
        written=now.isoformat(sep=" ", timespec="seconds"),
        metrics=list(attributes.get("metrics") or _names(len(study.directions))),
        directions=[direction.name.lower() for direction in study.directions],
        seeds=int(attributes.get("seeds", 1)),
        conf_hash=attributes.get("conf_hash"),
        fixed_overrides=list(attributes.get("fixed_overrides", [])),
        counts={state: states.count(state) for state in STATES.values()},
        num_tried_again=len(tried_again),
        num_collapsed=sum(bool(trial.collapsed) for trial in trials),
        reports=attributes.get("reports") or ("seeds" if int(attributes.get("seeds", 1)) > 1 else "steps"),
        training_steps=sum(trial.steps or 0 for trial in trials),
        training_seconds=sum(trial.seconds or 0.0 for trial in trials),
        elapsed_seconds=_elapsed(counted, now),
        parameters=_parameters(attributes.get("space", {}), counted),
        best=[trial.number for trial in best],
        best_so_far=_best_so_far(study) if len(study.directions) == 1 else {},
        importances=importances,
        importances_note=note,
        trials=trials,
    )


def range_without_outliers(values: Sequence[float], direction: str) -> tuple[float, float]:
    """Lowest and highest of the finite values, leaving out those that are far worse than the others."""
    known = np.array([value for value in values if math.isfinite(value)] or [0.0])
    first, third = np.percentile(known, [25, 75])
    reach = REACH * (third - first)
    if len(known) >= NUM_FOR_OUTLIERS and reach > 0:
        known = known[known >= first - reach] if direction == "maximize" else known[known <= third + reach]
    return float(known.min()), float(known.max())


def _names(num_metrics: int) -> list[str]:
    return ["value"] if num_metrics == 1 else [f"value {index + 1}" for index in range(num_metrics)]


def _read_trial(trial: FrozenTrial, now: datetime) -> TrialReport:
    attributes, state = trial.user_attrs, STATES[trial.state]
    seed_scores = _by_seed(attributes.get("seed_scores", {}))
    error = str(attributes.get("error") or NO_ERROR) if state == "failed" else None
    return TrialReport(
        number=trial.number,
        state=state,
        values=list(trial.values) if state == "complete" else [],
        deviations=[statistics.stdev(own) for own in zip(*seed_scores.values(), strict=True)]
        if len(seed_scores) > 1
        else [],
        seed_scores=seed_scores,
        params=dict(trial.params),
        overrides=list(attributes.get("overrides", [])),
        folder=attributes.get("folder"),
        seconds=attributes.get("seconds", _elapsed([trial], now)) if trial.datetime_start is not None else None,
        steps=attributes.get("steps"),
        reports=dict(sorted(trial.intermediate_values.items())),
        scores=dict(attributes.get("scores", {})),
        collapsed=list(attributes.get("collapsed", [])),
        error=None if error is None else error.encode(errors="replace").decode(),
    )


def _by_seed(scores: Mapping[str, Any] | Sequence[Any]) -> dict[str, list[float]]:
    """Scores by seed; by position (`#1`) in studies that kept a list."""
    if not isinstance(scores, Mapping):
        scores = {f"#{position}": score for position, score in enumerate(scores, start=1)}
    return {str(seed): list(own) if isinstance(own, list) else [own] for seed, own in scores.items()}


def _elapsed(trials: Sequence[FrozenTrial], now: datetime) -> float:
    """Seconds from the first start to the last end, or to now if a trial is running."""
    started = [(trial.datetime_start, trial.datetime_complete or now) for trial in trials if trial.datetime_start]
    seconds = (max(end for _, end in started) - min(start for start, _ in started)).total_seconds() if started else 0.0
    return max(0.0, seconds)  # the clock may have been set back


def _parameters(space: Mapping[str, Mapping[str, Any]], trials: Sequence[FrozenTrial]) -> list[Parameter]:
    """The parameters of the space, then those that `hydra.sweeper.function` suggested."""
    described = {name: dict(dimension) for name, dimension in space.items()}
    for trial in trials:
        described |= {name: _described(distribution) for name, distribution in trial.distributions.items()}
    return [
        Parameter(
            name, dimension.get("type", "float"), dimension.get("low"), dimension.get("high"),
            bool(dimension.get("log")), dimension.get("step"), tuple(dimension.get("choices", ())),
        )
        for name, dimension in described.items()
    ]  # fmt: skip


def _described(distribution: BaseDistribution) -> dict[str, Any]:
    name = "int" if isinstance(distribution, IntDistribution) else "float"
    if isinstance(distribution, CategoricalDistribution):
        name = "categorical"
    return {"type": name, **distribution._asdict()}


def _complete(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def _best_first(study: optuna.Study) -> list[FrozenTrial]:
    complete = _complete(study)
    if complete and len(study.directions) > 1:
        complete = study.best_trials
    is_highest_best = study.directions[0] == StudyDirection.MAXIMIZE
    return sorted(complete, key=lambda trial: trial.values[0], reverse=is_highest_best)


def _best_so_far(study: optuna.Study) -> dict[int, float]:
    better = max if study.direction == StudyDirection.MAXIMIZE else min
    found: dict[int, float] = {}
    for trial in _complete(study):
        found[trial.number] = better([*list(found.values())[-1:], trial.values[0]])
    return found


def _importances(study: optuna.Study) -> tuple[dict[str, float], str]:
    """Importances by fANOVA, and a note: why there are none, or which parameters were left out.

    docs/sweep_reports.md says why fANOVA.
    """
    complete = [trial for trial in _complete(study) if all(map(math.isfinite, trial.values))]
    if len(study.directions) > 1:
        return {}, "Importances are of one metric; this study has several."
    if len(complete) < NUM_FOR_IMPORTANCES:
        return (
            {},
            f"{NUM_FOR_IMPORTANCES} complete trials are needed to estimate importances; there are {len(complete)}.",
        )
    if len({trial.values[0] for trial in complete}) == 1:
        return {}, "All complete trials have the same value, so no parameter mattered."
    shared = set.intersection(*(set(trial.params) for trial in complete))
    varied = sorted(name for name in shared if len({trial.params[name] for trial in complete}) > 1)
    if not varied:
        return {}, "No parameter of all complete trials took more than one value."
    low, high = range_without_outliers([trial.values[0] for trial in complete], study.direction.name.lower())
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0), params=varied,
            target=lambda trial: min(max(trial.values[0], low), high),  # or one diverged trial would decide alone
        )  # fmt: skip
    except RuntimeError as error:  # no tree of the forest could split
        return {}, f"Importances could not be estimated: {error}"
    left_out = sorted({name for trial in complete for name in trial.params} - set(varied))
    note = f"Left out, since some trials lack them or they never varied: {', '.join(left_out)}." if left_out else ""
    return {name: float(share) for name, share in found.items()}, note

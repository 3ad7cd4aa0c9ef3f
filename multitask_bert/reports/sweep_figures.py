"""What an Optuna study holds, as plain figures: finished or not, empty, or of failed trials only."""

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

NUM_FOR_IMPORTANCES = 10  # complete trials; of fewer, even the order of the parameters is chance
STATES = {
    TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
    TrialState.RUNNING: "running", TrialState.WAITING: "waiting",
}  # fmt: skip
NUM_TO_CUT, REACH = 8, 3.0  # values from which on outliers are cut; interquartile ranges beyond the worse quartile
NO_ERROR = "no error was recorded; the process may have died"


@dataclass(frozen=True)
class Parameter:
    """One dimension of the search space."""

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
class TrialFigures:
    """One trial."""

    number: int
    state: str  # one of STATES
    values: list[float]  # by metric: the mean over seeds; empty where the trial is not complete
    deviations: list[float]  # by metric: sample standard deviation over seeds; empty with fewer than two
    seed_scores: dict[str, list[float]]  # by seed, then by metric
    params: dict[str, Any]
    overrides: list[str]
    folder: str | None  # below the sweep's
    seconds: float | None  # None: not begun
    reports: dict[int, float]  # by step, permille or seed, as `SweepReport.reports` says: what the pruner saw
    scores: dict[str, float]  # every metric of the last evaluation
    collapsed: list[str]  # task.head that has learnt nothing in the best model
    error: str | None


@dataclass(frozen=True)
class SweepReport:
    """Everything that the page shows; `report.json` has the same fields."""

    study: str
    caveats: list[str]  # why its trials cannot be compared by the metric
    written: str  # local time
    metrics: list[str]
    directions: list[str]  # maximize | minimize, by metric
    seeds: int  # trainings per trial
    conf_hash: str | None
    fixed_overrides: list[str]  # of every trial
    counts: dict[str, int]  # by state; those that were tried again are in none
    num_tried_again: int
    num_collapsed: int  # trials, pruned ones among them, of whose best model a head has learnt nothing
    reports: str  # what the numbers of the trials' reports count: steps | permille (of a trial's own steps) | seeds
    training_seconds: float  # of all trials together
    elapsed_seconds: float  # from the first start to the last end, pauses included
    parameters: list[Parameter]
    best: list[int]  # numbers of complete trials, best first; with several metrics, those that no other one beats
    best_so_far: dict[int, float]  # by number of complete trial; empty with several metrics
    importances: dict[str, float]  # shares that add up to 1, greatest first; empty where `importances_note` says why
    importances_note: str
    trials: list[TrialFigures]

    @property
    def best_trials(self) -> list[TrialFigures]:
        by_number = {trial.number: trial for trial in self.trials}
        return [by_number[number] for number in self.best]

    def in_state(self, *states: str) -> list[TrialFigures]:
        return [trial for trial in self.trials if trial.state in states]


def read_sweep(study: optuna.Study) -> SweepReport:
    """The figures alone; writes nothing."""
    now, about = datetime.now(), study.user_attrs
    all_trials = study.get_trials(deepcopy=False)
    tried_again = {trial.user_attrs["retry_of"] for trial in all_trials if "retry_of" in trial.user_attrs}
    counted = [trial for trial in all_trials if trial.number not in tried_again]
    trials = [_read_trial(trial, now) for trial in counted]
    states = [trial.state for trial in trials]
    best = _best_first(study)
    importances, note = _importances(study)
    return SweepReport(
        study=study.study_name,
        caveats=list(about.get("caveats", [])),
        written=now.isoformat(sep=" ", timespec="seconds"),
        metrics=list(about.get("metrics") or _names(len(study.directions))),
        directions=[direction.name.lower() for direction in study.directions],
        seeds=int(about.get("seeds", 1)),
        conf_hash=about.get("conf_hash"),
        fixed_overrides=list(about.get("fixed_overrides", [])),
        counts={state: states.count(state) for state in STATES.values()},
        num_tried_again=len(tried_again),
        num_collapsed=sum(bool(trial.collapsed) for trial in trials),
        reports=about.get("reports") or ("seeds" if int(about.get("seeds", 1)) > 1 else "steps"),
        training_seconds=sum(trial.seconds or 0.0 for trial in trials),
        elapsed_seconds=_elapsed(counted, now),
        parameters=_parameters(about.get("space", {}), counted),
        best=[trial.number for trial in best],
        best_so_far=_best_so_far(study) if len(study.directions) == 1 else {},
        importances=importances,
        importances_note=note,
        trials=trials,
    )


def near(values: Sequence[float], direction: str) -> tuple[float, float]:
    """Lowest and highest of the finite values, without those at the worse end that lie far beyond the others."""
    known = np.array([value for value in values if math.isfinite(value)] or [0.0])
    first, third = np.percentile(known, [25, 75])
    reach = REACH * (third - first)
    if len(known) >= NUM_TO_CUT and reach > 0:
        known = known[known >= first - reach] if direction == "maximize" else known[known <= third + reach]
    return float(known.min()), float(known.max())


def _names(num_metrics: int) -> list[str]:
    return ["value"] if num_metrics == 1 else [f"value {place + 1}" for place in range(num_metrics)]


def _read_trial(trial: FrozenTrial, now: datetime) -> TrialFigures:
    about, state = trial.user_attrs, STATES[trial.state]
    seed_scores = _by_seed(about.get("seed_scores", {}))
    error = str(about.get("error") or NO_ERROR) if state == "failed" else None
    return TrialFigures(
        number=trial.number,
        state=state,
        values=list(trial.values) if state == "complete" else [],
        deviations=[statistics.stdev(own) for own in zip(*seed_scores.values(), strict=True)]
        if len(seed_scores) > 1
        else [],
        seed_scores=seed_scores,
        params=dict(trial.params),
        overrides=list(about.get("overrides", [])),
        folder=about.get("folder"),
        seconds=about.get("seconds", _elapsed([trial], now)) if trial.datetime_start is not None else None,
        reports=dict(sorted(trial.intermediate_values.items())),
        scores=dict(about.get("scores", {})),
        collapsed=list(about.get("collapsed", [])),
        error=None if error is None else error.encode(errors="replace").decode(),
    )


def _by_seed(scores: Mapping[str, Any] | Sequence[Any]) -> dict[str, list[float]]:
    """By name of the seed; by place (`#1`) where only a list was kept."""
    if not isinstance(scores, Mapping):
        scores = {f"#{place}": score for place, score in enumerate(scores, start=1)}
    return {str(seed): list(own) if isinstance(own, list) else [own] for seed, own in scores.items()}


def _elapsed(trials: Sequence[FrozenTrial], now: datetime) -> float:
    """Seconds from the first start to the last end, which is now where a trial is running."""
    begun = [(trial.datetime_start, trial.datetime_complete or now) for trial in trials if trial.datetime_start]
    seconds = (max(end for _, end in begun) - min(start for start, _ in begun)).total_seconds() if begun else 0.0
    return max(0.0, seconds)  # the clock may have been set back


def _parameters(space: Mapping[str, Mapping[str, Any]], trials: Sequence[FrozenTrial]) -> list[Parameter]:
    """In the order of the space; then those that a function added, as they came."""
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
    kind = "int" if isinstance(distribution, IntDistribution) else "float"
    if isinstance(distribution, CategoricalDistribution):
        kind = "categorical"
    return {"type": kind, **distribution._asdict()}


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
    """Shares by fANOVA, or none; and a note: why none, or what was left out (docs/sweep_reports.md: why fANOVA)."""
    complete = [trial for trial in _complete(study) if all(map(math.isfinite, trial.values))]
    if len(study.directions) > 1:
        return {}, "Importances are of one metric; this study has several."
    if len(complete) < NUM_FOR_IMPORTANCES:
        return {}, f"{NUM_FOR_IMPORTANCES} complete trials are needed to tell importances; there are {len(complete)}."
    if len({trial.values[0] for trial in complete}) == 1:
        return {}, "All complete trials have the same value, so no parameter mattered."
    shared = set.intersection(*(set(trial.params) for trial in complete))
    varied = sorted(name for name in shared if len({trial.params[name] for trial in complete}) > 1)
    if not varied:
        return {}, "No parameter that all complete trials have took more than one value."
    low, high = near([trial.values[0] for trial in complete], study.direction.name.lower())
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0), params=varied,
            target=lambda trial: min(max(trial.values[0], low), high),  # else one that diverged would decide alone
        )  # fmt: skip
    except RuntimeError as error:  # no tree of the forest could split
        return {}, f"Importances cannot be told: {error}"
    left_out = sorted({name for trial in complete for name in trial.params} - set(varied))
    note = f"Left out, since not every trial has them or they never varied: {', '.join(left_out)}." if left_out else ""
    return {name: float(share) for name, share in found.items()}, note

"""A copy of a study that can be drawn: short names, finite values, and outliers at the edge of the others' range."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from multitask_bert.reports.sweep import SweepReport, TrialReport, range_without_outliers
from multitask_bert.utils.visible import on_one_line

LABEL_LENGTH = 30  # characters of a name in a plot


def drawable_copy(study: optuna.Study, report: SweepReport) -> optuna.Study:
    """The study in memory, with the same numbers of trials.

    A complete trial with an infinite value counts as failed; intermediate values that are not finite are left out.
    """
    labels = labels_of(report)
    ranges = [value_range(report, index) for index in range(len(report.metrics))]
    intermediate = [value for trial in report.trials for value in trial.reports.values()]
    intermediate_range = range_without_outliers(intermediate, report.directions[0])
    copy = optuna.create_study(directions=study.directions)
    for trial in study.get_trials(deepcopy=False):
        is_complete = trial.state == TrialState.COMPLETE
        is_finite = is_complete and all(map(math.isfinite, trial.values))
        params, distributions = _short_params(trial, labels)
        twin = create_trial(
            state=TrialState.FAIL if is_complete and not is_finite else trial.state,
            values=[_clip(*pair) for pair in zip(trial.values, ranges, strict=True)] if is_finite else None,
            params=params,
            distributions=distributions,
            intermediate_values={
                step: _clip(value, intermediate_range)
                for step, value in trial.intermediate_values.items()
                if math.isfinite(value)
            },
        )
        twin.datetime_start, twin.datetime_complete = trial.datetime_start, trial.datetime_complete
        copy.add_trial(twin)
    return copy


def finite_trials(report: SweepReport) -> list[TrialReport]:
    """The complete trials whose values are all finite."""
    return [trial for trial in report.in_state("complete") if all(map(math.isfinite, trial.values))]


def value_range(report: SweepReport, index: int) -> tuple[float, float]:
    """Lowest and highest value of metric number `index`, without outliers."""
    values = [trial.values[index] for trial in finite_trials(report)]
    return range_without_outliers(values, report.directions[index])


def labels_of(report: SweepReport) -> dict[str, str]:
    """Different short texts for all parameters, by name."""
    names = [parameter.name for parameter in report.parameters]
    return dict(zip(names, _unique_labels(names), strict=True))


def label_of(text: str) -> str:
    """The text on one line, shortened, without control characters."""
    line = on_one_line(text)
    return line if len(line) <= LABEL_LENGTH else f"{line[: LABEL_LENGTH - 1]}…"


def _short_params(trial: FrozenTrial, labels: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    for name, value in trial.params.items():
        label, distribution = labels[name], trial.distributions[name]
        if isinstance(distribution, CategoricalDistribution):
            choices = _unique_labels(list(map(_choice_text, distribution.choices)))
            index = next(i for i, choice in enumerate(distribution.choices) if repr(choice) == repr(value))
            value, distribution = choices[index], CategoricalDistribution(choices)
        params[label], distributions[label] = value, distribution
    return params, distributions


def _choice_text(choice: Any) -> str:
    if isinstance(choice, bool):
        return str(choice).lower()
    return "null" if choice is None else str(choice)


def _unique_labels(texts: Sequence[str]) -> list[str]:
    labels: list[str] = []
    for text in texts:
        label = label_of(text)
        labels.append(label if label not in labels else f"{label} ({len(labels) + 1})")
    return labels


def _clip(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])

"""The default pruner of sweeps; docs/experiments.md, "Pruning", says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

COMPARED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


class RankPruner(BasePruner):
    """Prunes a trial once enough others, the leader among them, have a strictly better best score by the same step.

    `min_better`, `share_better`: the least number of better trials, and their least share of those that differ.
    `n_warmup_steps`: no trial is pruned before this step, in the unit of the reported steps.

    Three things differ from Optuna's `MedianPruner`. The first trials are compared, too, so that none has to run whole.
    A trial that is no worse than the leader, whose score is the best of all so far, was by the same step is not pruned:
    where the best trials begin to learn late, others may as well. And equal scores count for neither side: while all
    trials give every example the same answer, none is pruned; once the leader and enough others have left that score,
    those that have not are pruned. Trials pruned before the step still count, with the best score they had: otherwise a
    survivor would be compared with ever better trials only.
    """

    def __init__(self, min_better: int = 2, share_better: float = 1 / 3, n_warmup_steps: int = 0) -> None:
        if min_better < 1 or not 0 <= share_better < 1 or n_warmup_steps < 0:
            raise ValueError(
                "min_better must be at least 1, share_better from 0 to below 1, n_warmup_steps at least 0; got "
                f"{min_better}, {share_better:g} and {n_warmup_steps}"
            )
        self.min_better, self.share_better, self.n_warmup_steps = min_better, share_better, n_warmup_steps

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        step = trial.last_step
        if step is None or step < self.n_warmup_steps:
            return False
        sign = 1.0 if study.direction == StudyDirection.MAXIMIZE else -1.0
        others = [
            _Curve(best, max(sign * score for score in other.intermediate_values.values()))
            for other in study.get_trials(deepcopy=False, states=COMPARED)
            if other.number != trial.number and (best := _best(other.intermediate_values, step, sign)) is not None
        ]
        own = _best(trial.intermediate_values, step, sign)
        assert own is not None
        if not others or max(others, key=lambda other: other.best).best_by_step <= own:
            return False
        num_better = sum(other.best_by_step > own for other in others)
        num_worse = sum(other.best_by_step < own for other in others)
        return num_better >= max(self.min_better, self.share_better * (num_better + num_worse))


class _Curve(NamedTuple):
    """What another trial reached, with higher scores better."""

    best_by_step: float
    best: float  # over all of its steps


def _best(reports: Mapping[int, float], step: int, sign: float) -> float | None:
    """The best score until the step, with higher ones better; None if there is none yet."""
    return max((sign * score for at, score in reports.items() if at <= step), default=None)

"""The pruner that sweeps use by default; why this one: docs/experiments.md, "Pruning"."""

from __future__ import annotations

from collections.abc import Mapping

import optuna
from optuna.pruners import BasePruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

COMPARED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)


class RankPruner(BasePruner):
    """Ends a trial once enough others were strictly better by the same step, each by its best score until there.

    `min_better`, `share_better`: enough are so many, and this share of those that were better or worse, too.
    `n_warmup_steps`: before which nothing is pruned, in the unit of the reports.

    Two things differ from Optuna's `MedianPruner`. The first trials are compared, too, so that none has to run whole.
    And equal scores count for neither side: while all trials still give every example the same answer, none ends;
    once enough have left that score behind, those that have not do. Trials that were pruned before the step still
    count, with what they had: else each survivor would be compared with ever better ones alone.
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
        bests = [
            best
            for other in study.get_trials(deepcopy=False, states=COMPARED)
            if other.number != trial.number and (best := _best(other.intermediate_values, step, sign)) is not None
        ]
        own = _best(trial.intermediate_values, step, sign)
        assert own is not None
        num_better, num_worse = sum(best > own for best in bests), sum(best < own for best in bests)
        return num_better >= max(self.min_better, self.share_better * (num_better + num_worse))


def _best(reports: Mapping[int, float], step: int, sign: float) -> float | None:
    """The best score until the step, higher is better; None: there is none yet."""
    return max((sign * score for at, score in reports.items() if at <= step), default=None)

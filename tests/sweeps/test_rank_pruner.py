"""The rank pruner on known learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
import pytest

from multitask_bert.sweeps.rank_pruner import RankPruner

SAME = 0.124  # the score of always answering the most frequent label


def replayed(curves: Sequence[Sequence[float]], pruner: RankPruner, direction: str = "maximize") -> list[int]:
    """How many reports each trial made, one trial after the other, each until it was pruned."""
    study = optuna.create_study(direction=direction, pruner=pruner)
    lengths = []
    for curve in curves:
        trial = study.ask()
        for step, score in enumerate(curve, start=1):
            trial.report(score, step)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, max(curve))
        lengths.append(step)
    return lengths


def test_trials_that_are_all_equal_run_whole() -> None:
    assert replayed([[SAME] * 4] * 6, RankPruner()) == [4] * 6


def test_a_trial_that_still_answers_the_same_ends_once_two_others_do_better() -> None:
    late, early = [SAME, SAME, 0.3, 0.4], [SAME, 0.3, 0.3, 0.4]
    assert replayed([late, late, [SAME] * 4], RankPruner()) == [4, 4, 3]
    assert replayed([early, [SAME] * 4, early, [SAME] * 4], RankPruner()) == [4, 4, 4, 2]


def test_a_trial_that_is_where_the_leader_was_goes_on_however_many_were_ahead() -> None:
    late_leader, early = [SAME, SAME, 0.3, 0.6], [SAME, 0.2, 0.3, 0.4]
    assert replayed([early] * 2 + [late_leader] * 2, RankPruner()) == [4, 4, 2, 2]  # nobody knows a better one yet
    assert replayed([late_leader, *[early] * 3, late_leader, [SAME] * 4], RankPruner()) == [4, 4, 4, 4, 4, 3]


def test_however_many_learn_nothing_the_next_one_that_does_ends() -> None:
    assert replayed([[SAME] * 4] * 12 + [[SAME, 0.3, 0.4, 0.5]] * 2 + [[SAME] * 4], RankPruner())[-1] == 2


def test_the_first_trials_are_compared_too() -> None:
    good, bad = [0.4, 0.5, 0.6], [0.1, 0.1, 0.1]
    assert replayed([good, bad, good, bad], RankPruner()) == [3, 3, 3, 1]
    assert replayed([good, bad, bad], RankPruner(min_better=1)) == [3, 1, 1]


def test_the_best_score_so_far_is_compared_and_not_the_last_one() -> None:
    assert replayed([[0.4, 0.5, 0.6]] * 2 + [[0.7, 0.1, 0.1]], RankPruner()) == [3, 3, 3]
    assert replayed([[0.7, 0.1, 0.1]] * 2 + [[0.4, 0.5, 0.6]], RankPruner()) == [3, 3, 1]


def test_pruned_trials_still_count_among_the_others() -> None:
    """Three better ones are all of those that came so far and differ, and a sixth with the pruned ones."""
    best, fair, bad = [0.5, 0.9, 0.9], [0.5, 0.6, 0.6], [0.1, 0.1, 0.1]
    before = [fair] * 2 + [bad] * 15 + [best] * 3
    assert replayed([*before, fair], RankPruner()) == [3] * 2 + [1] * 15 + [3] * 4
    assert replayed([*before, *[best] * 5, fair], RankPruner())[-1] == 2


def test_nothing_is_pruned_before_the_warmup_is_over() -> None:
    good, bad = [0.4, 0.5, 0.6], [0.1, 0.1, 0.1]
    assert replayed([good, good, bad], RankPruner(n_warmup_steps=2)) == [3, 3, 2]


def test_losses_are_minimized() -> None:
    low, high = [0.5, 0.4, 0.3], [0.9, 0.9, 0.9]
    assert replayed([low, low, high, low], RankPruner(), direction="minimize") == [3, 3, 1, 3]


@pytest.mark.parametrize("options", [{"min_better": 0}, {"share_better": 1.0}, {"n_warmup_steps": -1}])
def test_what_cannot_be_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="min_better must be at least 1"):
        RankPruner(**options)  # type: ignore[arg-type]

"""Learning-rate curves beside those of transformers; shares of a run and the steps after which they are done."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from multitask_bert.config.schema import OptimizerConfig, SchedulerConfig
from multitask_bert.sweeps.spec import REPORT_SHARES
from multitask_bert.training.optimization import make_optimizer, make_scheduler
from multitask_bert.utils.schedules import permille_of, steps_at

NAME_ELSEWHERE = {"linear": "linear", "cosine": "cosine", "constant": "constant_with_warmup"}


@pytest.mark.parametrize("shape", NAME_ELSEWHERE)
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.1, 1.0])
def test_learning_rates_equal_those_of_transformers(shape: str, warmup_ratio: float) -> None:
    def rates(scheduler: object, optimizer: torch.optim.Optimizer) -> list[float]:
        found = []
        for _ in range(20):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()  # type: ignore[attr-defined]
        return found

    model = torch.nn.Linear(2, 2)
    optimizer = make_optimizer(model, OptimizerConfig(lr=0.1))
    ours = rates(make_scheduler(optimizer, SchedulerConfig(shape, warmup_ratio), num_steps=20), optimizer)
    other = torch.optim.AdamW(model.parameters(), lr=0.1)
    num_warmup_steps = round(20 * warmup_ratio)
    theirs = rates(get_scheduler(NAME_ELSEWHERE[shape], other, num_warmup_steps, 20), other)
    assert ours == pytest.approx(theirs, abs=1e-12)
    assert max(ours) > 0


def test_trials_of_any_length_report_at_the_same_shares() -> None:
    shares = [0.15, 0.2, 0.25, 0.5, 1.0]
    for num_steps in (20, 395, 492, 9999):
        reported = [permille_of(step, num_steps, shares) for step in steps_at(shares, num_steps)]
        assert reported == [150, 200, 250, 500, 1000]


@pytest.mark.parametrize("num_steps", [1, 2, 7, 10, 18, 33])
def test_no_two_evaluations_of_a_short_trial_report_at_the_same_share(num_steps: int) -> None:
    for shares in REPORT_SHARES:
        reported = [permille_of(step, num_steps, shares) for step in steps_at(shares, num_steps)]
        assert sorted(set(reported)) == reported

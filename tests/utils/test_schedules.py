"""Learning-rate curves beside those of transformers."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from multitask_bert.config.schema import OptimizerConfig, SchedulerConfig
from multitask_bert.training.optimization import make_optimizer, make_scheduler

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

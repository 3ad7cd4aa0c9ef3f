"""Schedules over the steps of a run: the learning rate, as a factor of its peak, and when shares of it are done."""

from __future__ import annotations

import math
from collections.abc import Sequence


def learning_rate_factor(shape: str, step: int, *, num_warmup_steps: int, num_steps: int) -> float:
    """Factor (0 to 1) for the update after `step` finished ones.

    Rises linearly from 0 in the warmup; then `linear` falls straight to 0, `cosine` along half a cosine, `constant`
    stays. The same curves as `transformers.get_scheduler`.
    """
    if step < num_warmup_steps:
        return step / max(1, num_warmup_steps)
    progress = (step - num_warmup_steps) / max(1, num_steps - num_warmup_steps)
    if shape == "linear":
        return max(0.0, 1.0 - progress)
    if shape == "cosine":
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
    return 1.0


def step_at(share: float, num_steps: int) -> int:
    """The step after which a share (0 to 1) of a run is done; rounded up."""
    return max(1, math.ceil(share * num_steps - 1e-9))


def steps_at(shares: Sequence[float], num_steps: int) -> list[int]:
    """The steps, in order and each once, after which these shares (0 to 1) of a run are done; rounded up."""
    return sorted({step_at(share, num_steps) for share in shares})


def permille_of(step: int, num_steps: int, shares: Sequence[float]) -> int:
    """The share of a run, in permille, that is done after `step`: one of `shares`, or all of it.

    In a run of few steps, of several shares that end at the same step, the nearest. Trials of different lengths are
    compared at equal shares: at equal steps, the rate of a longer one has yet to decay.
    """

    def distances(share: float) -> tuple[int, float]:
        return abs(step_at(share, num_steps) - step), abs(share * num_steps - step)

    return round(1000 * min([*shares, 1.0], key=distances))

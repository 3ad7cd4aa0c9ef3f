"""Schedules of the learning rate, as a factor of its peak."""

from __future__ import annotations

import math


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

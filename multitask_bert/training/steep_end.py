"""Advice for a run that ended too early."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

STEEP = 0.01  # gain between the last two evaluations from which a run probably ended too early


def advice_on_steep_end(scores: Sequence[float]) -> str | None:
    """Advice for a run that ended while its score was still rising fast; None where it was not.

    `scores`: one per evaluation; higher is better.
    """
    gains = [after - before for before, after in pairwise(scores)]
    if not gains or not all(gain > 0 for gain in gains) or gains[-1] < STEEP:  # NaN is not above 0
        return None
    return (
        f"rose at every evaluation, by {100 * gains[-1]:.1f} points at the last: more epochs or a higher rate will "
        f"probably help (trainer.num_epochs, optimizer.lr)"
    )

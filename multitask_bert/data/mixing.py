"""Step 3 of the flow: which task is next. Pure functions of config, sizes and epoch, so that a run can be resumed.

Round-robin takes one batch of each task in turn. When tasks differ in size, `when_exhausted` says what happens:
    spread  every example is seen once per epoch; a smaller task sits out some rounds, evenly over the epoch, so that no
            epoch ends on a long tail of one task (the default)
    cycle   every round has a batch of every task; smaller tasks begin anew (reshuffled) until the largest is through
    stop    every round has a batch of every task; the epoch ends with the smallest
The other rules draw the task of each step with p ~ batches^exponent and take as many steps as there are batches, or
`steps_per_epoch`; an epoch is then what the annealed exponent counts in.
A rule of the user's own (docs/own_code.md) is a function that gives the rounds of an epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multitask_bert.config.schema import MixingConfig
from multitask_bert.errors import InputError
from multitask_bert.trust.classes import users_code
from multitask_bert.utils.seeding import generator_for


def plan_epoch(
    mixing: MixingConfig, num_batches: Mapping[str, int], *, epoch: int, num_epochs: int, seed: int
) -> list[tuple[str, ...]]:
    """The rounds of one epoch, each a tuple of task names in the order of `num_batches`; epochs count from 0."""
    if "." in mixing.rule:
        generator = generator_for(seed, "mixing", epoch)
        plan = users_code("mixing.rule", mixing.rule)(
            num_batches, epoch=epoch, num_epochs=num_epochs, generator=generator, **mixing.options
        )
        return [_round_of(tasks, num_batches, mixing.rule) for tasks in plan]
    if mixing.rule != "round_robin":
        return _drawn(mixing, num_batches, epoch=epoch, num_epochs=num_epochs, seed=seed)
    if mixing.when_exhausted == "spread":
        longest = max(num_batches.values())
        return [
            tuple(task for task, size in num_batches.items() if (turn + 1) * size // longest > turn * size // longest)
            for turn in range(longest)
        ]
    num_rounds = (max if mixing.when_exhausted == "cycle" else min)(num_batches.values())
    return [tuple(num_batches)] * num_rounds


def _round_of(tasks: Any, num_batches: Mapping[str, int], rule: str) -> tuple[str, ...]:
    """One round of a rule of the user's own.

    Raises:
        InputError: it is no tuple of different names of tasks.
    """
    if isinstance(tasks, str) or not tasks or len(set(tasks)) < len(tasks) or not set(tasks) <= num_batches.keys():
        raise InputError(
            f"mixing.rule={rule}: gave the round {tasks!r}; a round is a tuple of {', '.join(num_batches)}"
        )
    return tuple(tasks)


def exponent(mixing: MixingConfig, *, epoch: int, num_epochs: int) -> float:
    """The power of the number of batches with which a task is drawn.

    annealed: a = 1 - 0.8 e/(E-1) in epoch e (from 0) of E (Stickland and Murray 2019, "BERT and PALs").
    """
    if mixing.rule == "temperature":
        return 1.0 / mixing.temperature
    if mixing.rule == "annealed":
        return 1.0 - 0.8 * epoch / max(1, num_epochs - 1)
    return 1.0


def _drawn(
    mixing: MixingConfig, num_batches: Mapping[str, int], *, epoch: int, num_epochs: int, seed: int
) -> list[tuple[str, ...]]:
    power = exponent(mixing, epoch=epoch, num_epochs=num_epochs)
    weights = [size**power for size in num_batches.values()]
    shares = [weight / sum(weights) for weight in weights]
    names = list(num_batches)
    size = mixing.steps_per_epoch or sum(num_batches.values())
    draws = generator_for(seed, "mixing", epoch).choice(len(names), size=size, p=shares)
    return [(names[draw],) for draw in draws]

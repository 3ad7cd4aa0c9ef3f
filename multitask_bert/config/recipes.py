"""The recipe of an encoder (`model.recipe`): which values of a config follow it, and which were set otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from itertools import pairwise
from typing import Any

from multitask_bert.config.schema import ExperimentConfig, RecipeConfig
from multitask_bert.config.setting import setting_of

STEEP = 0.01  # gain between the last two evaluations from which a run probably ended too early
# By field of RecipeConfig: the field that takes its value from it, unless an experiment or the user sets it.
FOLLOWED_BY = {item.name: setting_of(item).recommends for item in fields(RecipeConfig) if setting_of(item).recommends}


def describe_recipe(config: ExperimentConfig) -> str:
    """A line that says which values follow the encoder's recipe, and which were set otherwise."""
    recipe = config.model.recipe
    values = {field: (getattr(recipe, field), _lookup(config, name)) for field, name in FOLLOWED_BY.items()}
    followed = [f"{field} {_shown(value)}" for field, (value, actual) in values.items() if actual == value]
    others = [f"{FOLLOWED_BY[field]}={_shown(actual)}" for field, (value, actual) in values.items() if actual != value]
    line = f"recipe of {recipe.name}" if recipe.name else "general recipe (model.recipe names none for this encoder)"
    if recipe.encoder not in (None, config.model.pretrained):
        line += (
            f", made for {recipe.encoder} and used for {config.model.pretrained} (for another encoder: model=NAME, or "
            f"-m sweep=recipe)"
        )
    line += f": {', '.join(followed)}" if followed else ": not followed"
    return f"{line}; set otherwise: {', '.join(others)}" if others else line


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


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def _lookup(config: Any, dotted: str) -> Any:
    return reduce(getattr, dotted.split("."), config)

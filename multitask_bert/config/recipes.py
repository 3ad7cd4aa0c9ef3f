"""The recipe of an encoder (`model.recipe`): which values of a config follow it, and which were set otherwise."""

from __future__ import annotations

from dataclasses import fields
from functools import reduce
from typing import Any

from multitask_bert.config.schema import ExperimentConfig, RecipeConfig
from multitask_bert.config.setting import setting_of

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


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)


def _lookup(config: Any, dotted: str) -> Any:
    return reduce(getattr, dotted.split("."), config)

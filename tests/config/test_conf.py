"""Every file in conf/: a new one is covered as soon as it is there."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from multitask_bert.config.checks import check
from multitask_bert.config.families import FAMILIES, families_in
from multitask_bert.config.recipes import FOLLOWED_BY, describe_recipe
from multitask_bert.config.schema import RecipeConfig
from multitask_bert.config.without_effect import settings_without_effect
from multitask_bert.heads import check_heads
from tests.composing import CONF, PACKAGE_LINE, command_of, composed, config_of

FILES = sorted(CONF.glob("*/*.yaml"))
OPTIONS = [(file.parent.name, file.stem) for file in FILES if file.parent.name != FAMILIES]


def combinations() -> list[tuple[str, ...]]:
    """Every option of `conf/` in one command at least: composing takes a while, so a command has one of each group."""
    options = {group: [name for of, name in OPTIONS if of == group] for group, _ in OPTIONS}
    whole = [(f"{group}={name}",) for group in ("experiment", "sweep") for name in options.pop(group)]
    longest = max(map(len, options.values()))
    return whole + [
        tuple(f"{group}={names[row % len(names)]}" for group, names in options.items()) for row in range(longest)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("overrides", combinations(), ids=",".join)
def test_every_option_composes_and_passes_the_checks(overrides: tuple[str, ...]) -> None:
    config = config_of(*overrides)
    check(config)
    check_heads(config)
    assert list(settings_without_effect(config)) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", families_in([CONF]))
def test_all_languages_of_a_family_compose_and_pass_the_checks_together(family: str) -> None:
    names = [f"{family}_{language}" for language in families_in([CONF])[family]]
    trees = composed(f"tasks={'+'.join(names)}").tasks
    assert list(trees) == sorted(names)
    trained = [name for name in names if trees[name].source.train is not None]
    config = config_of(f"tasks={'+'.join(trained)}")
    check(config)
    check_heads(config)


def test_every_option_is_in_one_of_these_commands() -> None:
    assert {override for overrides in combinations() for override in overrides} == {"=".join(pair) for pair in OPTIONS}


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_every_file_starts_by_saying_what_it_is(file: Path) -> None:
    first = file.read_text(encoding="utf-8").removeprefix(PACKAGE_LINE).lstrip("\n").partition("\n")[0]
    assert first.startswith("# ")


@pytest.mark.parametrize("file", sorted((CONF / "tasks").glob("*.yaml")), ids=lambda file: str(file.stem))
def test_a_task_file_has_one_key_which_is_its_own_name(file: Path) -> None:
    assert list(OmegaConf.load(file)) == [file.stem]


@pytest.mark.parametrize("file", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda file: str(file.stem))
def test_an_experiment_starts_with_its_command_and_the_command_is_valid(file: Path) -> None:
    python, door, *overrides = command_of(file)
    assert (python, door) == ("python", "run.py")
    assert f"experiment={file.stem}" in overrides
    config = config_of(*overrides)
    check(config)
    check_heads(config)


def test_the_defaults_list_names_every_group() -> None:
    chosen = {
        group
        for entry in OmegaConf.load(CONF / "config.yaml").defaults
        if not isinstance(entry, str)  # schema, hydra_settings, _self_
        for group in entry
    }
    assert chosen == {group for group, _ in OPTIONS}


@pytest.mark.parametrize("file", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda file: str(file.stem))
def test_an_experiment_does_not_move_with_the_recipe_of_its_encoder(file: Path) -> None:
    other: dict[str, Any] = {
        "lr": 0.5, "head_lr_factor": 7.0, "layer_decay": 0.25, "weight_decay": 0.75, "warmup_ratio": 0.875,
        "num_epochs": 99, "min_steps": 12345, "head_init": "uniform",
    }  # fmt: skip
    assert (
        set(other) == set(FOLLOWED_BY) == {field.name for field in fields(RecipeConfig)} - {"name", "encoder", "source"}
    )
    as_it_is = config_of(f"experiment={file.stem}")
    moved = config_of(f"experiment={file.stem}", *(f"model.recipe.{key}={value}" for key, value in other.items()))
    moved.model.recipe = as_it_is.model.recipe
    assert moved == as_it_is


def test_what_the_user_does_not_set_follows_the_recipe_of_the_encoder() -> None:
    config = config_of("model=minilm", "optimizer.lr=1e-3", "trainer=quick")
    recipe = config.model.recipe
    assert (config.optimizer.lr, config.trainer.num_epochs, config.trainer.min_steps) == (1e-3, 1, None)
    assert config.optimizer.head_lr_factor == recipe.head_lr_factor
    assert config.scheduler.warmup_ratio == recipe.warmup_ratio
    assert config.model.head_init == recipe.head_init
    assert config_of("optimizer=sgd").optimizer.lr == 1e-2  # a recipe is for AdamW
    line = describe_recipe(config)
    assert "set otherwise: optimizer.lr=0.001, trainer.num_epochs=1, trainer.min_steps=none" in line
    assert line.startswith("recipe of minilm: head_lr_factor ")


def test_a_recipe_that_is_used_for_another_encoder_says_so() -> None:
    line = describe_recipe(config_of("model=e5_small", "model.pretrained=owner/name"))
    assert line.startswith("recipe of e5_small, made for intfloat/multilingual-e5-small and used for owner/name (for ")


@pytest.mark.parametrize("file", sorted((CONF / "model").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_recipe_names_the_encoder_of_its_file(file: Path) -> None:
    model = config_of(f"model={file.stem}").model
    assert model.recipe.encoder == model.pretrained

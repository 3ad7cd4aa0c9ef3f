"""What the tests of config, composition and command line share: Hydra in process, on the real conf/."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from unittest.mock import patch

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

import run
from multitask_bert import command_line
from multitask_bert.config import composition
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import from_tree

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"
MOOD_YAML = """
mood:
  source: {format: csv, folder: mood, train: train.csv, text: text}
  heads: {mood_head: {type: classification, column: mood}}
"""
HEAVY_PACKAGES = ("torch", "transformers", "mlflow", "datasets", "evaluate", "sklearn", "tensorboard", "optuna")
PACKAGE_LINE = "# @package _global_"

composition.register()


@cache
def composed(*overrides: str) -> DictConfig:
    """The tree that `python run.py OVERRIDES` composes."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides))


def config_of(*overrides: str) -> ExperimentConfig:
    """The typed config. Dotted keys are set in the composed tree, as Hydra does last; it is quicker than composing."""
    dotted = [override for override in overrides if "." in override.partition("=")[0]]
    tree = deepcopy(composed(*(override for override in overrides if override not in dotted)))
    for override in OverridesParser.create().parse_overrides(dotted):
        OmegaConf.update(tree, override.key_or_group, override.value(), force_add=True)
    return from_tree(tree)


def run_line(*arguments: str) -> None:
    """`python run.py ARGUMENTS`, without a process of its own. Raises SystemExit where the program would end."""
    arguments = ("run.py", "--config-path", str(CONF), *arguments)
    with patch.object(sys, "argv", list(arguments)), logging_restored(), command_line.plain_errors():
        run.main()


def error_of(*arguments: str) -> str:
    """The message with which `python run.py ARGUMENTS` ends."""
    with pytest.raises(SystemExit) as stop:
        run_line(*arguments)
    assert isinstance(stop.value.code, str), f"ended with status {stop.value.code} and no message"
    return stop.value.code


@contextmanager
def logging_restored() -> Iterator[None]:
    """Hydra configures logging anew for each job; its file handlers are closed afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)


def command_of(experiment: Path) -> list[str]:
    """The words of the command with which an experiment file starts, after its package line."""
    lines = experiment.read_text(encoding="utf-8").splitlines()
    if lines[0] == PACKAGE_LINE:
        lines = lines[1:]
    return shlex.split(lines[0].removeprefix("#"))

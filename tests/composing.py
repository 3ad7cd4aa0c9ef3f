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
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

import run
from multitask_bert.command_line.ending import plain_errors
from multitask_bert.config import composition
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import from_tree

ROOT = Path(__file__).parent.parent
CONF = ROOT / "conf"
GROUPS = {path.name for path in CONF.iterdir() if path.is_dir()}
MOOD_YAML = """
mood:
  source: {format: csv, folder: mood, train: train.csv, text: text}
  heads: {mood_head: {type: classification, column: mood}}
"""
HEAVY_PACKAGES = ("torch", "transformers", "mlflow", "datasets", "evaluate", "sklearn", "tensorboard", "optuna")
PACKAGE_LINE = "# @package _global_"

composition.register()


@cache
def composed(*overrides: str, with_hydra: bool = False) -> DictConfig:
    """The tree that `python run.py OVERRIDES` composes; `with_hydra`: and Hydra's own settings."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=with_hydra)


def config_of(*overrides: str) -> ExperimentConfig:
    """The typed config. Values are set in the composed tree, as Hydra does last; it is quicker than composing."""
    values = [override for override in overrides if override.partition("=")[0].lstrip("~") not in GROUPS]
    tree = deepcopy(composed(*(override for override in overrides if override not in values)))
    for override in OverridesParser.create().parse_overrides(values):
        OmegaConf.update(tree, override.key_or_group, override.value(), force_add=True)
    return from_tree(tree)


def run_line(*arguments: str) -> None:
    """`python run.py ARGUMENTS`, without a process of its own. Raises SystemExit where the program would end.

    Hydra composes everything twice, first to look for `hydra.mode`, which no file here sets: that is left out.
    """
    arguments = ("run.py", "--config-path", str(CONF), *arguments)
    no_mode = patch.object(Hydra, "get_mode", lambda *_, **__: None)
    with patch.object(sys, "argv", list(arguments)), no_mode, logging_restored(), plain_errors():
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

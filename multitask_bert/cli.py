"""The command line: `python run.py`, and in an installed package `multitask-bert`; both take the same arguments."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from multitask_bert.command_line import ending
from multitask_bert.command_line.arguments import options_first
from multitask_bert.command_line.job import config_of_job, join_processes_of_job, overrides_without_effect
from multitask_bert.config import composition
from multitask_bert.config.checked_loader import same_names
from multitask_bert.config.joined_tasks import GROUP
from multitask_bert.config.overrides import quote_compared_runs
from multitask_bert.config.without_effect import settings_without_effect
from multitask_bert.trust.paths import OWN_CONF

log = logging.getLogger(__name__)


def run_job(tree: DictConfig) -> object:
    """Run one job. The actions are imported inside, so that help and completion stay fast."""
    join_processes_of_job()
    with ending.errors_in_run_log():
        config = config_of_job(tree, HydraConfig.get().runtime.choices.get(GROUP))
        unused = overrides_without_effect(config, HydraConfig.get().overrides.task)
        for warning in (*same_names(), *settings_without_effect(config), *unused):
            log.warning(warning)
        from multitask_bert import actions

        return actions.run(config)


def start(main: Callable[[], None]) -> None:
    """Call a function that `hydra.main` has made of `run_job`; errors end the program in plain words."""
    composition.register()
    sys.excepthook = ending.show_uncaught
    ending.refuse_pickles(sys.argv)
    sys.argv[1:] = quote_compared_runs(options_first(sys.argv[1:]))
    with ending.plain_errors():
        main()


def installed() -> None:
    """The command `multitask-bert`, with the configs that are part of the package."""
    start(hydra.main(version_base="1.3", config_path=str(OWN_CONF), config_name="config")(run_job))

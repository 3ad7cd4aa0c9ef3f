"""The sweeper's entry point: Hydra finds sweepers only in this namespace, and imports it at every start. The work is
in `multitask_bert.sweeps`, imported when a sweep begins."""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from multitask_bert.config.sweep_config import SweepConfig

ConfigStore.instance().store(group="hydra/sweeper", name="study", node=SweepConfig, provider="multitask_bert")


class StudySweeper(Sweeper):
    """`hydra/sweeper=study`: searches with Optuna; see docs/sweeps.md."""

    def __init__(self, **settings: Any) -> None:
        """Ignore `settings`: they are read from the config, where they are typed."""
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> float | None:
        from multitask_bert.actions import sweep
        from multitask_bert.command_line.job import checked_config

        assert self.hydra_context is not None
        assert self.config is not None
        assert self.launcher is not None
        loader = self.hydra_context.config_loader
        return sweep(arguments, self.config, loader, self.launcher, lambda tree: checked_config(tree, None))

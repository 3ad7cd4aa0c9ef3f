"""Registers with Hydra: the schema, how configs are found, checked and joined, and our resolvers."""

from __future__ import annotations

from hydra._internal import hydra as hydra_main
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf

from multitask_bert.config.checked_loader import CheckedLoader
from multitask_bert.config.help import actions_help, families_help, keys_help, users_options
from multitask_bert.config.joined_tasks import JoinedTasksSearchPath, JoinedTasksSource, folder_name
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.trust import plugins, yaml_files
from multitask_bert.utils.command import command
from multitask_bert.utils.files import short_name

HYDRA_LOADER = "ConfigLoaderImpl"  # the name by which Hydra finds the class that composes, wherever it starts


def register() -> None:
    """Register everything; must be called before Hydra starts, and may be called again."""
    assert issubclass(getattr(hydra_main, HYDRA_LOADER), ConfigLoaderImpl), "this Hydra composes in another way"
    setattr(hydra_main, HYDRA_LOADER, CheckedLoader)
    ConfigStore.instance().store(name="schema", node=ExperimentConfig, provider="multitask_bert")
    yaml_files.register()
    for resolver in (command, folder_name, short_name, actions_help, families_help, keys_help, users_options):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
    plugins.keep_to_installed()
    for plugin in (JoinedTasksSource, JoinedTasksSearchPath, plugins.our_sweeper()):
        Plugins.instance().register(plugin)

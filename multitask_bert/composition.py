"""`tasks=a+b`: how task configs are joined by name.

Hydra asks its config sources for `tasks/a+b`; ours answers with a config whose defaults list is `[a, b]`, sorted, so
that `a+b` and `b+a` are one run. It works wherever Hydra composes: command line, multirun, experiment files
(`override /tasks: a+b`), `--cfg`, tab completion, launchers, and task folders given with `--config-dir`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import ClassVar, List

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from multitask_bert.config import ExperimentConfig

GROUP = "tasks"


def register() -> None:
    """Make the schema and the joining of tasks known to Hydra; to be called once, before Hydra starts."""
    ConfigStore.instance().store(name="schema", node=ExperimentConfig, provider="multitask_bert")
    plugins = Plugins.instance()
    plugins.register(JoinedTasksSource)
    plugins.register(JoinedTasksSearchPath)


def split_names(joined: str) -> list[str]:
    """`b+a` -> `[a, b]`.

    Raises:
        ConfigCompositionException: an empty or repeated name.
    """
    names = joined.split("+")
    if not all(names):
        raise ConfigCompositionException(f"tasks={joined}: a name is missing beside a '+'; write tasks=ner+sentiment")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigCompositionException(f"tasks={joined}: {', '.join(repeated)} is named more than once")
    return sorted(names)


class JoinedTasksSource(ConfigSource):
    """Answers for `tasks/a+b`, and for nothing else."""

    search_path: ClassVar[ConfigSearchPath | None] = None  # where single tasks are found

    @staticmethod
    def scheme() -> str:
        return "multitask-tasks"

    def available(self) -> bool:
        return True

    def is_group(self, config_path: str) -> bool:
        return config_path == GROUP

    def is_config(self, config_path: str) -> bool:
        group, _, name = self._normalize_file_name(config_path).rpartition("/")
        return group == GROUP and "+" in name

    def load_config(self, config_path: str) -> ConfigResult:
        name = self._normalize_file_name(config_path)
        names = split_names(name.rpartition("/")[2].removesuffix(".yaml"))
        return ConfigResult(
            provider=self.provider,
            path=f"{self.scheme()}://{self.path}",
            config=OmegaConf.create({"defaults": names}),
            header={"package": None},
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> List[str]:
        """While a shell completes `tasks=ner+s`: the joins one task longer than what stands there; else nothing."""
        word = os.environ.get("COMP_LINE", "").rpartition(" ")[2].rpartition(f"{GROUP}=")[2]
        if config_path != GROUP or results_filter == ObjectType.GROUP or "+" not in word:
            return []
        done, comma, typed = word.rpartition(",")
        chosen = typed.split("+")[:-1]
        return [done + comma + "+".join([*chosen, name]) for name in options_of(GROUP) if name not in chosen]


class JoinedTasksSearchPath(SearchPathPlugin):
    """Puts the source above on Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        JoinedTasksSource.search_path = search_path
        # A shell that completes hands its line over, but Hydra does not look for the folder that it names.
        if named := re.search(r"(?:--config-dir|-cd)[ =]+(\S+)", os.environ.get("COMP_LINE", "")):
            search_path.append("command-line", f"file://{Path(named[1]).expanduser().absolute()}")
        search_path.append("multitask_bert", f"{JoinedTasksSource.scheme()}://")


def options_of(group: str) -> List[str]:
    """The names of a group's files, in conf/ and in the folder of `--config-dir`."""
    found: set[str] = set()
    for entry in JoinedTasksSource.search_path.get_path() if JoinedTasksSource.search_path else []:
        found.update(file.stem for file in Path((entry.path or "").removeprefix("file://"), group).glob("*.yaml"))
    return sorted(found)

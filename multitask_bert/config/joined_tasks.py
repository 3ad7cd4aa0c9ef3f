"""`tasks=a+b`: how task configs are joined by name.

Hydra asks its config sources for `tasks/a+b`; ours answers with a config whose defaults list is `[a, b]`, sorted, so
that `a+b` and `b+a` are one run. It works wherever Hydra composes: command line, multirun, experiment files
(`override /tasks: a+b`), `--cfg`, tab completion, launchers, and task folders given with `--config-dir`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, List

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from multitask_bert.config.action_table import ACTIONS
from multitask_bert.trust.paths import is_own
from multitask_bert.utils.files import short_name

GROUP = "tasks"


def split_names(joined: str) -> list[str]:
    """The sorted names of joined tasks: `b+a` -> `[a, b]`.

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


def folder_name(action: str, tasks: str) -> str:
    """The part of an output folder's name that follows the time: the tasks, or the action where it does not use them.

    In a multirun, Hydra makes the folder before the action is checked, so whatever it is must not become a path.
    """
    uses_tasks = action in ACTIONS and ACTIONS[action].uses_cli_tasks
    return short_name("+".join(split_names(tasks))) if uses_tasks else re.sub(r"\W", "_", action)


class JoinedTasksSource(ConfigSource):
    """The config source that finds `tasks/a+b`, and nothing else."""

    search_path: ClassVar[ConfigSearchPath | None] = None  # where single tasks are found
    siblings: Sequence[ConfigSource] = ()  # the sources of the same search, where hydra.searchpath adds to it

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
        """While a shell completes `tasks=ner+s`: what is typed there, completed by one more task; otherwise nothing."""
        word = os.environ.get("COMP_LINE", "").rpartition(" ")[2].rpartition(f"{GROUP}=")[2]
        if config_path != GROUP or results_filter == ObjectType.GROUP or "+" not in word:
            return []
        done, comma, typed = word.rpartition(",")
        chosen = typed.split("+")[:-1]
        names = {name for source in self._holders() for name in source.list(GROUP, ObjectType.CONFIG)}
        return [done + comma + "+".join([*chosen, name]) for name in sorted(names) if name not in chosen]

    def _holders(self) -> List[ConfigSource]:
        return [source for source in self.siblings if source is not self and source.is_group(GROUP)]


class JoinedTasksSearchPath(SearchPathPlugin):
    """Puts `JoinedTasksSource` on Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        JoinedTasksSource.search_path = search_path
        # While a shell completes, Hydra does not read `--config-dir` from the command line, which it has as a variable.
        if named := re.search(r"(?:--config-dir|-cd)[ =]+(\S+)", os.environ.get("COMP_LINE", "")):
            search_path.append("command-line", f"file://{Path(named[1]).expanduser().absolute()}")
        search_path.append("multitask_bert", f"{JoinedTasksSource.scheme()}://")


def options_of(group: str) -> List[str]:
    """The names of a group's files, in conf/ and in the folder of `--config-dir`."""
    return sorted({file.stem for folder in folders() for file in (folder / group).glob("*.yaml")})


def file_of(group: str, name: str) -> str:
    """The file of an option; one in the folder of `--config-dir` comes before one in conf/."""
    path = Path(group, f"{name}.yaml")
    found = [folder for folder in folders() if (folder / path).is_file()]
    found.sort(key=lambda folder: is_own(str(folder), str(path)))
    return str(found[0] / path if found else path)


def folders() -> List[Path]:
    """The folders in which configs are searched."""
    entries = JoinedTasksSource.search_path.get_path() if JoinedTasksSource.search_path else []
    return [Path((entry.path or "").removeprefix("file://")) for entry in entries]

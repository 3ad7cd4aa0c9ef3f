"""`tasks=a+b`: how task configs are joined by name.

Hydra asks its config sources for `tasks/a+b`; ours answers with a config whose defaults list is `[a, b]`, sorted, so
that `a+b` and `b+a` are one run. It works wherever Hydra composes: command line, multirun, experiment files
(`override /tasks: a+b`), `--cfg`, tab completion, launchers, and task folders given with `--config-dir`.

And how what is composed is looked at before Hydra acts on it: `CheckedLoader` (docs/decisions/0007).
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, List

from hydra._internal import hydra as hydra_main
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from multitask_bert import plugins, trust, yaml_files
from multitask_bert.config import ExperimentConfig, InputError

GROUP = "tasks"
OF_TODAYS_TASKS = ("train", "inspect")  # actions on the tasks of the command line; the others go by those of a run
MAX_FILES = 1000  # that one config is made of; each may be in it many times
HYDRA_LOADER = "ConfigLoaderImpl"  # under which name Hydra, wherever it starts, finds the class that composes


def register() -> None:
    """Make the schema, the joining of tasks, our loader and resolver known to Hydra; to be called before it starts."""
    assert issubclass(getattr(hydra_main, HYDRA_LOADER), ConfigLoaderImpl), "this Hydra composes in another way"
    setattr(hydra_main, HYDRA_LOADER, CheckedLoader)
    ConfigStore.instance().store(name="schema", node=ExperimentConfig, provider="multitask_bert")
    yaml_files.register()
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    plugins.keep_to_installed()
    for plugin in (JoinedTasksSource, JoinedTasksSearchPath, plugins.our_sweeper()):
        Plugins.instance().register(plugin)


def folder_name(action: str, tasks: str) -> str:
    """What follows the time in the name of an output folder: the tasks, unless those are an earlier run's.

    In a multirun, Hydra makes the folder before anybody has looked at the action: no path, whatever it is.
    """
    return "+".join(split_names(tasks)) if action in OF_TODAYS_TASKS else re.sub(r"\W", "_", action)


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


class CheckedLoader(ConfigLoaderImpl):
    """Composes as Hydra does, and refuses what a file may not say before anything is made or configured from it.

    Every way to a config leads through here: run, multirun and each of its jobs, `--cfg`, `--help`, completion.
    """

    def _process_config_searchpath(self, config_name: Any, parsed_overrides: Any, repo: Any) -> None:
        """Folders and packages that the primary config adds are looked into (and imported) before it is composed."""
        found = repo.load_config(config_path=config_name) if config_name is not None else None
        is_typed = any(override.get_key_element() == "hydra.searchpath" for override in parsed_overrides)
        if found is not None and not is_typed and not trust.is_own(found.path, config_name):
            tree: Any = OmegaConf.to_container(found.config)
            hydra = tree.get("hydra")
            added = {"searchpath": hydra.get("searchpath")} if isinstance(hydra, dict) else hydra
            trust.refuse(trust.file_problems({"hydra": added}), _file(found, config_name))
        super()._process_config_searchpath(config_name, parsed_overrides, repo)
        repo.load_config = _counted(repo.load_config)

    def _load_configuration_impl(self, config_name: Any, overrides: List[str], *args: Any, **kwargs: Any) -> DictConfig:
        parsed = OverridesParser.create().parse_overrides(overrides)
        self._typed = {override.get_key_element().lstrip("+~") for override in parsed}
        self._data_root_in: str | None = None  # the file that names it, where that is not ours
        tree = super()._load_configuration_impl(config_name, overrides, *args, **kwargs)
        trust.refuse(self._problems_of_all(tree))
        return tree

    def _load_single_config(self, default: Any, repo: Any) -> ConfigResult:
        found = super()._load_single_config(default, repo)
        if not trust.is_own(found.path, default.config_path):
            tree = OmegaConf.to_container(found.config)
            assert isinstance(tree, dict)
            source = _file(found, default.config_path)
            trust.refuse((*trust.file_problems(tree, self._typed), *trust.target_problems("", tree)), source)
            if "data_root" in tree and "data_root" not in self._typed:
                self._data_root_in = source
        return found

    def _problems_of_all(self, tree: DictConfig) -> Iterator[str]:
        plain: Any = OmegaConf.to_container(tree, throw_on_missing=False)
        yaml_files.refuse_long_references(plain)
        yield from trust.target_problems("", plain)
        yield from trust.choice_problems(tree.hydra.runtime.choices)
        if self._data_root_in is not None:
            try:
                tasks: Any = OmegaConf.to_container(tree.get(GROUP) or OmegaConf.create({}), resolve=True)
                yield from trust.download_problems(tasks, str(tree.data_root))
            except OmegaConfBaseException as error:
                yield f"{error.full_key or 'data_root'}: {str(error).splitlines()[0]}"


def _counted(load: Callable[..., ConfigResult | None]) -> Callable[..., ConfigResult | None]:
    """`load`, but not without end: files may list each other in their defaults, over and over."""
    numbers = itertools.count(1)

    def load_config(*args: Any, **kwargs: Any) -> ConfigResult | None:
        if next(numbers) > MAX_FILES:
            raise InputError(f"defaults lists name more than {MAX_FILES:,} files, all taken together")
        return load(*args, **kwargs)

    return load_config


def _file(found: ConfigResult, config_path: str) -> str:
    """Where a config was found, as it can be opened."""
    folder = str(found.path).removeprefix("file://")
    return f"{folder}/{config_path.removesuffix('.yaml')}.yaml"


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

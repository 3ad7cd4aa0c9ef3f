"""`tasks=a+b`: how task configs are joined by name.

Hydra asks its config sources for `tasks/a+b`; ours answers with a config whose defaults list is `[a, b]`, sorted, so
that `a+b` and `b+a` are one run. It works wherever Hydra composes: command line, multirun, experiment files
(`override /tasks: a+b`), `--cfg`, tab completion, launchers, and task folders given with `--config-dir`.

Where configs are looked for: `UsersFirst`. How what is composed is checked before Hydra acts on it: `CheckedLoader`
(docs/decisions/0007, 0008).
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, List

from hydra._internal import hydra as hydra_main
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from multitask_bert.config.action_table import ACTIONS
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.trust import plugins, yaml_files
from multitask_bert.trust.classes import target_problems
from multitask_bert.trust.config_files import choice_problems, file_problems
from multitask_bert.trust.paths import OWN_CONF, download_problems, is_own
from multitask_bert.trust.permissions import refuse
from multitask_bert.utils.files import short_name

GROUP = "tasks"
MAX_FILES = 1000  # that one config is made of; each may be in it many times
HYDRA_LOADER = "ConfigLoaderImpl"  # under which name Hydra, wherever it starts, finds the class that composes
# What every run stands on (fields and their types, Hydra's settings, the groups): no user's file takes its place.
BASE = ("config", "hydra_settings", "schema", "hydra/config")


def register() -> None:
    """Make the schema, the joining of tasks, our loader and resolver known to Hydra; to be called before it starts."""
    assert issubclass(getattr(hydra_main, HYDRA_LOADER), ConfigLoaderImpl), "this Hydra composes in another way"
    setattr(hydra_main, HYDRA_LOADER, CheckedLoader)
    ConfigStore.instance().store(name="schema", node=ExperimentConfig, provider="multitask_bert")
    yaml_files.register()
    OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)
    OmegaConf.register_new_resolver("short_name", short_name, replace=True)
    OmegaConf.register_new_resolver("users_options", users_options, replace=True)
    plugins.keep_to_installed()
    for plugin in (JoinedTasksSource, JoinedTasksSearchPath, plugins.our_sweeper()):
        Plugins.instance().register(plugin)


def folder_name(action: str, tasks: str) -> str:
    """What follows the time in the name of an output folder: the tasks, unless those are an earlier run's.

    In a multirun, Hydra makes the folder before anybody has looked at the action: no path, whatever it is.
    """
    uses_tasks = action in ACTIONS and ACTIONS[action].uses_cli_tasks
    return short_name("+".join(split_names(tasks))) if uses_tasks else re.sub(r"\W", "_", action)


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


class UsersFirst(ConfigRepository):
    """Looks for a config in the user's folders (`--config-dir`, `hydra.searchpath`) first, and then in conf/.

    Hydra's own order is the reverse, in which a user's `tasks/sentiment.yaml` would be passed over in silence.
    """

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self.sources.sort(key=_rank)
        for source in self.sources:
            if isinstance(source, JoinedTasksSource):
                source.siblings = self.sources

    def _find_object_source(self, config_path: str, object_type: ObjectType | None) -> ConfigSource | None:
        if object_type == ObjectType.CONFIG and config_path.removesuffix(".yaml") in BASE:
            for source in self.sources:
                if not _is_users(source) and source.is_config(config_path):
                    return source
        return super()._find_object_source(config_path, object_type)


def _is_users(source: ConfigSource) -> bool:
    return _is_named_by_user(source.provider) and not is_own(source.full_path(), ".")


def _is_named_by_user(provider: str) -> bool:
    """Whether a folder is searched because of `--config-dir` or `hydra.searchpath`."""
    return provider == "command-line" or provider.startswith("hydra.searchpath")


def _rank(source: ConfigSource) -> int:
    """Hydra itself, the user's folders, the folder of the primary config, and what is appended to these."""
    return 0 if source.provider == "hydra" else 1 if _is_users(source) else 2 if source.provider == "main" else 3


class CheckedLoader(ConfigLoaderImpl):
    """Composes as Hydra does, and refuses what a file may not say before anything is made or configured from it.

    Every way to a config leads through here: run, multirun and each of its jobs, `--cfg`, `--help`, completion. Where
    each part was found stands in `hydra.runtime.files`, and which files of the same name were passed over in
    `hydra.runtime.same_names`.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.repository = UsersFirst(config_search_path)

    def _process_config_searchpath(self, config_name: Any, parsed_overrides: Any, repo: Any) -> None:
        """Folders and packages that the primary config adds are looked into (and imported) before it is composed."""
        found = repo.load_config(config_path=config_name) if config_name is not None else None
        is_typed = any(override.get_key_element() == "hydra.searchpath" for override in parsed_overrides)
        if found is not None and not is_typed and not is_own(found.path, config_name):
            tree: Any = OmegaConf.to_container(found.config)
            hydra = tree.get("hydra")
            added = {"searchpath": hydra.get("searchpath")} if isinstance(hydra, dict) else hydra
            refuse(file_problems({"hydra": added}), _file(found, config_name))
        super()._process_config_searchpath(config_name, parsed_overrides, repo)
        repo.load_config = _counted(repo.load_config)

    def _load_configuration_impl(self, config_name: Any, overrides: List[str], *args: Any, **kwargs: Any) -> DictConfig:
        parsed = OverridesParser.create().parse_overrides(overrides)
        self._typed = {override.get_key_element().lstrip("+~") for override in parsed}
        self._data_root_in: str | None = None  # the file that names it, where that is not ours
        self._names_sha256 = False  # the last that names weights names their sha256, too
        self._files: dict[str, str] = {}
        self._same_names: list[str] = []
        tree = super()._load_configuration_impl(config_name, overrides, *args, **kwargs)
        refuse(self._problems_of_all(tree))
        self._note_weights({key.removeprefix("model.") for key in self._typed if key.startswith("model.")})
        if not self._names_sha256 and OmegaConf.select(tree, "model.sha256") is not None:
            tree.model.sha256 = None
        with open_dict(tree.hydra.runtime):
            tree.hydra.runtime.files, tree.hydra.runtime.same_names = self._files, self._same_names
        if "hydra.run.dir" not in self._typed and _goes_on(tree):
            # In the folder of that run, where the config that it began with stays as it is.
            tree.hydra.run.dir, tree.hydra.output_subdir = "${run_dir}", None
        return tree

    def _note_weights(self, named: Collection[str]) -> None:
        """`named`: the keys of `model` in a file or on the command line. A sha256 is of the weights beside it."""
        if "sha256" in named or "pretrained" in named:
            self._names_sha256 = "sha256" in named

    def _load_single_config(self, default: Any, repo: Any) -> ConfigResult:
        found = super()._load_single_config(default, repo)
        self._note_weights([str(key) for key in OmegaConf.select(found.config, "model") or ()])
        if not is_own(found.path, default.config_path):
            tree = OmegaConf.to_container(found.config)
            assert isinstance(tree, dict)
            source = _file(found, default.config_path)
            refuse((*file_problems(tree, self._typed), *target_problems("", tree)), source)
            if "data_root" in tree and "data_root" not in self._typed:
                self._data_root_in = source
        self._note_file(found, default.config_path, repo)
        return found

    def _note_file(self, found: ConfigResult, config_path: str, repo: Any) -> None:
        """Where a config was found, and which files of the same name, but with other contents, are passed over."""
        name = config_path.removesuffix(".yaml").lstrip("/")
        file = _file(found, config_path)
        holders = [
            source
            for source in repo.get_sources()
            if source.scheme() in ("file", "pkg") and source.is_config(config_path)
        ]
        winners = [source for source in holders if source.full_path() == found.path]
        if winners and winners[0].provider != "hydra":
            self._files[name] = file
        is_users = bool(winners) and _is_users(winners[0])
        for source in holders:
            if source not in winners and (is_users or _is_users(source)):
                other = f"{_shown(source.full_path())}/{name}.yaml"
                if not _are_equal(file, other):
                    self._same_names.append(_of_same_name(name, file, other, is_users=is_users))

    def _problems_of_all(self, tree: DictConfig) -> Iterator[str]:
        plain: Any = OmegaConf.to_container(tree, throw_on_missing=False)
        yaml_files.refuse_long_references(plain)
        yield from target_problems("", plain)
        yield from choice_problems(tree.hydra.runtime.choices)
        if self._data_root_in is not None:
            try:
                tasks: Any = OmegaConf.to_container(tree.get(GROUP) or OmegaConf.create({}), resolve=True)
                yield from download_problems(tasks, str(tree.data_root))
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
    return f"{_shown(str(found.path))}/{config_path.removesuffix('.yaml').lstrip('/')}.yaml"


def _shown(folder: str) -> str:
    return folder.removeprefix("file://")


def _are_equal(file: str, other: str) -> bool:
    """Whether two files hold the same, so that it makes no difference which one is read."""
    places = (Path(file), Path(other))
    return all(place.is_file() for place in places) and places[0].read_bytes() == places[1].read_bytes()


def _of_same_name(name: str, file: str, other: str, *, is_users: bool) -> str:
    """What is said of a file that is passed over; `is_users`: for one of the user's, else for ours or Hydra's own."""
    read = file if "structured://" not in file else "what code says"
    return f"{name}: {read} is read, and not {other}" + ("" if is_users else "; give yours another name")


def same_names() -> List[str]:
    """One line per file that the job's config was not read from, since another one of its name comes first."""
    runtime: Any = HydraConfig.get().runtime
    return list(runtime.same_names)


def _goes_on(tree: DictConfig) -> bool:
    """Whether it is `run_dir=RUN resume=true`, however that is written."""
    try:
        plain = {name: tree.get(name) for name in ("action", "resume")}
        asked = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), plain)
    except OmegaConfBaseException:
        return False  # what is wrong there is told where the config is checked
    names_run = "run_dir" in tree and (OmegaConf.is_interpolation(tree, "run_dir") or tree.get("run_dir") is not None)
    return bool(asked.action == "train" and asked.resume and names_run)


class JoinedTasksSource(ConfigSource):
    """Answers for `tasks/a+b`, and for nothing else."""

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
        """While a shell completes `tasks=ner+s`: the joins one task longer than what stands there; else nothing."""
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
    """Puts the source above on Hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        JoinedTasksSource.search_path = search_path
        # A shell that completes hands its line over, but Hydra does not look for the folder that it names.
        if named := re.search(r"(?:--config-dir|-cd)[ =]+(\S+)", os.environ.get("COMP_LINE", "")):
            search_path.append("command-line", f"file://{Path(named[1]).expanduser().absolute()}")
        search_path.append("multitask_bert", f"{JoinedTasksSource.scheme()}://")


def options_of(group: str) -> List[str]:
    """The names of a group's files, in conf/ and in the folder of `--config-dir`."""
    return sorted({file.stem for folder in _folders() for file in (folder / group).glob("*.yaml")})


def file_of(group: str, name: str) -> str:
    """The file of an option, where it can be found in conf/ or in the folder of `--config-dir`; which comes first."""
    place = Path(group, f"{name}.yaml")
    found = [folder for folder in _folders() if (folder / place).is_file()]
    found.sort(key=lambda folder: is_own(str(folder), str(place)))
    return str(found[0] / place if found else place)


def _folders() -> List[Path]:
    entries = JoinedTasksSource.search_path.get_path() if JoinedTasksSource.search_path else []
    return [Path((entry.path or "").removeprefix("file://")) for entry in entries]


def users_options() -> str:
    """The user's own files by group, for `--help`; empty where no folder of the user's is searched."""
    lines = []
    for source in HydraConfig.get().runtime.config_sources:
        folder = Path(source.path)
        if source.schema != "file" or not _is_named_by_user(source.provider) or is_own(source.path, "."):
            continue
        lines += ["", f"Your own, in {folder} (*: read in place of the shipped one)"]
        files = (*folder.glob("*/*.yaml"), *folder.glob("hydra/*/*.yaml"))
        for group in sorted({file.parent.relative_to(folder).as_posix() for file in files}):
            names = sorted(file.stem for file in (folder / group).glob("*.yaml"))
            shipped = {file.stem for file in (OWN_CONF / group).glob("*.yaml")}
            lines.append(f"{group}: {', '.join(name + '*' * (name in shipped) for name in names)}")
    return "\n".join([*lines, ""]) if lines else ""

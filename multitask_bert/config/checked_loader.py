"""Hydra's config loader with checks of what other people's files say, before Hydra acts on it (docs/decisions/0007)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, List

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from multitask_bert.config.families import WRITTEN_IN, FolderSource
from multitask_bert.config.joined_tasks import GROUP
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.search_order import UsersFirst, is_users
from multitask_bert.errors import InputError
from multitask_bert.trust import yaml_files
from multitask_bert.trust.classes import target_problems
from multitask_bert.trust.config_files import choice_problems, file_problems
from multitask_bert.trust.downloads import download_problems
from multitask_bert.trust.paths import is_own
from multitask_bert.trust.permissions import refuse

MAX_FILES = 1000  # in one config, counted as often as it includes them


class CheckedLoader(ConfigLoaderImpl):
    """Composes as Hydra does, and refuses what a file may not say before anything is created or configured from it.

    Every config is composed here: that of a run, of a multirun and each of its jobs, for `--cfg`, `--help` and
    completion. `hydra.runtime.files` says where each part was found, and `hydra.runtime.same_names` which other files
    of the same names were ignored.
    """

    def __init__(self, config_search_path: ConfigSearchPath) -> None:
        super().__init__(config_search_path)
        self.repository = UsersFirst(config_search_path)

    def _process_config_searchpath(self, config_name: Any, parsed_overrides: Any, repo: Any) -> None:
        """Check what the primary config adds to the search path, which Hydra reads and imports before it composes."""
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
        self._data_root_in: str | None = None  # the file that sets it, unless it is one of ours
        self._names_sha256 = False  # whether whatever names the weights last also names their sha256
        self._files: dict[str, str] = {}
        self._same_names: list[str] = []
        tree = super()._load_configuration_impl(config_name, overrides, *args, **kwargs)
        refuse(self._problems_of_all(tree))
        self._note_weights({key.removeprefix("model.") for key in self._typed if key.startswith("model.")})
        if not self._names_sha256 and OmegaConf.select(tree, "model.sha256") is not None:
            tree.model.sha256 = None
        with open_dict(tree.hydra.runtime):
            tree.hydra.runtime.files, tree.hydra.runtime.same_names = self._files, self._same_names
        if "hydra.run.dir" not in self._typed and _resumes(tree):
            # The run continues in its own folder, where Hydra must not overwrite the config that it began with.
            tree.hydra.run.dir, tree.hydra.output_subdir = "${run_dir}", None
        return tree

    def _note_weights(self, named: Collection[str]) -> None:
        """Note whether a sha256 belongs to the weights; `named`: the keys of `model` in a file or on the command line.

        A sha256 counts only together with the weights that are named in the same place.
        """
        if "sha256" in named or "pretrained" in named:
            self._names_sha256 = "sha256" in named

    def _load_single_config(self, default: Any, repo: Any) -> ConfigResult:
        found = super()._load_single_config(default, repo)
        self._note_weights([str(key) for key in OmegaConf.select(found.config, "model") or ()])
        written_in = found.header.get(WRITTEN_IN) or default.config_path
        if not is_own(found.path, written_in):
            tree = OmegaConf.to_container(found.config)
            assert isinstance(tree, dict)
            source = _file(found, written_in)
            refuse((*file_problems(tree, self._typed), *target_problems("", tree)), source)
            if "data_root" in tree and "data_root" not in self._typed:
                self._data_root_in = source
        self._note_file(found, default.config_path, repo)
        return found

    def _note_file(self, found: ConfigResult, config_path: str, repo: Any) -> None:
        """Note where a config was found, and which files of the same name but with other contents are ignored."""
        name = config_path.removesuffix(".yaml").lstrip("/")
        file = _file(found, found.header.get(WRITTEN_IN) or config_path)
        holders = [
            source
            for source in repo.get_sources()
            if source.scheme() in ("file", "pkg") and source.is_config(config_path)
        ]
        winners = [source for source in holders if source.full_path() == found.path]
        if winners and winners[0].provider != "hydra":
            self._files[name] = file
        is_of_user = bool(winners) and is_users(winners[0])
        for source in holders:
            if source not in winners and (is_of_user or is_users(source)):
                other = _path_in(source, name)
                if not _are_equal(file, other):
                    self._same_names.append(_of_same_name(name, file, other, is_of_user=is_of_user))

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
    """`load` with a limit on its calls: files may list each other in their defaults without end."""
    numbers = itertools.count(1)

    def load_config(*args: Any, **kwargs: Any) -> ConfigResult | None:
        if next(numbers) > MAX_FILES:
            raise InputError(f"defaults lists name more than {MAX_FILES:,} files, all taken together")
        return load(*args, **kwargs)

    return load_config


def _file(found: ConfigResult, config_path: str) -> str:
    """The path of the file in which a config was found."""
    return f"{_shown(str(found.path))}/{config_path.removesuffix('.yaml').lstrip('/')}.yaml"


def _path_in(source: ConfigSource, name: str) -> str:
    """The path of the file, in a folder that is searched, which has a config: its own, or its family's."""
    has_file = Path(source.path, f"{name}.yaml").is_file()
    of_family = source.family_file(name) if isinstance(source, FolderSource) and not has_file else None
    return f"{_shown(source.full_path())}/{of_family or name}.yaml"


def _shown(folder: str) -> str:
    return folder.removeprefix("file://")


def _are_equal(file: str, other: str) -> bool:
    """Whether two files have the same contents, so that it makes no difference which one is read."""
    paths = (Path(file), Path(other))
    return all(path.is_file() for path in paths) and paths[0].read_bytes() == paths[1].read_bytes()


def _of_same_name(name: str, file: str, other: str, *, is_of_user: bool) -> str:
    """The warning that `other` is ignored; `is_of_user`: in favour of a user's file, otherwise of ours or Hydra's."""
    read = file if "structured://" not in file else "what code says"
    return f"{name}: {read} is read, and not {other}" + ("" if is_of_user else "; give yours another name")


def same_names() -> List[str]:
    """One line per file that was ignored because another one of its name comes first."""
    runtime: Any = HydraConfig.get().runtime
    return list(runtime.same_names)


def _resumes(tree: DictConfig) -> bool:
    """Whether the command resumes an earlier run: `run_dir=RUN resume=true`, however that is written."""
    try:
        plain = {name: tree.get(name) for name in ("action", "resume")}
        asked = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), plain)
    except OmegaConfBaseException:
        return False  # reported where the config is checked
    names_run = "run_dir" in tree and (OmegaConf.is_interpolation(tree, "run_dir") or tree.get("run_dir") is not None)
    return bool(asked.action == "train" and asked.resume and names_run)

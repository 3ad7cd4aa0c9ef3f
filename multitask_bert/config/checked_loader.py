"""How a composed config is checked before Hydra acts on it (docs/decisions/0007)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, List

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from multitask_bert.config.joined_tasks import GROUP
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.search_order import UsersFirst, is_users
from multitask_bert.errors import InputError
from multitask_bert.trust import yaml_files
from multitask_bert.trust.classes import target_problems
from multitask_bert.trust.config_files import choice_problems, file_problems
from multitask_bert.trust.paths import download_problems, is_own
from multitask_bert.trust.permissions import refuse

MAX_FILES = 1000  # that one config is made of; each may be in it many times


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
        is_of_user = bool(winners) and is_users(winners[0])
        for source in holders:
            if source not in winners and (is_of_user or is_users(source)):
                other = f"{_shown(source.full_path())}/{name}.yaml"
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


def _of_same_name(name: str, file: str, other: str, *, is_of_user: bool) -> str:
    """What is said of a file that is passed over; `is_of_user`: for one of the user's, else for ours or Hydra's own."""
    read = file if "structured://" not in file else "what code says"
    return f"{name}: {read} is read, and not {other}" + ("" if is_of_user else "; give yours another name")


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

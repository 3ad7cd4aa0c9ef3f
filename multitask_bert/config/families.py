"""`tasks=FAMILY_LANGUAGE`: a file in families/ describes a task once, and lists the languages that it exists in.

The file has the keys `task` (source and heads, as in a task's file, where `{language}` stands for the language's name),
`languages` (their names; each may say which splits it has, with the sha256 of each file) and, for files that can be
downloaded, `url` (with `{language}` and `{file}`). docs/families.md describes them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, List

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from multitask_bert.config.schema import SPLITS
from multitask_bert.errors import InputError

FAMILIES = "families"  # the folder
TASKS = "tasks"
KEYS = ("task", "url", "languages")
LANGUAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
WRITTEN_IN = "written_in"  # in the header of a composed task: its family's file, as a config path


class FolderSource(FileConfigSource):
    """A folder of configs, in which each task of a family is found as if it had a file.

    A file of that name goes first. The folder `families` itself is no group of options.
    """

    def is_group(self, config_path: str) -> bool:
        if config_path == TASKS and super().is_group(FAMILIES):
            return True
        return config_path.partition("/")[0] != FAMILIES and super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        return super().is_config(config_path) or self.family_file(config_path) is not None

    def load_config(self, config_path: str) -> ConfigResult:
        file = self.family_file(config_path)
        if file is None or super().is_config(config_path):
            return super().load_config(config_path)
        found = super().load_config(file)
        name = _task_name(config_path)
        family = file.removeprefix(f"{FAMILIES}/")
        tree = OmegaConf.to_container(found.config)
        task = task_of(tree, name.removeprefix(f"{family}_"), f"{self.path}/{file}.yaml")
        return ConfigResult(
            provider=found.provider,
            path=found.path,
            config=OmegaConf.create({name: task}),
            header={"package": None, WRITTEN_IN: file},
        )

    def list(self, config_path: str, results_filter: ObjectType | None) -> List[str]:
        """The files; while a shell completes, also the families' tasks, which would make other lists too long."""
        names = super().list(config_path, results_filter) if super().is_group(config_path) else []
        if config_path == "":
            return [name for name in names if name != FAMILIES]
        if config_path == TASKS and results_filter != ObjectType.GROUP and "COMP_LINE" in os.environ:
            families = families_in([Path(self.path)])
            names = sorted({*names, *(f"{family}_{name}" for family, of in families.items() for name in of)})
        return names

    def family_file(self, config_path: str) -> str | None:
        """The config path of the family's file that describes the task `tasks/NAME`; None: no family here has it."""
        name = _task_name(config_path)
        for end in [found.start() for found in re.finditer("_", name)][::-1]:  # the longest name of a family first
            file = f"{FAMILIES}/{name[:end]}"
            if super().is_config(file) and name[end + 1 :] in _languages(super().load_config(file).config):
                return file
        return None


def task_of(tree: Any, language: str, file: str) -> dict[str, Any]:
    """The task of one language, as its own file would say it; `tree`: the family's file as plain dicts.

    Raises:
        InputError: the file is none of a family; names it and what is wrong.
    """
    refuse_bad_family(tree, file)
    task: Any = _filled(tree["task"], language)
    source = task["source"]
    named = tree["languages"][language] if isinstance(tree["languages"], Mapping) else None
    for split in SPLITS:
        if named is not None and split not in named:
            source.pop(split, None)
    if isinstance(named, Mapping):
        source["downloads"] = {
            split: {
                "url": tree["url"].replace("{language}", language).replace("{file}", str(source[split])),
                "sha256": sha256,
            }
            for split, sha256 in named.items()
        }
    return dict(task)


def refuse_bad_family(tree: Any, file: str) -> None:
    """Check the form of a family's file; what it says of the task is checked where the task is.

    Raises:
        InputError: names the file, the key and the way out.
    """
    if not isinstance(tree, Mapping) or not {"task", "languages"} <= set(tree) <= set(KEYS):
        raise InputError(f"{file}: a family's file has the keys `task` and `languages`, and `url` for downloads")
    source = tree["task"].get("source") if isinstance(tree["task"], Mapping) else None
    if not isinstance(source, Mapping):
        raise InputError(f"{file}: `task` must be what a task's file has below the task's name: source and heads")
    if "{language}" not in str(source).replace("${language}", ""):
        raise InputError(
            f"{file}: nothing in `task.source` says {{language}}, so all languages would read the same data; write "
            f'folder: mine_{{language}}, or in quotes name: "{{language}}"'
        )
    for language in tree["languages"]:
        if not isinstance(language, str) or not LANGUAGE.fullmatch(language):
            raise InputError(
                f"{file}: languages: {language!r} is no name of letters, digits, '-' and '_'; YAML reads `no`, `yes` "
                f'and numbers as other values, unless in quotes: "no"'
            )
    for language, named in tree["languages"].items() if isinstance(tree["languages"], Mapping) else ():
        where = f"{file}: languages.{language}"
        if named is not None and not isinstance(named, Mapping | list):
            raise InputError(f"{where}: {named!r} must be the splits that it has, as [dev, test], or their sha256")
        for split in named or ():
            if split not in SPLITS or split not in source:
                raise InputError(f"{where}: {split!r} is no split that `task.source` names (train, dev, test)")
        if isinstance(named, Mapping) and not isinstance(tree.get("url"), str):
            raise InputError(f"{where}: has the sha256 of files, but `url` does not say where to download them from")


def families_in(folders: Iterable[Path]) -> dict[str, list[str]]:
    """The languages of each family in the folders of configs; a file that cannot be read has none."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted((folder / FAMILIES).glob("*.yaml")):
            try:
                languages = _languages(OmegaConf.load(path))
            except (OSError, UnicodeDecodeError, YAMLError, InputError, OmegaConfBaseException):
                languages = []
            found[path.stem] = sorted({*found.get(path.stem, ()), *languages})
    return dict(sorted(found.items()))


def family_of(task: str, families: Iterable[str]) -> str | None:
    """The family that the name of a task begins with, the longest of several; None if it begins with none."""
    names = [family for family in families if task == family or task.startswith(f"{family}_")]
    return max(names, key=len, default=None)


def _languages(tree: Any) -> list[str]:
    """The names of a family's languages, as far as its file has them in the right form."""
    languages: Any = OmegaConf.select(tree, "languages") if OmegaConf.is_dict(tree) else None
    return [str(language) for language in languages] if OmegaConf.is_config(languages) else []


def _task_name(config_path: str) -> str:
    """The name of the task that a config path leads to; empty for other groups."""
    group, _, name = config_path.lstrip("/").removesuffix(".yaml").rpartition("/")
    return name if group == TASKS else ""


def _filled(value: Any, language: str) -> Any:
    """A part of the template with the language's name in it; a reference `${language}` stays one."""
    if isinstance(value, Mapping):
        return {key: _filled(child, language) for key, child in value.items()}
    if isinstance(value, list):
        return [_filled(child, language) for child in value]
    return re.sub(r"(?<!\$)\{language\}", language, value) if isinstance(value, str) else value

"""The config files of a sweep, which must not change while it runs: each job is composed when it is launched."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from multitask_bert.config.families import FAMILIES, TASKS
from multitask_bert.errors import InputError
from multitask_bert.trust.paths import is_own
from multitask_bert.utils.files import sha256_of


def folders_of(loader: ConfigLoader, config: DictConfig) -> list[Path]:
    """The folders with configs: conf/, the one of `--config-dir`, and those of `hydra.searchpath`."""
    paths = [str(entry.path) for entry in loader.get_search_path().get_path() if entry.path is not None]
    paths += [source.path for source in config.hydra.runtime.config_sources if source.schema == "file"]
    found = [Path(path.removeprefix("file://")) for path in paths if path.startswith("file://") or "://" not in path]
    return list(dict.fromkeys(path for path in found if path != Path() and path.is_dir()))


def hash_files(folders: Sequence[Path], groups: Iterable[str]) -> dict[str, str]:
    """The start of the sha256 of every file that Hydra may compose from, by `number of the folder/path below it`.

    Only config groups are searched: a folder of `--config-dir` may hold anything, even the sweep's outputs.
    """
    tops = sorted({group.partition("/")[0] for group in groups} | {"hydra", FAMILIES})
    return {
        f"{number}/{path.relative_to(folder).as_posix()}": sha256_of(path)[:16]
        for number, folder in enumerate(folders)
        for path in sorted([*folder.glob("*.yaml"), *(path for top in tops for path in (folder / top).rglob("*.yaml"))])
    }


def hash_of(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def takes_part(name: str, configs: Collection[str] | None) -> bool:
    """Whether the file `number of the folder/path below it` can be read for one of `configs`, as in `tasks/ner`.

    `configs` None: any file can be.
    """
    config = name.partition("/")[2].removesuffix(".yaml")
    folder, _, family = config.partition("/")
    return (
        configs is None
        or config in configs
        or (folder == FAMILIES and any(other.startswith(f"{TASKS}/{family}_") for other in configs))
    )


def refuse_changes(
    before: Mapping[str, str], now: Mapping[str, str], folders: Sequence[Path], configs: Collection[str] | None
) -> None:
    """Refuse to resume a sweep if config files changed that take part in the composition of its trials (`takes_part`).

    Raises:
        InputError: a file in one of `folders` was changed, added or removed since the study began.
    """
    changed: dict[str, list[str]] = {}
    for name in sorted({name for name, _ in before.items() ^ now.items() if takes_part(name, configs)}):
        number, _, file = name.partition("/")
        folder = folders[int(number)] if int(number) < len(folders) else Path()
        changed.setdefault("conf/" if is_own(str(folder), ".") else f"{folder}/", []).append(file)
    listed = "; ".join(f"{folder}: {', '.join(files)}" for folder, files in changed.items())
    if changed:
        raise InputError(
            f"{listed} changed since this sweep began, so its trials could not be "
            f"compared; restore it and run the same command again, or begin a new study with hydra.sweeper.study=NAME"
        )

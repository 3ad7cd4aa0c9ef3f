"""What the configs were when a sweep began: each job is composed when it is launched, from the files of that time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from hydra.core.config_loader import ConfigLoader

from multitask_bert.config import InputError
from multitask_bert.utils.files import sha256_of


def folders_of(loader: ConfigLoader) -> list[Path]:
    """The folders that configs come from: conf/, and the one of `--config-dir`."""
    paths = [str(entry.path) for entry in loader.get_search_path().get_path() if entry.path is not None]
    found = [Path(path.removeprefix("file://")) for path in paths if path.startswith("file://") or "://" not in path]
    return [path for path in found if path.is_dir()]


def hash_files(folders: Sequence[Path], groups: Iterable[str]) -> dict[str, str]:
    """By `number of the folder/path below it`: the start of each file's sha256, of what Hydra may compose from.

    A folder of `--config-dir` may hold anything else, too: even the sweep's own outputs.
    """
    tops = sorted({group.partition("/")[0] for group in groups} | {"hydra"})
    return {
        f"{place}/{path.relative_to(folder).as_posix()}": sha256_of(path)[:16]
        for place, folder in enumerate(folders)
        for path in sorted([*folder.glob("*.yaml"), *(path for top in tops for path in (folder / top).rglob("*.yaml"))])
    }


def hash_of(files: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def refuse_changes(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raises:
    InputError: a file changed, came or went since the study began.
    """
    changed = sorted(name.partition("/")[2] for name, _ in before.items() ^ now.items())
    if changed:
        raise InputError(
            f"conf/: {', '.join(dict.fromkeys(changed))} changed since this sweep began, so that its trials could not "
            f"be compared; put it back and run the same command again, or begin anew with hydra.sweeper.study=NAME"
        )

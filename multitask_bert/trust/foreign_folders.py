"""What the folder of somebody else's run or sweep may not contain: links and configs that lead out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multitask_bert.trust.classes import target_problems
from multitask_bert.trust.config_files import reference_problems
from multitask_bert.trust.databases import NOT_THERE, is_known_store
from multitask_bert.trust.paths import LEFT_BY_RUNS
from multitask_bert.trust.permissions import is_allowed, leaves
from multitask_bert.utils.files import read_json


def run_problems(tree: Any) -> Iterator[str]:
    """What the config in an earlier run's folder may not say; `tree`: as it stands there, unresolved."""
    yield from target_problems("", tree)
    for key, value in leaves(tree):
        if isinstance(value, str) and not is_allowed(key):
            yield from reference_problems(key, value)


def link_problems(folder: Path) -> Iterator[str]:
    """Links in the folder of a run or a sweep, at any depth, that lead out of it and would be followed.

    Also anything that is neither a file nor a folder: opening a pipe would wait forever.
    """
    here = folder.resolve()
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            name = path.relative_to(folder)
            if path.is_symlink():
                try:
                    is_inside = path.resolve().is_relative_to(here)
                except (OSError, RuntimeError):  # the link leads to itself
                    is_inside = False
                if not is_inside:
                    yield f"{name} is a link that leads out of this folder; replace it by what it leads to"
            elif not (path.is_file() or path.is_dir()):
                yield f"{name} is neither a file nor a folder; remove it"


def is_of_a_run(folder: Path) -> bool:
    """Whether a folder holds what a run or a sweep leaves, or links of such names."""
    return any(os.path.lexists(folder / name) for name in LEFT_BY_RUNS)


def upload_problems(run_dir: Path, state_file: str) -> Iterator[str]:
    """What an earlier run's list of uploads may not name: files outside of its folder, or a new database."""
    try:
        state = read_json(run_dir / state_file)
        artifacts, uri = list(state["artifacts"]), state["tracking_uri"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # missing or damaged, which its reader reports
    if not is_known_store(uri):
        yield f"{state_file}: tracking_uri={uri}: {NOT_THERE}"
    here = run_dir.resolve()
    for name in artifacts:
        path = run_dir / name
        if not all(file.resolve().is_relative_to(here) for file in (path, *path.rglob("*"))):
            yield f"{state_file}: artifacts: {name} leads out of this folder, and is not sent"

"""Where files may be downloaded to, when a file that is not ours names the data root or the download."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

from multitask_bert.trust.paths import is_code_folder, is_inside
from multitask_bert.trust.permissions import OUR_VARIABLES, is_allowed, opened, typed_words
from multitask_bert.utils.files import expand_user_path

# Suffixes of files that Python, Hydra, their tools or a shell run or are configured by: never those of a download.
LOADED = frozenset({
    ".py", ".pyc", ".pyo", ".pyi", ".pyd", ".pyw", ".so", ".dll", ".dylib", ".pth", ".egg-link", ".egg", ".whl",
    ".yaml", ".yml", ".ini", ".cfg", ".toml", ".sh", ".bash", ".bat", ".cmd", ".ps1", ".exe", ".ipynb",
    ".pkl", ".pickle", ".joblib", ".pt",
})  # fmt: skip


def download_problems(tasks: Mapping[str, Any], data_root: str) -> Iterator[str]:
    """One line if files would be downloaded to a data root outside of the data folders here that a file names.

    Files that exist there are only read. `tasks`: as plain dicts, resolved.
    """
    if _is_data_folder(data_root) or is_allowed("data_root") or data_root == os.environ.get(f"{OUR_VARIABLES}DATA"):
        return
    for name, task in tasks.items():
        source = task["source"]
        for key in source.get("downloads") or ():
            split, _, part = str(key).partition("/")
            _, is_named, name_of_set = split.partition(".")
            file = (source.get("tests") or {}).get(name_of_set) if is_named else source.get(split)
            path = Path(expand_user_path(data_root), source.get("folder") or "", file or "", part)
            if not path.exists():
                yield (
                    f"data_root={data_root}: a file names this folder, and {path} of task {name} is missing there; to "
                    f"have it downloaded to it, {typed_words('data_root', data_root)}, or {opened('data_root')}"
                )
                return


def download_path_problem(data_root: str, path: Path, inside: Iterable[str]) -> str | None:
    """Why a download must not be written to `path`; None: it may. `inside`: what leads there from the data root."""
    names = [PurePath(name) for name in inside]
    root = Path(expand_user_path(data_root)).resolve()
    if not all(map(is_inside, map(str, names))) or not path.parent.resolve().is_relative_to(root):
        return f"`source.folder`, `source.train` and the like, or a link, lead out of data_root={data_root}"
    if any(part.startswith(".") for name in names for part in name.parts):
        return "a hidden file or folder is not data"
    if any(name != name.strip() or not name.isprintable() for name in map(str, names)):
        return "a name with control characters, or with blanks at its ends, is not a name of data"
    if found := LOADED.intersection(suffix.lower() for suffix in path.suffixes):
        return f"a {min(found)} file may be loaded as code or as a config"
    if not path.suffix and path.name.lower() in ("makefile", "gnumakefile", "dockerfile", "justfile"):
        return f"a {path.name} is a script"
    if is_code_folder(path.parent.resolve()) or is_code_folder(root):
        return f"data_root={data_root} leads to a folder that code or configs are loaded from"
    return None


def _is_data_folder(data_root: str) -> bool:
    """Whether a file may name this data root for downloads: a visible folder below this one, without code in it."""
    here, parts = Path.cwd().resolve(), PurePath(data_root).parts
    if not is_inside(data_root) or not parts or any(part.startswith(".") for part in parts):
        return False
    folder = (here / data_root).resolve()
    if not folder.is_relative_to(here) or folder == here or is_code_folder(folder):
        return False
    return not folder.is_dir() or not any(file.suffix.lower() in LOADED for file in folder.iterdir())

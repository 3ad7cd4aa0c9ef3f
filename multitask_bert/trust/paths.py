"""Where a file that is not ours may have something read or written: folders of runs, downloads, databases."""

from __future__ import annotations

import os
import sqlite3
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path, PurePath
from typing import Any

from multitask_bert.trust.permissions import OUR_VARIABLES, is_allowed, opened, typed_words
from multitask_bert.utils.addresses import sqlite_path
from multitask_bert.utils.files import expand_user_path

PACKAGE = Path(__file__).parent.parent
OWN_CONF = (PACKAGE.parent / "conf").resolve()
LEFT_BY_RUNS = (".hydra", "run.log", "metrics.jsonl", "sweep.json", "study.journal", "multirun.yaml", "reproduce.yaml")
LOADED = frozenset(
    {
        ".py",
        ".pyc",
        ".pyo",
        ".pyi",
        ".pyd",
        ".pyw",
        ".so",
        ".dll",
        ".dylib",
        ".pth",
        ".egg-link",
        ".egg",
        ".whl",
        ".yaml",
        ".yml",
        ".ini",
        ".cfg",
        ".toml",
        ".sh",
        ".bash",
        ".bat",
        ".cmd",
        ".ps1",
        ".exe",
        ".ipynb",
        ".pkl",
        ".pickle",
        ".joblib",
        ".pt",
    }
)  # suffixes of what Python, Hydra, their tools or a shell run or are configured by; never of a download


def download_problems(tasks: Mapping[str, Any], data_root: str) -> Iterator[str]:
    """Downloads into a data root that a file names, and that lies elsewhere; what is there already is only read.

    `tasks`: as plain dicts, resolved.
    """
    if _is_data_folder(data_root) or is_allowed("data_root") or data_root == os.environ.get(f"{OUR_VARIABLES}DATA"):
        return
    for name, task in tasks.items():
        source = task["source"]
        for key in source.get("downloads") or ():
            split, _, part = str(key).partition("/")
            path = Path(expand_user_path(data_root), source.get("folder") or "", source.get(split) or "", part)
            if not path.exists():
                yield (
                    f"data_root={data_root}: a file names this folder, and {path} of task {name} is missing there; to "
                    f"have it downloaded to that place, {typed_words('data_root', data_root)}, or {opened('data_root')}"
                )
                return


def download_place_problem(data_root: str, path: Path, inside: Iterable[str]) -> str | None:
    """Why a download must not be written to `path`; None: it may. `inside`: what leads there from the data root."""
    names = [PurePath(name) for name in inside]
    root = Path(expand_user_path(data_root)).resolve()
    if not all(map(is_inside, map(str, names))) or not path.parent.resolve().is_relative_to(root):
        return f"`source.folder`, `source.train` and the like, or a link, lead out of data_root={data_root}"
    if any(part.startswith(".") for name in names for part in name.parts):
        return "a hidden file or folder is no data"
    if any(name != name.strip() or not name.isprintable() for name in map(str, names)):
        return "a name with a control character, or with blanks at its ends, is no name of data"
    if found := LOADED.intersection(suffix.lower() for suffix in path.suffixes):
        return f"a {min(found)} file may be loaded as code or as a config"
    if not path.suffix and path.name.lower() in ("makefile", "gnumakefile", "dockerfile", "justfile"):
        return f"a {path.name} is a script"
    if _is_code_folder(path.parent.resolve()) or _is_code_folder(root):
        return f"data_root={data_root} leads to a folder that code or configs are loaded from"
    return None


def _is_data_folder(data_root: str) -> bool:
    """Whether a file may name this data root for downloads: a visible folder below this one, without code in it."""
    here, parts = Path.cwd().resolve(), PurePath(data_root).parts
    if not is_inside(data_root) or not parts or any(part.startswith(".") for part in parts):
        return False
    folder = (here / data_root).resolve()
    if not folder.is_relative_to(here) or folder == here or _is_code_folder(folder):
        return False
    return not folder.is_dir() or not any(file.suffix.lower() in LOADED for file in folder.iterdir())


def _is_folder_of_runs(folder: str) -> bool:
    """Whether a file may name this folder, a path below this one, for runs to be written to."""
    parts = PurePath(folder).parts
    return (
        bool(parts) and not any(part.startswith(".") for part in parts) and not _is_code_folder(Path(folder).resolve())
    )


def _is_code_folder(folder: Path) -> bool:
    """Whether Python or Hydra loads from a folder, from one that it lies in, or from one that lies in it."""
    checkout = PACKAGE.parent.resolve()
    ours = [PACKAGE.resolve(), OWN_CONF, checkout / "hydra_plugins"]
    if any(folder.is_relative_to(place) or place.is_relative_to(folder) for place in ours):
        return True
    if any(folder == Path(entry).resolve() for entry in sys.path if entry):
        return True
    installed = (Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib"))
    return any(folder.is_relative_to(place) for place in installed)


def is_own(path: str | None, config_path: str) -> bool:
    """Whether a config lies in our conf/, in Hydra's own folder, or in code; `path`: where Hydra says it found it.

    `config_path`, below that, may climb out of it: a defaults list may hold `/../../other/file`. The folder of a run or
    of a sweep is nobody's conf/, though it lie in ours.
    """
    if path is None or path.startswith("structured://"):
        return True
    scheme, _, place = path.rpartition("://")
    if scheme not in ("", "file"):
        return path.startswith("pkg://hydra.conf") and is_inside(config_path)
    file = Path(place, config_path).resolve()
    if Path(place).resolve() != OWN_CONF or not file.is_relative_to(OWN_CONF):
        return False
    between = [folder for folder in file.parents if folder.is_relative_to(OWN_CONF)]
    return not any((folder / name).exists() for folder in between for name in LEFT_BY_RUNS)


def is_inside(path: str) -> bool:
    """Whether a path, once it is joined to a folder, lies in that folder by its name alone."""
    pure = PurePath(path)
    return not (pure.is_absolute() or ".." in pure.parts or path.startswith(("~", "$")) or "${" in path)


def is_inner_store(uri: Any) -> bool:
    """Whether MLflow's store is a server, or a database below the working directory."""
    text = str(uri)
    if text.startswith(("http://", "https://")):
        return True
    path = sqlite_path(text)
    if path is None or not is_inside(path.as_posix()):
        return False
    return path.suffix in (".db", ".sqlite", ".sqlite3") and not is_other_file(path)


def is_other_file(path: Path, tables: Collection[str] = ("experiments", "studies")) -> bool:
    """Whether something else is there already, to which MLflow or Optuna would add their tables.

    `tables`: those by which their own databases are known.
    """
    if not os.path.lexists(path):
        return False
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return True
    return found.isdisjoint(tables)

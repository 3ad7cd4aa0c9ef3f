"""Which config files are ours, and which folders a file that is not ours may name."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path, PurePath

PACKAGE = Path(__file__).parent.parent
_IN_WHEEL, _IN_CHECKOUT = PACKAGE / "conf", PACKAGE.parent / "conf"
OWN_CONF = (_IN_WHEEL if _IN_WHEEL.is_dir() else _IN_CHECKOUT).resolve()
LEFT_BY_RUNS = (".hydra", "run.log", "metrics.jsonl", "sweep.json", "study.journal", "multirun.yaml", "reproduce.yaml")


def is_own(path: str | None, config_path: str) -> bool:
    """Whether a config lies in our conf/, in Hydra's own folder, or in code; `path`: where Hydra says it found it.

    `config_path`, below that, may climb out of it: a defaults list may hold `/../../other/file`. The folder of a run or
    of a sweep is never trusted, even inside our conf/.
    """
    if path is None or path.startswith("structured://"):
        return True
    scheme, _, folder = path.rpartition("://")
    if scheme not in ("", "file"):
        return path.startswith("pkg://hydra.conf") and is_inside(config_path)
    file = Path(folder, config_path).resolve()
    if Path(folder).resolve() != OWN_CONF or not file.is_relative_to(OWN_CONF):
        return False
    between = [parent for parent in file.parents if parent.is_relative_to(OWN_CONF)]
    return not any((parent / name).exists() for parent in between for name in LEFT_BY_RUNS)


def is_inside(path: str) -> bool:
    """Whether a path that is joined to a folder lies in that folder, going by the names alone."""
    pure = PurePath(path)
    return not (pure.is_absolute() or ".." in pure.parts or path.startswith(("~", "$")) or "${" in path)


def is_folder_of_runs(folder: str) -> bool:
    """Whether a file may name this folder, a path below the working directory, for runs to be written to."""
    parts = PurePath(folder).parts
    return (
        bool(parts) and not any(part.startswith(".") for part in parts) and not is_code_folder(Path(folder).resolve())
    )


def is_code_folder(folder: Path) -> bool:
    """Whether Python or Hydra loads code or configs from a folder, from one above it, or from one inside it."""
    checkout = PACKAGE.parent.resolve()
    own = [PACKAGE.resolve(), OWN_CONF, checkout / "hydra_plugins"]
    if any(folder.is_relative_to(ours) or ours.is_relative_to(folder) for ours in own):
        return True
    if any(folder == Path(entry).resolve() for entry in sys.path if entry):
        return True
    installed = (Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib"))
    return any(folder.is_relative_to(path) for path in installed)

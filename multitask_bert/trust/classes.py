"""Classes that a config may name in `_target_`: ours and those of `torch.optim`, of the kind wanted there."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from hydra.utils import get_class

from multitask_bert.errors import InputError
from multitask_bert.trust.paths import PACKAGE
from multitask_bert.trust.permissions import is_allowed, opened

TARGET = re.compile(r"(torch\.optim|multitask_bert(?:\.[a-z0-9_]+)+)\.[A-Z]\w*(?:\.from_config)?")
MADE_OF_CLASS = re.compile(r"(?:optimizer|balancing|trainer|logger\.[^.]+)\._target_")
PLUGINS = frozenset({
    "multitask_bert.command_line.RefuseEarly",
    "hydra_plugins.multitask_bert_sweeper.StudySweeper",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
})  # fmt: skip


# Names that the configs of earlier runs hold, and where these classes are now.
MOVED = {
    "multitask_bert.training.loggers.TensorBoardLogger": "multitask_bert.tracking.tensorboard.TensorBoardLogger",
    "multitask_bert.training.mlflow_logger.MlflowLogger": "multitask_bert.tracking.mlflow.logger.MlflowLogger",
}


NOT_OPENED = "is code of your own, which a config can name only once you have opened it: "


def target_problems(where: str, value: Any) -> Iterator[str]:
    """Classes at any depth that no config may name; `where`: the full name of the value, empty for the whole config."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, child in items:
        name = f"{where}.{key}" if where else str(key)
        if key == "_target_":
            yield from _target_problem(name, child)
        else:
            yield from target_problems(name, child)


def _target_problem(name: str, target: Any) -> Iterator[str]:
    """The class must be defined in a file of ours: what that file imports is another's (`…study.JournalFileBackend`).

    Whether it is of the kind that is wanted there is known only once it is imported: see `named_class`.
    """
    target = MOVED.get(target, target) if isinstance(target, str) else target
    if isinstance(target, str) and (is_allowed(target) or (name.startswith("hydra.") and target in PLUGINS)):
        return
    match = TARGET.fullmatch(target) if isinstance(target, str) else None
    if match is None or name.startswith("hydra."):
        package = str(target).partition(".")[0]
        what = "a plugin that comes with this project" if name.startswith("hydra.") else "a class of multitask_bert or"
        what += "" if name.startswith("hydra.") else " of torch.optim"
        yield f"{name}={target}: must name {what} ({opened(package)} where it is your own)"
    elif not MADE_OF_CLASS.fullmatch(name):
        yield f"{name}={target}: nothing is made of a class here; remove it"
    elif match[1] != "torch.optim" and target.removesuffix(".from_config").rpartition(".")[2] not in _classes(match[1]):
        yield f"{name}={target}: there is no such class in {match[1]}"


@cache
def _classes(module: str) -> frozenset[str]:
    """The classes that a module of ours defines, without importing it; none where there is no such module."""
    place = PACKAGE.joinpath(*module.split(".")[1:])
    files = [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    nodes = (node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body)
    return frozenset(node.name for node in nodes if isinstance(node, ast.ClassDef))


def named_class(field: str, target: str, kind: type) -> Any:
    """The class that a config names in `field`; of another kind only where the user has opened it.

    Raises:
        InputError: there is no such class, or it is none of these.
    """
    try:
        found = get_class(MOVED.get(target, target))
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{field}={target}: cannot be imported ({error})") from error
    if not issubclass(found, kind) and not is_allowed(target):
        raise InputError(f"{field}={target}: must name a {kind.__name__} ({opened(target)} where it is your own)")
    return found


def users_code(field: str, name: str, kind: type | None = None) -> Any:
    """What a config names in the user's own module: a function, or a class derived from `kind`.

    Raises:
        InputError: the user has not opened it (it is then not imported), it is not there, or it is something else.
    """
    if not is_allowed(name):
        raise InputError(f"{field}={name}: {NOT_OPENED}{opened(name)}")
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{field}={name}: cannot be imported ({error}); PYTHONPATH=FOLDER names the folder of {module}.py"
        ) from error
    if not callable(found) or (kind is not None and not (isinstance(found, type) and issubclass(found, kind))):
        wanted = "function" if kind is None else f"class derived from {kind.__module__}.{kind.__name__}"
        raise InputError(f"{field}={name}: must be a {wanted}")
    return found

"""Classes and functions that a config may name: ours, those of `torch.optim`, and the user's own once opened."""

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
CLASS_FIELD = re.compile(r"(?:optimizer|balancing|trainer|logger\.[^.]+)\._target_")
PLUGINS = frozenset({
    "multitask_bert.command_line.early_refusals.RefuseEarly",
    "hydra_plugins.multitask_bert_sweeper.StudySweeper",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
})  # fmt: skip


# Names in the configs of earlier runs, and where these classes are now.
MOVED = {
    "multitask_bert.training.loggers.TensorBoardLogger": "multitask_bert.tracking.tensorboard.TensorBoardLogger",
    "multitask_bert.training.mlflow_logger.MlflowLogger": "multitask_bert.tracking.mlflow.logger.MlflowLogger",
}


def own_code_problem(field: str, name: str, otherwise: str) -> str | None:
    """Why a config may not name this class or function of a module that is not ours; None: the user has opened it.

    `otherwise`: what the field may name without that, as "a class of torch.optim".
    """
    if is_allowed(name):
        return None
    return f"{field}={name}: must name {otherwise} ({opened(name.partition('.')[0])} where it is your own)"


def target_problems(where: str, value: Any) -> Iterator[str]:
    """One line per class, at any depth, that may not be named; `where`: full name of the value, empty for a config."""
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
    """Refuse a class that no file of ours defines; one that a file of ours only imports does not count.

    Whether it is a subclass of the expected one is known only once it is imported: see `named_class`.
    """
    target = MOVED.get(target, target) if isinstance(target, str) else target
    if isinstance(target, str) and (is_allowed(target) or (name.startswith("hydra.") and target in PLUGINS)):
        return
    match = TARGET.fullmatch(target) if isinstance(target, str) else None
    if match is None or name.startswith("hydra."):
        is_plugin = name.startswith("hydra.")
        otherwise = (
            "a plugin that comes with this project" if is_plugin else "a class of multitask_bert or of torch.optim"
        )
        yield str(own_code_problem(name, str(target), otherwise))
    elif not CLASS_FIELD.fullmatch(name):
        yield f"{name}={target}: no class is used here; remove it"
    elif match[1] != "torch.optim" and target.removesuffix(".from_config").rpartition(".")[2] not in _classes(match[1]):
        yield f"{name}={target}: there is no such class in {match[1]}"


@cache
def _classes(module: str) -> frozenset[str]:
    """The classes that a module of ours defines, found without importing it; empty if there is no such module."""
    path = PACKAGE.joinpath(*module.split(".")[1:])
    files = [file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()]
    nodes = (node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body)
    return frozenset(node.name for node in nodes if isinstance(node, ast.ClassDef))


def named_class(field: str, target: str, base: type) -> Any:
    """Import the class that a config names in `field`: a subclass of `base`, or any class that the user has opened.

    Raises:
        InputError: there is no such class, or it is not a subclass of `base`.
    """
    try:
        found = get_class(MOVED.get(target, target))
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{field}={target}: cannot be imported ({error})") from error
    if not issubclass(found, base):
        raise InputError(
            own_code_problem(field, target, f"a {base.__name__}") or f"{field}={target}: is no {base.__name__}"
        )
    return found


def users_code(field: str, name: str, kind: type | None = None, *, otherwise: str) -> Any:
    """What a config names in the user's own module: a function, or a class derived from `kind`.

    `otherwise`: see `own_code_problem`.

    Raises:
        InputError: the user has not opened it (it is then not imported), it is not there, or it is something else.
    """
    if (problem := own_code_problem(field, name, otherwise)) is not None:
        raise InputError(problem)
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except AttributeError as error:
        raise InputError(f"{field}={name}: cannot be imported ({error})") from error
    except ImportError as error:
        raise InputError(
            f"{field}={name}: cannot be imported ({error}); PYTHONPATH=FOLDER names the folder of {module}.py"
        ) from error
    if not callable(found) or (kind is not None and not (isinstance(found, type) and issubclass(found, kind))):
        wanted = "function" if kind is None else f"class derived from {kind.__module__}.{kind.__name__}"
        raise InputError(f"{field}={name}: must be a {wanted}")
    return found

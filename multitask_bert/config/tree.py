"""From the tree that Hydra composes to the typed config and back; unknown keys and wrong types in plain words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.sharing import share_groups, share_heads
from multitask_bert.errors import InputError
from multitask_bert.trust.config_files import unresolved_problems
from multitask_bert.trust.permissions import refuse

NAMES_IN_SOURCE = ("text", "text_pair", "words", "choices")
NAMES_IN_HEAD = ("labels", "class_weights", "metrics")  # beside its columns; and `names`, where it is no file


def from_tree(tree: DictConfig, tasks_of_run: Mapping[str, Any] | None = None) -> ExperimentConfig:
    """Convert Hydra's composed tree to the typed config, with tasks sorted so that `a+b` and `b+a` are one run.

    `tasks_of_run`: see `share_heads`.

    Raises:
        InputError: unknown keys (all of them), or a value that is missing or of the wrong type, by the full name.
    """
    try:
        # A plain container first: merged as it is, the tree would smuggle keys that were added to it past the schema.
        plain = OmegaConf.to_container(tree, resolve=True)
        assert isinstance(plain, dict)
        # Before anything resolves it again: nobody has checked a reference that is put together from several values.
        refuse(unresolved_problems(plain))
        if problems := list(_unknown_keys(plain, ExperimentConfig)):
            raise InputError("\n".join(problems))
        _normalise_names(plain)
        tasks = dict(_dicts(plain.get("tasks")))
        share_groups(plain.get("share"), tasks)
        share_heads(tasks, tasks_of_run)
        typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ExperimentConfig), plain))
    except OmegaConfBaseException as error:
        raise InputError(explain(error)) from error
    assert isinstance(typed, ExperimentConfig)
    typed.tasks = {name: typed.tasks[name] for name in sorted(typed.tasks)}
    for task in typed.tasks.values():
        task.heads = {name: task.heads[name] for name in sorted(task.heads)}
    return typed


def _normalise_names(plain: dict[Any, Any]) -> None:
    """Normalise the names of labels and columns as those read from files are normalised (Unicode NFC).

    Raises:
        InputError: a label is a boolean, as unquoted `no` and `yes` are in YAML.
    """
    for task_name, task in _dicts(plain.get("tasks")):
        source = task.get("source")
        source = source if isinstance(source, dict) else {}
        # The columns of parallel files are files, whose names are as the disk has them.
        of_source, of_head = (
            ((), ()) if source.get("format") == "parallel" else (NAMES_IN_SOURCE, ("column", "columns"))
        )
        for field in of_source:
            _normalise(source, field)
        for head_name, head in _dicts(task.get("heads")):
            of_file = ("names",) if isinstance(head.get("names"), list) else ()
            labels = head.get("labels")
            if isinstance(labels, list) and any(isinstance(label, bool) for label in labels):
                raise InputError(
                    f"tasks.{task_name}.heads.{head_name}.labels: yes, no, true and false are strings in YAML only "
                    f"in quotes: labels: ['no', 'yes']"
                )
            for field in (*of_head, *NAMES_IN_HEAD, *of_file):
                _normalise(head, field)
    trainer, study = plain.get("trainer"), plain.get("study")
    if isinstance(trainer, dict):
        _normalise(trainer, "metric_for_best")
    if isinstance(study, dict):
        _normalise(study, "expected")


def _dicts(tree: Any) -> list[tuple[str, dict[Any, Any]]]:
    """The children that are dicts, by name."""
    return [(name, child) for name, child in tree.items() if isinstance(child, dict)] if isinstance(tree, dict) else []


def _normalise(tree: dict[Any, Any], field: str) -> None:
    """Normalise a field: a name, a list of names, or a dict whose keys are names."""
    value = tree.get(field)
    if isinstance(value, dict):
        tree[field] = {_normalised(name): child for name, child in value.items()}
    elif isinstance(value, list):
        tree[field] = [_normalised(name) for name in value]
    elif value is not None:
        tree[field] = _normalised(value)


def _normalised(name: Any) -> Any:
    return unicodedata.normalize("NFC", name) if isinstance(name, str) else name


def to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """The config as plain dicts, lists, strings and numbers; references in it are left as they are."""
    tree = OmegaConf.to_container(OmegaConf.structured(config), resolve=False)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """`{"optimizer": {"lr": 0.1}}` -> `("optimizer.lr", 0.1)`; an empty dict is a value of its own."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def without_hydra(tree: DictConfig) -> DictConfig:
    """The part of Hydra's composed tree that is the job's config."""
    return OmegaConf.masked_copy(tree, [str(key) for key in tree if key != "hydra"])


def explain(error: OmegaConfBaseException) -> str:
    """OmegaConf's error in one line: the field's full name, and what is wrong with its value."""
    message = what_is_wrong(error)
    if shape := re.search(r"(\w+) is not a subclass of (\w+)", message):
        names = ", ".join(get_type_hints(globals()[shape[2]])) if shape[2] in globals() else "keys"
        message = f"found a {shape[1]} where a dict is needed (its keys: {names})"
    elif needs_list(error):
        message = f"needs a list, also of one; write `{error.key}: [{error.value}]`"
    return f"{error.full_key}: {message}" if error.full_key else message


def what_is_wrong(error: OmegaConfBaseException) -> str:
    """What OmegaConf says is wrong with a value, in words of the user."""
    message = str(error).splitlines()[0]
    if found := re.fullmatch(r"Value '(.*)' of type '\w+' could not be converted to (Float|Integer)", message):
        return f"needs a {'whole ' if found[2] == 'Integer' else ''}number, but found '{found[1]}'"
    if found := re.match(r"Value '(.*)' is not a valid bool", message):
        return f"needs true or false, but found '{found[1]}'"
    if "is not Optional" in message or "NoneType is not a subclass of" in message:
        return "needs a value: null is not allowed here"
    return message


def needs_list(error: OmegaConfBaseException) -> bool:
    """Whether the error is that a single value was given where a list belongs."""
    return "is not a ListConfig" in str(error)


def unknown_key(full_name: str, siblings: Iterable[str] = ()) -> str:
    """The message for an unknown key, with the one that was probably meant: a sibling, or a similar name elsewhere."""
    if full_name == "experiment":  # where a file's keys land if it does not say otherwise
        return "experiment: no such key; an experiment file begins with the line '# @package _global_'"
    where, dot, name = full_name.rpartition(".")
    near = nearest(name, siblings)
    if near is not None:
        return f"{full_name}: no such key; did you mean {where}{dot}{near}?"
    elsewhere = {key.rpartition(".")[2]: key for key in _known_keys(ExperimentConfig)}
    near = nearest(name, elsewhere)
    if near is not None:
        return f"{full_name}: no such key; did you mean {elsewhere[near]}?"
    known = f" (known here: {', '.join(siblings)})" if siblings else ""
    return f"{full_name}: no such key{known}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that `name` probably misspells; None if none is similar."""
    return next(iter(get_close_matches(name, list(known), n=1, cutoff=0.7)), None)


def _unknown_keys(tree: dict[Any, Any], schema: type, where: str = "") -> Iterator[str]:
    """One line per key that the schema does not have; free dicts (optimizer.options, logger, ...) may hold any key."""
    fields = get_type_hints(schema)
    for key, value in tree.items():
        kind, children = fields.get(key), {f"{where}{key}.": value}
        if kind is None:
            yield unknown_key(f"{where}{key}", fields)
            continue
        if get_origin(kind) is dict and isinstance(value, dict):
            kind, children = get_args(kind)[1], {f"{where}{key}.{name}.": child for name, child in value.items()}
        if is_dataclass(kind):
            assert isinstance(kind, type)
            for prefix, child in children.items():
                if isinstance(child, dict):  # anything else is of the wrong type, which OmegaConf says
                    yield from _unknown_keys(child, kind, prefix)


def _known_keys(schema: type, where: str = "") -> Iterator[str]:
    """The full names of all fields, outer ones first; <name> stands for what the user names."""
    fields = get_type_hints(schema)
    yield from (f"{where}{key}" for key in fields)
    for key, kind in fields.items():
        of_name, kind = (".<name>", get_args(kind)[1]) if get_origin(kind) is dict else ("", kind)
        if is_dataclass(kind):
            assert isinstance(kind, type)
            yield from _known_keys(kind, f"{where}{key}{of_name}.")

"""`share`: heads that several tasks have in common; resolved before the config is typed.

Afterwards the `share` of a head names the head that has the weights, however long the chain was, and what the head
leaves at its default is as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, fields
from typing import Any

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError

OF_EACH_TASK = ("share", "weight", "unknown_labels")  # fields of a head that are never those of the shared one
# Fields that say how the labels of one task are read and scored.
MAY_DIFFER = ("column", "columns", "separator", "names", "scheme", "metrics")
PLAIN = "plain"  # the scheme whose tags are no entity spans

Tasks = Mapping[str, dict[str, Any]]  # by name, as plain dicts


def share_groups(share: str | None, tasks: Tasks) -> None:
    """Write the config's `share` into the tasks: in `a+b+c d+e`, `b` and `c` share all heads of `a`, `e` those of `d`.

    Raises:
        InputError: a group of less than two tasks; a task that is not in the run, or shares the heads of another one.
    """
    for group in str(share or "").split():
        first, *others = group.split("+")
        if not others:
            raise InputError(f"share={share}: {group} names one task; write two or more, as in share=ner_swa+ner_hau")
        for name in others:
            if name not in tasks:
                raise InputError(_no_task(f"share={share}", first, name, tasks))
            if tasks[name].get("share") not in (None, first):
                raise InputError(f"share={share}: tasks.{name}.share={tasks[name]['share']} says another; remove one")
            tasks[name]["share"] = first


def share_heads(tasks: Tasks, of_run: Tasks | None = None) -> None:
    """Resolve every `share` in place.

    `of_run`: the resolved tasks of an earlier run, whose heads score `tasks`; one of the same name that names no heads
    has those of the run.

    Raises:
        InputError: one line per `share` that names nothing, leads in a circle, or contradicts the head it names.
    """
    of_run = of_run or {}
    known = {**of_run, **tasks}
    for name, task in tasks.items():
        if name in of_run and not task.get("heads") and task.get("share") is None:
            task["heads"] = {head_name: {} for head_name in _heads(of_run[name])}
        _add_heads(name, known)
    problems: list[str] = []
    for name, task in tasks.items():
        for head_name, head in _heads(task).items():
            where = f"tasks.{name}.heads.{head_name}"
            if (earlier := _heads(of_run.get(name, {})).get(head_name)) is not None:
                problems += _fill(head, earlier, where, f"{name}.{head_name} of the run")
                head["share"] = head.get("share") or earlier.get("share")
            root = _root(name, head_name, known)
            if root != (name, head_name):
                problems += _fill(head, _heads(known[root[0]])[root[1]], where, ".".join(root))
                head["share"] = ".".join(root)
    if problems:
        raise InputError("\n".join(problems))


def _heads(task: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    heads = task.get("heads")
    return heads if isinstance(heads, dict) and all(isinstance(head, dict) for head in heads.values()) else {}


def _add_heads(name: str, tasks: Tasks, path: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """The heads of a task, with those of the task whose heads it shares; a head's own `share` comes first."""
    task = tasks[name]
    share = task.get("share")
    if share is None:
        return _heads(task)
    where = f"tasks.{name}.share={share}"
    if share in (*path, name):
        raise InputError(f"{where}: shares in a circle ({' -> '.join((*path, name, share))}); remove one of them")
    if share not in tasks:
        raise InputError(_no_task(where, name, share, tasks))
    shared = _add_heads(share, tasks, (*path, name))
    task["heads"] = task.get("heads") or {}
    for head_name in shared:
        head = task["heads"].setdefault(head_name, {})
        if isinstance(head, dict) and head.get("share") is None:
            head["share"] = f"{share}.{head_name}"
    return _heads(task)


def _root(task: str, head: str, tasks: Tasks, path: tuple[str, ...] = ()) -> tuple[str, str]:
    """The task and name of the head that has the weights of this one."""
    share = _heads(tasks[task])[head].get("share")
    if share is None:
        return task, head
    where, here = f"tasks.{task}.heads.{head}.share={share}", f"{task}.{head}"
    if share in (*path, here):
        raise InputError(f"{where}: shares in a circle ({' -> '.join((*path, here, share))}); remove one of them")
    other_task, dot, other_head = str(share).partition(".")
    if not dot:
        raise InputError(f"{where}: must name a task and a head of it, as in {share}.{head}")
    if other_task not in tasks:
        raise InputError(_no_task(where, task, other_task, tasks))
    if other_head not in (heads := _heads(tasks[other_task])):
        raise InputError(f"{where}: task {other_task} has no such head; it has {', '.join(heads)}")
    return _root(other_task, other_head, tasks, (*path, here))


def _no_task(where: str, name: str, share: str, tasks: Tasks) -> str:
    others = ", ".join(other for other in tasks if other != name) or "no other task"
    return f"{where}: {share} is not among the run's tasks; add it, as in tasks={name}+{share} (the run has {others})"


def _fill(head: dict[str, Any], shared: Mapping[str, Any], where: str, shared_name: str) -> Iterator[str]:
    """Give a head the settings of the one that it shares, where it has none; yields what contradicts them."""
    names_column = head.get("column") is not None or head.get("columns") is not None
    for item in fields(HeadConfig):
        if item.name in OF_EACH_TASK or (item.name in ("column", "columns") and names_column):
            continue
        default = _default_of(item)
        given, theirs = head.get(item.name, default), shared.get(item.name, default)
        if given in (default, theirs):
            head[item.name] = theirs
        elif item.name not in MAY_DIFFER or (item.name == "scheme" and PLAIN in (given, theirs)):
            yield (
                f"{where}.{item.name}={given}: {shared_name}, whose weights this head shares, has "
                f"{item.name}={'null' if theirs is None else theirs}; remove one of the two"
            )


def _default_of(item: Field[Any]) -> Any:
    return item.default if item.default_factory is NO_DEFAULT else item.default_factory()

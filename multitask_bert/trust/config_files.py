"""What a config file that is not ours may say: it is data, not a program (docs/trust.md).

A file in our own conf/ may change any of Hydra's settings; any other file (`--config-dir`, `reproduce.yaml`) only those
listed here. Classes (`_target_`) are checked in every file: classes.py. `MULTITASK_BERT_ALLOW` opens more.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from multitask_bert.trust.databases import is_inner_store
from multitask_bert.trust.paths import is_folder_of_runs, is_inside
from multitask_bert.trust.permissions import (
    ALLOW,
    LIST_INDEX,
    OUR_VARIABLES,
    is_allowed,
    leaves,
    opened,
    shortened,
    typed_words,
)
from multitask_bert.utils.files import expand_user_path

# Hydra's settings that any file may change: folders below the working directory, the search, the size of its jobs.
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
OF_SWEEPER = (
    "space", "n_trials", "seeds", "metric", "direction", "sampler", "sampler_options", "pruner", "pruner_options",
    "max_failures", "n_jobs", "seed", "arms", "subsets", "controls",
)  # fmt: skip
OF_LAUNCHER = (
    "n_jobs", "array_parallelism", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "nodes", "mem_gb",
    "partition", "qos", "account", "constraint",
)  # fmt: skip
ONLY_TYPED = ("output", "run_dir")  # written to, or read as a run: only the command line may set them
NOT_SEARCHED = ("hydra", "logger", "data_root", "action", "resume", "input", *ONLY_TYPED)
STORE, METRIC = re.compile(r"logger\..+\.tracking_uri"), re.compile(r"tasks\..+\.metrics\.\d+")
LOGGER = re.compile(r"logger(?:\.[^.]+)?")
PLUGIN = re.compile(r"hydra\.(?:callbacks\.[^.]+|launcher|sweeper)\._target_")
PLAIN_WORD = re.compile(r"[\w.+=,@&|-]*")
REFERENCE = re.compile(
    r"\$\{(?:\.*[\w.+-]+|now:[^${}]*|hydra:[\w.]+|oc\.env:(?P<variable>\w+)(?:,[^${}]*)?)\}"
)  # another key, the time, Hydra's own values, a variable; nothing that computes, nothing nested
OF_FOLDERS = re.compile(r"\$\{(?:now:[%\w-]*|hydra:(?:job\.num|runtime\.choices\.\w+)|hydra\.sweeper\.study)\}")
OF_STUDY = re.compile(r"\$\{hydra[.:]runtime\.choices\.\w+\}")


def file_problems(tree: Any, typed: Collection[str] = ()) -> Iterator[str]:
    """One line per value that a file which is not ours may not have; `tree`: the file, unresolved, with its package.

    `typed`: keys that the command line sets, so that the file's values have no effect.
    """
    for key, value in leaves(tree):
        if LIST_INDEX.sub("", key) in typed or is_allowed(key):  # a list is overridden as a whole
            continue
        if key.partition(".")[0] == "hydra" and value is not None:
            yield from _hydra_problem(key, value)
        elif key in ONLY_TYPED and value is not None:
            yield f"{key}={value}: a file cannot set this; {typed_words(key, value)}"
        elif LOGGER.fullmatch(key) and isinstance(value, str):
            yield f"{key}={shortened(value)}: a file has to write this out, with its keys below it"
        elif STORE.fullmatch(key) and not is_inner_store(value):
            yield f"{key}={value}: a file can name a server, or a database below this folder; {typed_words(key, value)}"
        elif METRIC.fullmatch(key) and "/" in str(value) and (problem := metric_problem(str(value))):
            yield f"{key}: {problem}"
        if isinstance(value, str):
            yield from reference_problems(key, value)


def _hydra_problem(key: str, value: Any) -> Iterator[str]:
    room, _, field = key.removeprefix("hydra.").partition(".")
    top = field.partition(".")[0]
    if PLUGIN.fullmatch(key):
        return  # checked as all classes are
    if key in FOLDERS:
        folder = OF_FOLDERS.sub("x", str(value))
        if not is_inside(folder) or (key != "hydra.sweep.subdir" and not is_folder_of_runs(folder)):
            what = "can only name a folder below this one, and none with code or configs"
            yield f"{key}={value}: a file {what}; {typed_words(key, value)}"
    elif key == "hydra.sweeper.study":
        if not PLAIN_WORD.fullmatch(rest := OF_STUDY.sub("x", str(value))) or rest.startswith("."):
            yield f"{key}={value}: must be a plain name; {typed_words(key, value)}"
    elif key == "hydra.sweeper.storage" and value is not None:
        if not (str(value).startswith(("postgresql://", "postgres://")) or is_inner_store(value)):
            yield f"{key}={value}: a file can name a server, or a database below this folder; {typed_words(key, value)}"
    elif key == "hydra.sweeper.function" and isinstance(value, str):
        if not is_allowed(value):
            yield f"{key}={value}: names code, which a file cannot; {typed_words(key, value)}"
    elif (
        room == "sweeper" and isinstance(value, str) and "${" in value
    ):  # Hydra resolves what it makes a sweeper of twice
        yield f"{key}={shortened(value)}: a file cannot refer to other keys here; write the value itself"
    elif room == "sweeper" and top == "space" and (problem := searched_key_problem(field.removeprefix("space."))):
        yield f"{key}={shortened(value)}: {problem}"
    elif room == "launcher" and field in OF_LAUNCHER:
        if isinstance(value, list | dict) or not PLAIN_WORD.fullmatch(str(value)):
            yield f"{key}={value}: must be a number or a plain word; {typed_words(key, value)}"
    elif value is not None and not (room == "sweeper" and top in OF_SWEEPER):
        way_out = f"{typed_words(key, value)}, or {opened(LIST_INDEX.sub('', key))}"
        yield f"{key}={shortened(value)}: a file cannot tell Hydra this; {way_out}"


def reference_problems(key: str, text: str) -> Iterator[str]:
    """References (`${…}`) that compute something, or read an environment variable that is not ours."""
    for found in REFERENCE.finditer(text):
        variable = found["variable"]
        if variable and not variable.startswith(OUR_VARIABLES) and not is_allowed(variable):
            yield (
                f"{key}={text}: a file cannot read the environment variable {variable}; write its value, or "
                f"{opened(variable)}"
            )
    if "${" in REFERENCE.sub("", text):
        yield f"{key}={text}: a file can refer to other keys, and compute nothing; write the value itself"


def unresolved_problems(tree: Any) -> Iterator[str]:
    """Values that look like a reference after all are resolved: put together from several, they were never checked."""
    for key, value in leaves(tree):
        if isinstance(value, str) and "${" in value:
            what = "is put together as a reference, and is not followed; write the value itself"
            yield f"{key}={shortened(value)}: {what}"


def searched_key_problem(key: str) -> str | None:
    """Why a search space may not have this key; None: it may."""
    plain = key.lstrip("+~")
    if plain.partition(".")[0] in NOT_SEARCHED or "_target_" in plain or "@" in plain:
        return "a search cannot change this; set it on the command line, outside of the space"
    return None


def choice_problems(choices: Mapping[str, Any]) -> Iterator[str]:
    """Options with a path that leads out of the config folders, or of the folders that are named after them."""
    for group, option in choices.items():
        if isinstance(option, str) and not is_inside(option):
            yield f"{group}={option}: must be the name of a file in {group}/"


def is_allowed_metric(path: str) -> bool:
    """Whether the user has opened somebody else's metric: a hub name, or a folder or file, however it is written."""
    paths = [item.strip() for item in os.environ.get(ALLOW, "").split(",") if "/" in item]
    full = Path(expand_user_path(path)).resolve()
    return is_allowed(path) or any(full.is_relative_to(Path(expand_user_path(item)).resolve()) for item in paths)


def metric_problem(path: str) -> str | None:
    """Why somebody else's metric is not run; None: it may be."""
    return None if is_allowed_metric(path) else f"{path} is code, which no file may name by itself; {opened(path)}"

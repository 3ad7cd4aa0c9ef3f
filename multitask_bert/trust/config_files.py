"""A config file is data, not a program: what one that is not ours may say (docs/trust.md).

A file of our own conf/ is trusted with Hydra's settings; any other (`--config-dir`, `reproduce.yaml`) only with what is
listed here. Classes (`_target_`) are looked at wherever they stand. `MULTITASK_BERT_ALLOW` opens more. Folders of runs,
sweeps and models: foreign_folders.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from multitask_bert.trust.paths import _is_folder_of_runs, is_inner_store, is_inside
from multitask_bert.trust.permissions import (
    ALLOW,
    LAST_PLACE,
    OUR_VARIABLES,
    is_allowed,
    leaves,
    opened,
    shortened,
    typed_words,
)
from multitask_bert.utils.files import expand_user_path

# What a file that is not ours may tell Hydra: folders below this one, what is searched, and the size of its jobs.
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
OF_SWEEPER = (
    "space", "n_trials", "seeds", "metric", "direction", "sampler", "sampler_options", "pruner", "pruner_options",
    "max_failures", "n_jobs", "seed",
)  # fmt: skip
OF_LAUNCHER = (
    "n_jobs", "array_parallelism", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "nodes", "mem_gb",
    "partition", "qos", "account", "constraint",
)  # fmt: skip
ONLY_TYPED = ("output", "run_dir")  # written to, or read as a run: the command line names them
NOT_SEARCHED = ("hydra", "logger", "data_root", "action", "resume", "input", *ONLY_TYPED)
STORE, METRIC = re.compile(r"logger\..+\.tracking_uri"), re.compile(r"tasks\..+\.metrics\.\d+")
LOGGER = re.compile(r"logger(?:\.[^.]+)?")
PLUGIN = re.compile(r"hydra\.(?:callbacks\.[^.]+|launcher|sweeper)\._target_")
PLAIN_WORD = re.compile(r"[\w.+=,@&|-]*")
REFERENCE = re.compile(
    r"\$\{(?:\.*[\w.+-]+|now:[^${}]*|hydra:[\w.]+|oc\.env:(?P<variable>\w+)(?:,[^${}]*)?)\}"
)  # another key, the time, what Hydra knows, a variable; nothing that computes, and nothing inside another
OF_FOLDERS = re.compile(r"\$\{(?:now:[%\w-]*|hydra:(?:job\.num|runtime\.choices\.\w+)|hydra\.sweeper\.study)\}")
OF_STUDY = re.compile(r"\$\{hydra[.:]runtime\.choices\.\w+\}")


def file_problems(tree: Any, typed: Collection[str] = ()) -> Iterator[str]:
    """What a file that is not ours may not say; `tree`: as it stands there, unresolved, its package included.

    `typed`: keys that the command line sets, so that what the file says of them counts for nothing.
    """
    for key, value in leaves(tree):
        if LAST_PLACE.sub("", key) in typed or is_allowed(key):  # a list is replaced whole
            continue
        if key.partition(".")[0] == "hydra" and value is not None:
            yield from _hydra_problem(key, value)
        elif key in ONLY_TYPED and value is not None:
            yield f"{key}={value}: a file cannot say this; {typed_words(key, value)}"
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
        if not is_inside(folder) or (key != "hydra.sweep.subdir" and not _is_folder_of_runs(folder)):
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
        way_out = f"{typed_words(key, value)}, or {opened(LAST_PLACE.sub('', key))}"
        yield f"{key}={shortened(value)}: a file cannot tell Hydra this; {way_out}"


def reference_problems(key: str, text: str) -> Iterator[str]:
    """`${…}` that compute something, or read a variable of the environment that is not ours."""
    for found in REFERENCE.finditer(text):
        variable = found["variable"]
        if variable and not variable.startswith(OUR_VARIABLES) and not is_allowed(variable):
            yield (
                f"{key}={text}: a file cannot read {variable} of the environment; write what it holds, or "
                f"{opened(variable)}"
            )
    if "${" in REFERENCE.sub("", text):
        yield f"{key}={text}: a file can refer to other keys, and compute nothing; write the value itself"


def unresolved_problems(tree: Any) -> Iterator[str]:
    """What still looks like a reference once all are resolved: nobody wrote it as one, so nobody has looked at it."""
    for key, value in leaves(tree):
        if isinstance(value, str) and "${" in value:
            what = "is put together as a reference, and is not followed; write the value itself"
            yield f"{key}={shortened(value)}: {what}"


def searched_key_problem(key: str) -> str | None:
    """A key that a search space may not have: it would change what only the command line may."""
    plain = key.lstrip("+~")
    if plain.partition(".")[0] in NOT_SEARCHED or "_target_" in plain or "@" in plain:
        return "a search cannot change this; set it on the command line, outside of the space"
    return None


def choice_problems(choices: Mapping[str, Any]) -> Iterator[str]:
    """Options that would be looked for outside of the folders of configs; their names become names of folders."""
    for group, option in choices.items():
        if isinstance(option, str) and not is_inside(option):
            yield f"{group}={option}: must be the name of a file in {group}/"


def is_allowed_metric(place: str) -> bool:
    """Whether the user has opened somebody else's metric: a hub name, or a folder or file, however it is written."""
    places = [item.strip() for item in os.environ.get(ALLOW, "").split(",") if "/" in item]
    full = Path(expand_user_path(place)).resolve()
    return is_allowed(place) or any(full.is_relative_to(Path(expand_user_path(item)).resolve()) for item in places)


def metric_problem(place: str) -> str | None:
    """Why somebody else's metric is not run; None where it may be."""
    return None if is_allowed_metric(place) else f"{place} is code, which no file may name by itself; {opened(place)}"

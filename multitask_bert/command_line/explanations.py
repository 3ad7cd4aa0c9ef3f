"""Short messages for Hydra's and YAML's errors, with the way out."""

from __future__ import annotations

import re
from dataclasses import is_dataclass
from typing import Any

from hydra.errors import (
    CompactHydraException,
    ConfigCompositionException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from multitask_bert.config.checks import NAME, NAME_RULE
from multitask_bert.config.families import families_in, family_of
from multitask_bert.config.joined_tasks import GROUP, file_of, folders, options_of
from multitask_bert.config.overrides import as_word
from multitask_bert.config.tree import explain, nearest, needs_list, unknown_key, what_is_wrong

GROUP_HINT = "\na group takes the name of one of its files (optimizer=sgd); a value is set below it (optimizer.lr=1e-4)"
NO_GROUPS = (
    "{group}: this config has no such group in its defaults list. A reproduce.yaml or best.yaml is whole: single keys "
    "can be changed (optimizer.lr=1e-4) and removed (~logger.mlflow: without that logger); +{group}=NAME merges the "
    "keys of {group}/NAME.yaml into it"
)
LAUNCHERS = "joblib, submitit_local and submitit_slurm come with: pip install 'multitask_bert[cluster]'"
ONE_KEY = "{file}: it must have one key at its top, `{name}:`, with source and heads below it"
QUOTES = "'\""
MERGING = "Error merging override "  # how Hydra begins when a value is of the wrong type


def explain_yaml(error: YAMLError) -> str:
    """File, line and what is wrong there."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    problem = getattr(error, "problem", None) or "this is not YAML"
    return f"{mark.name}:{mark.line + 1}: {problem} (column {mark.column + 1}); check brackets, quotes and indentation"


def explain_hydra(error: CompactHydraException) -> str:
    """Hydra's message, shortened, with the names that were probably meant."""
    cause = error.__cause__ or error.__context__
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        return _no_such_option(error)
    if isinstance(error, ConfigCompositionException) and isinstance(cause, ConfigAttributeError | ConfigKeyError):
        task = re.match(r"In 'tasks/([^'+]+)'", str(error))
        if task is not None and not str(cause.full_key).startswith(f"{GROUP}.{task[1]}."):
            return one_key(task[1])
        return _no_such_key(cause)
    if isinstance(error, OverrideParseException) and not error.override.isascii():
        return _beyond_ascii(error.override)
    message = str(error).partition("\nConfig search path:")[0].strip()
    if number := re.match(r"Ambiguous value for argument '([\w.]+)=(\d+),(\d+)'", message):
        key, whole, rest = number.groups()
        return (
            f"{key}={whole},{rest}: a number takes a point: {key}={whole}.{rest}; several values, one run each, need -m"
        )
    if group := re.match(r"Could not override '([\w/]+)'\. No match in the defaults list", message):
        return NO_GROUPS.format(group=group[1])
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        override = message.removeprefix(MERGING)
        if override != message and needs_list(cause):
            key, _, value = override.partition("=")
            return f"{override}: needs a list, also of one; write '{key}=[{value}]' (quoted, for the shell)"
        if override != message:
            return f"{override}: {what_is_wrong(cause)}"
        where = message.partition(":")[0]  # In 'experiment/swahili'
        return f"{where}: {explain(cause)}" if where else explain(cause)
    return message if message else type(error).__name__


def _beyond_ascii(override: str) -> str:
    """The message for letters beyond ASCII, which Hydra accepts in quotes only, and names of tasks not at all."""
    key, _, value = override.partition("=")
    if key.lstrip("+~") == GROUP:
        return f"{override}: a task's name {NAME_RULE}; rename the file of the task, and the key at its top"
    if not key.isascii():
        return f"{override}: keys have no letters beyond ASCII"
    word = as_word(key, value.strip(QUOTES))
    return f"{override}: a value with letters beyond ASCII needs quotes, in a shell: {word}"


def one_key(task: str) -> str:
    return ONE_KEY.format(file=file_of(GROUP, task), name=task)


def _no_such_option(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    if group == GROUP and (found := family_of(name, families := families_in(folders()))) is not None:
        return _no_such_language(name, found, families[found])
    options = sorted({*options_of(group), *(error.options or ())})
    near = nearest(name, options)
    lines = [f"{group}: there is no '{name}'" + (f"; did you mean {near}?" if near else "")]
    if group == GROUP and not NAME.fullmatch(name):
        return f"{lines[0]}\na task's name {NAME_RULE}; rename the file of the task, and the key at its top"
    lines += [f"there are: {', '.join(options)}"] if options else []
    lines += (
        [f"and {GROUP}=FAMILY_LANGUAGE of the families {', '.join(families)}"] if group == GROUP and families else []
    )
    lines += [LAUNCHERS] if group == "hydra/launcher" else []
    lines += [f"your own FOLDER/{group}/{name}.yaml is found with --config-dir FOLDER"]
    return "\n".join(lines)


def _no_such_language(task: str, family: str, languages: list[str]) -> str:
    if not languages:
        return f"{GROUP}={task}: families/{family}.yaml cannot be read, or lists no languages"
    there_are = f"it has: {', '.join(languages)}"
    if task == family:
        return (
            f"{GROUP}: {family} is a family; name a language of it, as in {GROUP}={family}_{languages[0]}\n{there_are}"
        )
    language = task.removeprefix(f"{family}_")
    files = [name.removeprefix(f"{family}_") for name in options_of(GROUP) if name.startswith(f"{family}_")]
    near = nearest(language, [*languages, *files])
    hint = f"; did you mean {family}_{near}?" if near else ""
    return f"{GROUP}: {family} has no language '{language}'{hint}\n{there_are}"


def _no_such_key(error: OmegaConfBaseException) -> str:
    assert error.full_key is not None
    parent: Any = error.parent_node
    siblings = [str(key) for key in parent if key != "hydra"] if isinstance(parent, DictConfig) else []
    message = unknown_key(error.full_key, siblings)
    if is_dataclass(OmegaConf.get_type(parent)):
        return message
    return f"{message}\na new one is added with a '+' before the key, as in +{error.full_key}=…"

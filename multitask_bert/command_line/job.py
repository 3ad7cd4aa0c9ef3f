"""The config of the job that Hydra runs, typed and checked once: for a single run before its folder is created."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from multitask_bert.command_line.explanations import one_key
from multitask_bert.config.action_table import ACTIONS
from multitask_bert.config.checks import check
from multitask_bert.config.joined_tasks import GROUP, split_names
from multitask_bert.config.overrides import keys_of, lies_in
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import from_tree, to_dict
from multitask_bert.errors import InputError
from multitask_bert.heads import check_heads
from multitask_bert.model.location import check_encoder
from multitask_bert.saving.resume import CHANGEABLE_KEYS, COMMAND_KEYS
from multitask_bert.saving.run_folder import config_of, existing_run
from multitask_bert.trust import foreign_folders
from multitask_bert.trust.permissions import refuse
from multitask_bert.utils.ranks import join_job, num_processes_of_job

_accepted: list[ExperimentConfig] = []  # the config of the run that is about to begin


def accept(config: ExperimentConfig) -> None:
    """Hand a checked config on to the run that Hydra is about to begin."""
    _accepted[:] = [config]


def config_of_job(tree: DictConfig, task_names: str | None) -> ExperimentConfig:
    """The config that was accepted for this job; that of a job of a multirun is checked here, for the first time.

    Raises:
        InputError: as `checked_config`.
    """
    is_accepted = bool(_accepted) and HydraConfig.get().mode == RunMode.RUN
    return _accepted.pop() if is_accepted else checked_config(tree, task_names)


def join_processes_of_job() -> None:
    """Where a launcher has started this job as several processes, become one of them. Only rank 0 logs."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN or num_processes_of_job(hydra.launcher) == 1 or join_job().is_first:
        return
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(logging.ERROR)


def checked_config(tree: DictConfig, task_names: str | None) -> ExperimentConfig:
    """The typed and checked config. `task_names`: what was chosen with `tasks=…`; None: no choice was made.

    Raises:
        InputError: one line per problem.
    """
    for name in split_names(task_names) if task_names else []:
        if name not in (tree.get(GROUP) or {}):
            raise InputError(one_key(name))
    has_tasks = names_other_tasks(tree.get("action"), given_overrides())
    config = from_tree(tree, _tasks_of_run(tree) if has_tasks else None)
    check(config)
    check_heads(config)
    if config.action == "train":
        check_encoder(config)
    return config


def names_other_tasks(action: Any, overrides: Iterable[str]) -> bool:
    """Whether the command scores an earlier run on the tasks in `tasks=…`, rather than on the run's own."""
    return action == "evaluate" and GROUP in keys_of(overrides)


def given_overrides() -> list[str]:
    """The overrides of the command line; none from Python."""
    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _tasks_of_run(tree: DictConfig) -> dict[str, Any]:
    """The tasks of the run in `run_dir`, as plain dicts.

    Raises:
        InputError: there is no such run.
    """
    if tree.get("run_dir") is None:
        return {}  # said by the checks
    run_dir = existing_run(ExperimentConfig(run_dir=str(tree.run_dir)))
    if foreign_folders.is_of_a_run(run_dir):
        refuse(foreign_folders.link_problems(run_dir), f"run_dir={run_dir}")
    tasks: dict[str, Any] = to_dict(config_of(run_dir, ExperimentConfig(data_root=str(tree.data_root))))[GROUP]
    return tasks


def overrides_without_effect(config: ExperimentConfig, overrides: Iterable[str]) -> Iterator[str]:
    """One line per override that an action on an earlier run does not read: tasks and model are those of the run."""
    action, resumes = ACTIONS[config.action], config.action == "train" and config.resume and config.run_dir is not None
    overrides = list(overrides)
    of_tasks = [GROUP, "share"] if names_other_tasks(config.action, overrides) else []
    reads = CHANGEABLE_KEYS if resumes else (*action.reads, *of_tasks)
    for override in overrides if action.needs_run_dir or resumes else ():
        (key,) = keys_of([override])
        is_read = lies_in(key, reads) is not None
        if key not in COMMAND_KEYS and not is_read:
            what = "resume=true" if resumes else f"action={config.action}"
            yield f"{override} has no effect with {what}, which uses the config of the run in run_dir"

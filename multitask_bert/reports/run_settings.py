"""The settings of finished runs, and those in which several runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from multitask_bert.config.overrides import as_value, lies_in
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import flatten, to_dict
from multitask_bert.saving.run_folder import read_reproduction

NOT_LEARNED_FROM = (
    "action", "run_dir", "resume", "verify", "input", "output", "name", "logger", "study", "data_root",
    "model.recipe", "trainer.save_every", "trainer.keep_last", "trainer.keep_predictions", "trainer.log_every",
    "trainer.pictures", "trainer.cosines_every", "trainer.lookahead_every", "diagnose", "serve", "export",
    "trainer._target_", "batching.num_workers", "batching.encoding_processes", "batching.eval_batch_size",
    "batching.eval_max_tokens",
)  # fmt: skip
UNSET = "-"  # of a setting that a run does not have


def settings_of(folder: Path) -> dict[str, str]:
    """What a run learned from, by the settings' full names; empty if it has no `reproduce.yaml`.

    Raises:
        InputError: `reproduce.yaml` is damaged.
    """
    if (tree := read_reproduction(folder)) is None:
        return {}
    defaults = {key: value for key, value in to_dict(ExperimentConfig()).items() if key != "tasks"}
    found = dict(flatten(defaults)) | dict(flatten(tree))  # a run may be older than some keys
    return {key: _shown(value) for key, value in found.items() if lies_in(key, NOT_LEARNED_FROM) is None}


def differing(settings: Sequence[Mapping[str, str]]) -> list[str]:
    """The settings in which some of the runs differ, in the order of the config.

    Of tasks that not every run has, the name of the task is in `tasks`, and their settings are left out.
    """
    shared_tasks = set.intersection(*(_tasks(one) for one in settings)) if settings else set()
    found = []
    for key in dict.fromkeys(key for one in settings for key in one):
        task = _task(key)
        if (task is None or task in shared_tasks) and len({one.get(key, UNSET) for one in settings}) > 1:
            found.append(key)
    return found


def task_names(settings: Mapping[str, str]) -> str:
    """The tasks of a run, as in `tasks=a+b`."""
    return "+".join(sorted(_tasks(settings)))


def _tasks(settings: Mapping[str, str]) -> set[str]:
    return {task for key in settings if (task := _task(key)) is not None}


def _task(key: str) -> str | None:
    parts = key.split(".")
    return parts[1] if parts[0] == "tasks" and len(parts) > 1 else None


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else as_value(value)

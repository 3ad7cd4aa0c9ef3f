"""What of the config may be another when a run goes on: what changes nothing that is learnt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from multitask_bert.config.overrides import lies_in
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import flatten, to_dict
from multitask_bert.errors import InputError
from multitask_bert.saving.run_folder import config_of

OF_THE_COMMAND = ("action", "resume", "run_dir")
MAY_CHANGE = (
    "data_root", "name", "logger", "model.recipe",
    "study", "verify", "trainer.device", "trainer.save_every", "trainer.keep_last",
    "trainer.log_every", "trainer.on_non_finite", "batching.num_workers", "batching.encoding_processes",
)  # fmt: skip


def may_change(key: str) -> str | None:
    """The entry of `MAY_CHANGE` that a key or group is, or lies in; None: it may not change."""
    return lies_in(key, MAY_CHANGE)


def refuse_other_folder(run_dir: Path, folder: Path) -> None:
    """Refuse to go on with a run in another folder than its own.

    Raises:
        InputError: the run in `run_dir` was to go on in another folder, where there is nothing to go on with.
    """
    if folder.resolve() != run_dir.resolve():
        raise InputError(
            f"run_dir={run_dir} resume=true: this run goes on in its own folder, and not in {folder}; leave "
            f"hydra.run.dir out, and go on with one run at a time, without --multirun"
        )


def config_to_go_on_with(run_dir: Path, now: ExperimentConfig, given: Iterable[str]) -> ExperimentConfig:
    """That of an earlier run, but for what may change and is `given` on the command line (keys), as it is `now`."""
    config = replace(config_of(run_dir), resume=True)
    for name in {name for key in given if (name := may_change(key)) is not None}:
        *rooms, field = name.split(".")
        target, source = config, now
        for room in rooms:
            target, source = getattr(target, room), getattr(source, room)
        setattr(target, field, getattr(source, field))
    return config


def refuse_another_config(began_with: Mapping[str, Any], config: ExperimentConfig) -> None:
    """Refuse to go on with a config that would change what the run learns.

    Raises:
        InputError: with what it began with, the run would have gone on in another way.
    """
    defaults = dict(flatten(to_dict(ExperimentConfig())))  # what a run did that is older than one of these keys
    before, now = (defaults | dict(flatten(tree)) for tree in (began_with, to_dict(config)))
    changed = [
        f"{key} was {before.get(key, 'not there')}, now {now.get(key, 'not there')}" for key in _differing(before, now)
    ]
    if changed:
        raise InputError(
            f"resume=true: this run began with another config: {'; '.join(changed)}. Go on with what it had "
            f"(python run.py run_dir=FOLDER resume=true), or begin anew in another folder"
        )


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key) and may_change(key) is None and key not in OF_THE_COMMAND:
            yield key

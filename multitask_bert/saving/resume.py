"""What a run is resumed from: the config that it began with, and its newest usable checkpoint.

Of the config, only what does not change what is learned may differ (`CHANGEABLE_KEYS`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multitask_bert.config.overrides import lies_in
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import flatten, to_dict
from multitask_bert.errors import InputError
from multitask_bert.saving.run_folder import config_of
from multitask_bert.saving.store import Checkpoint, CheckpointStore
from multitask_bert.train_state import without_best
from multitask_bert.utils.command import command

if TYPE_CHECKING:
    from multitask_bert.saving.best_model import BestModel

log = logging.getLogger(__name__)

COMMAND_KEYS = ("action", "resume", "run_dir")
CHANGEABLE_KEYS = (
    "data_root", "name", "logger", "model.recipe",
    "study", "verify", "trainer.device", "trainer.save_every", "trainer.keep_last",
    "trainer.log_every", "trainer.keep_predictions", "trainer.cosines_every", "trainer.lookahead_every",
    "trainer.on_non_finite", "trainer.pictures", "batching.num_workers", "batching.encoding_processes",
)  # fmt: skip


def refuse_other_folder(run_dir: Path, folder: Path) -> None:
    """Check that a run is resumed in its own folder.

    Raises:
        InputError: `folder`, where the job would write, is not `run_dir`.
    """
    if folder.resolve() != run_dir.resolve():
        raise InputError(
            f"run_dir={run_dir} resume=true: a run is resumed in its own folder, not in {folder}; leave hydra.run.dir "
            f"out, and resume one run at a time, without --multirun"
        )


def config_to_resume(run_dir: Path, now: ExperimentConfig, given: Iterable[str]) -> ExperimentConfig:
    """The config of an earlier run, with the changeable keys among `given` (the command line's) as they are `now`."""
    config = replace(config_of(run_dir), resume=True)
    for name in {name for key in given if (name := lies_in(key, CHANGEABLE_KEYS)) is not None}:
        *groups, field = name.split(".")
        target, source = config, now
        for group in groups:
            target, source = getattr(target, group), getattr(source, group)
        setattr(target, field, getattr(source, field))
    return config


def refuse_changed_config(began_with: Mapping[str, Any], config: ExperimentConfig) -> None:
    """Check that a resumed run learns the same as with the config that it began with.

    Raises:
        InputError: a key differs that is not one of `CHANGEABLE_KEYS`; all such keys are named.
    """
    defaults = dict(flatten(to_dict(ExperimentConfig())))  # for a run that is older than one of these keys
    before, now = (defaults | dict(flatten(tree)) for tree in (began_with, to_dict(config)))
    changed = [f"{key} was {before.get(key, 'unset')}, now {now.get(key, 'unset')}" for key in _differing(before, now)]
    if changed:
        raise InputError(
            f"resume=true: this run began with another config: {'; '.join(changed)}. Resume it with its own "
            f"({command()} run_dir=FOLDER resume=true), or start a new run in another folder"
        )


def _differing(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*before, *now}):
        if before.get(key) != now.get(key) and lies_in(key, CHANGEABLE_KEYS) is None and key not in COMMAND_KEYS:
            yield key


def checkpoint_to_resume(store: CheckpointStore, config: ExperimentConfig, best: BestModel) -> Checkpoint | None:
    """The newest intact checkpoint; None if there is none, and the run starts at its first step.

    Where the best model is lost, the newest from before it was saved, so that the run saves it again.

    Raises:
        InputError: the checkpoint is of a run with another config; or the best model is damaged, and no checkpoint is
            old enough.
    """
    newest = store.read()
    if newest is None:
        return None
    refuse_changed_config(newest.state["config"], config)
    if newest.state["train"]["best_score"] is None or (damage := best.damage()) is None:
        return newest
    found = _before_best(store, newest, best, damage)
    log.warning("%s: the best model so far is lost (%s); resuming from step %d", best.folder, damage, found.step)
    return Checkpoint(found.tensors, {**found.state, "train": without_best(found.state["train"]), "best": {}})


def _before_best(store: CheckpointStore, newest: Checkpoint, best: BestModel, damage: str) -> Checkpoint:
    """The newest checkpoint from before a lost best model was saved; `newest` where nothing is left of that model."""
    best_step = best.step() or newest.state["train"]["best_step"]
    if best.is_half_replaced() or best_step > newest.step:
        return newest
    earlier = store.read(before=best_step)
    if earlier is None and best.is_there():
        raise InputError(
            f"{best.folder}: {damage}; it held the best model so far, of step {best_step}, and no checkpoint before "
            f"that step is left; remove this folder to resume from step {newest.step} without it, or start a new run "
            f"in another folder"
        )
    return earlier or newest

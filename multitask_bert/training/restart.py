"""The second attempt at a run, where a head had learned nothing by half of the steps (`trainer.restart_collapsed`)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from multitask_bert.config.schema import RESTART_WARMUPS, ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.saving.run_folder import REPRODUCE
from multitask_bert.saving.store import CHECKPOINTS
from multitask_bert.tracking.loggers import METRICS_FILE
from multitask_bert.tracking.mlflow.state import STATE_FILE
from multitask_bert.training.provenance import PROVENANCE
from multitask_bert.utils.files import read_json, write_json

RESTART, FIRST_ATTEMPT = "restart.json", "first_attempt"
ATTEMPT_FILES = (METRICS_FILE, CHECKPOINTS, "tensorboard", STATE_FILE, REPRODUCE, PROVENANCE)


class CollapsedError(InputError):
    """Half of a run is done, and a head has learned nothing so far; raised where `trainer.restart_collapsed` is set."""


@dataclass(frozen=True)
class Restart:
    """How and why a run was restarted; `restart.json` in its folder."""

    warmup_ratio: float  # of the second attempt
    reason: str


def may_restart(config: ExperimentConfig) -> bool:
    """Whether a run that learns nothing is to be restarted, and a longer warmup is possible."""
    return config.trainer.restart_collapsed and config.scheduler.warmup_ratio < RESTART_WARMUPS[1]


def prepare_restart(folder: Path, config: ExperimentConfig, reason: str) -> Restart:
    """Write down how the second attempt differs, and move the files of the first to `first_attempt/`."""
    least, most = RESTART_WARMUPS
    restart = Restart(max(least, min(2 * config.scheduler.warmup_ratio, most)), reason)
    write_json(folder / RESTART, asdict(restart))
    set_first_attempt_aside(folder)
    return restart


def set_first_attempt_aside(folder: Path) -> None:
    """Move the files of the first attempt to `first_attempt/`, or, after a kill, those that were still to be moved."""
    first, unfinished = folder / FIRST_ATTEMPT, folder / f"{FIRST_ATTEMPT}.unfinished"
    if first.exists():
        return
    unfinished.mkdir(exist_ok=True)
    for name in ATTEMPT_FILES:
        if (folder / name).exists():
            (folder / name).rename(unfinished / name)
    unfinished.rename(first)


def read_restart(folder: Path) -> Restart | None:
    """The restart of the run in `folder`; None if it was not restarted.

    Raises:
        InputError: `restart.json` is damaged.
    """
    path = folder / RESTART
    if not path.is_file():
        return None
    try:
        restart = Restart(**read_json(path))
        is_share = 0 <= restart.warmup_ratio <= 1
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); start a new run in another folder") from error
    if not is_share:
        raise InputError(f"{path}: warmup_ratio={restart.warmup_ratio} must be a share of the steps, between 0 and 1")
    return restart


def restarted(config: ExperimentConfig, restart: Restart) -> ExperimentConfig:
    """The config of the second attempt, which is not restarted again."""
    return replace(
        config,
        scheduler=replace(config.scheduler, warmup_ratio=restart.warmup_ratio),
        trainer=replace(config.trainer, restart_collapsed=False),
    )

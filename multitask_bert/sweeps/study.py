"""The study: its storage, what it was made for, and which sweeps may resume it."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from multitask_bert.config.overrides import keys_of, lies_in
from multitask_bert.config.sweep_config import MINIMIZE, SweepConfig
from multitask_bert.errors import InputError
from multitask_bert.sweeps.samplers_and_pruners import make_pruner
from multitask_bert.utils.addresses import without_password

log = logging.getLogger(__name__)

JOURNAL_FILE = "study.journal"
LOCK_FILE = "sweep.lock"  # held while a trial is asked for, so that several controllers share n_trials
ARMS = "arms"  # user attribute: the arms of a study; no other sweep has it
PRECISION = "precision"  # user attribute: what trainer.precision=auto stands for in all trials
TRIAL_FOLDER = "trial_{number:04d}"
HEARTBEAT_SECONDS = 30  # between two heartbeats of a trial; databases only
GRACE_SECONDS = 300  # without a heartbeat, until a trial counts as dead
WAIT_SECONDS = 10  # for an answer of a database
# User attributes that must not change when a study is resumed, since its trials could not be compared.
MADE_FOR = ("space", "function", "metrics", "directions", "seeds", "fixed_overrides")


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of the sweep: one controller at a time."""
    with FileLock(folder / LOCK_FILE):
        yield


def database_of(storage: Any) -> RDBStorage | None:
    """The database behind a storage, which Optuna wraps in a cache; None for a journal file."""
    backend = getattr(storage, "_backend", storage)
    return backend if isinstance(backend, RDBStorage) else None


def open_storage(sweeper: SweepConfig, folder: Path) -> BaseStorage:
    """Open the storage that `sweeper.storage` names; by default it is a file in `folder`, the sweep's.

    Raises:
        InputError: the storage is down or invalid.
    """
    quiet_optuna()
    storage = sweeper.storage
    try:
        if storage is not None and "://" in storage:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # of the heartbeat
                return RDBStorage(
                    re.sub(
                        "^postgres(ql)?://", "postgresql+psycopg2://", storage
                    ),  # SQLAlchemy 2.1 has another default
                    engine_kwargs={"connect_args": _connect_arguments(storage), "pool_pre_ping": True},
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                )
        path = folder / JOURNAL_FILE if storage is None else Path(storage)
        return JournalStorage(JournalFileBackend(str(path)))
    except Exception as error:  # of the driver, SQLAlchemy or the system
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise InputError(
            f"hydra.sweeper.storage={without_password(storage or folder.as_posix())}: cannot be opened "
            f"({without_password(reason)}); is it there and running? null keeps the study in the sweep's folder"
        ) from error


def open_study(storage: BaseStorage, sweeper: SweepConfig, made_for: Mapping[str, Any], folder: Path) -> optuna.Study:
    """Create the study of this name, or load it to be resumed.

    Raises:
        InputError: the study was made for another search, or `folder` has trials of another study.
    """
    study = optuna.create_study(
        study_name=sweeper.study, storage=storage, load_if_exists=sweeper.study in _names(storage),
        directions=list(map(direction_of, sweeper.directions)),
        sampler=optuna.samplers.RandomSampler(), pruner=make_pruner(sweeper),
    )  # fmt: skip
    if not study.user_attrs:
        if study.get_trials(deepcopy=False):
            raise InputError(f"hydra.sweeper.study={sweeper.study}: this study was not made by a sweep; {_another()}")
        if any(folder.glob("trial_*")):
            raise InputError(f"{folder}: has trials of a study that is no longer in the storage; {_another()}")
        for name, value in made_for.items():
            study.set_user_attr(name, value)
        return study
    for name in MADE_FOR:
        before, now = study.user_attrs.get(name), made_for.get(name)
        if name == "fixed_overrides":
            before, now = _without_loggers(before), _without_loggers(now)
        if before != now:
            raise InputError(
                f"hydra.sweeper.study={sweeper.study}: this study was made for other {name.replace('_', ' ')}: "
                f"{before}, now {now}; {_another()}"
            )
    return study


def load_study(sweeper: SweepConfig, folder: Path) -> optuna.Study:
    """Load the study inside a job, which reports and tells values but never asks for a trial."""
    return optuna.load_study(
        study_name=sweeper.study, storage=open_storage(sweeper, folder),
        sampler=optuna.samplers.RandomSampler(), pruner=make_pruner(sweeper),
    )  # fmt: skip


def direction_of(name: str) -> StudyDirection:
    return StudyDirection.MINIMIZE if name == MINIMIZE else StudyDirection.MAXIMIZE


def quiet_optuna() -> None:
    """Silence Optuna's messages on new studies and trials, and on experimental features."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _without_loggers(overrides: Sequence[str] | None) -> list[str]:
    """The overrides that change what is learned: all but those of loggers."""
    given = list(overrides or ())
    return [override for override, key in zip(given, keys_of(given), strict=True) if lies_in(key, ("logger",)) is None]


def _names(storage: BaseStorage) -> list[str]:
    return [study.study_name for study in storage.get_all_studies()]


def _connect_arguments(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"timeout": 60}  # other processes may be writing
    return {"connect_timeout": WAIT_SECONDS} if url.startswith("postgresql") else {}


def _another() -> str:
    return "name another study with hydra.sweeper.study=NAME, or give the command that made this one"

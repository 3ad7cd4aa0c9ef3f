"""The study: where it is stored, what it was made for, and who may go on with it."""

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
from multitask_bert.errors import InputError
from multitask_bert.sweeps.methods import make_pruner
from multitask_bert.sweeps.settings import MINIMIZE, SweepConfig
from multitask_bert.utils.addresses import without_password

log = logging.getLogger(__name__)

JOURNAL_FILE = "study.journal"
LOCK_FILE = "sweep.lock"  # held while a trial is asked for, so that several controllers share n_trials
TRIAL_FOLDER = "trial_{number:04d}"
HEARTBEAT_SECONDS = 30  # between two signs of life of a trial; databases only
GRACE_SECONDS = 300  # without one, after which the trial is taken for dead
WAIT_SECONDS = 10  # for an answer of a database
# What a study is made for, by the name under which it is kept; a change would mix what cannot be compared.
MADE_FOR = ("space", "function", "metrics", "directions", "seeds", "fixed_overrides")


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """One controller of this sweep at a time."""
    with FileLock(folder / LOCK_FILE):
        yield


def open_storage(settings: SweepConfig, folder: Path) -> BaseStorage:
    """The storage that `settings.storage` names; `folder`: the sweep's, for the default.

    Raises:
        InputError: it is down, or no storage.
    """
    quiet_optuna()
    place = settings.storage
    try:
        if place is not None and "://" in place:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # of the heartbeat
                return RDBStorage(
                    re.sub("^postgres(ql)?://", "postgresql+psycopg2://", place),  # SQLAlchemy 2.1 means another
                    engine_kwargs={"connect_args": _connect_arguments(place), "pool_pre_ping": True},
                    heartbeat_interval=HEARTBEAT_SECONDS,
                    grace_period=GRACE_SECONDS,
                )
        path = folder / JOURNAL_FILE if place is None else Path(place)
        return JournalStorage(JournalFileBackend(str(path)))
    except Exception as error:  # a driver's own, SQLAlchemy's, the system's
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise InputError(
            f"hydra.sweeper.storage={without_password(place or folder.as_posix())}: cannot be opened "
            f"({without_password(reason)}); is it there and running? null keeps the study in the sweep's folder"
        ) from error


def open_study(storage: BaseStorage, settings: SweepConfig, made_for: Mapping[str, Any], folder: Path) -> optuna.Study:
    """The study of this name: a new one, or the old one to go on with.

    Raises:
        InputError: it was made for something else, or `folder` holds trials of another one.
    """
    study = optuna.create_study(
        study_name=settings.study, storage=storage, load_if_exists=settings.study in _names(storage),
        directions=list(map(direction_of, settings.directions)),
        sampler=optuna.samplers.RandomSampler(), pruner=make_pruner(settings),
    )  # fmt: skip
    if not study.user_attrs:
        if study.get_trials(deepcopy=False):
            raise InputError(f"hydra.sweeper.study={settings.study}: this study was not made by a sweep; {_another()}")
        if any(folder.glob(TRIAL_FOLDER.format(number=0)[:-4] + "*")):
            raise InputError(f"{folder}: holds trials of a study that is not in the storage any more; {_another()}")
        for name, value in made_for.items():
            study.set_user_attr(name, value)
        return study
    for name in MADE_FOR:
        before, now = study.user_attrs.get(name), made_for.get(name)
        if name == "fixed_overrides":
            before, now = _without_loggers(before), _without_loggers(now)
        if before != now:
            raise InputError(
                f"hydra.sweeper.study={settings.study}: this study was made for other {name.replace('_', ' ')}: "
                f"{before}, now {now}; {_another()}"
            )
    return study


def load_study(settings: SweepConfig, folder: Path) -> optuna.Study:
    """The study inside a job: it reports and tells, and proposes nothing."""
    return optuna.load_study(
        study_name=settings.study, storage=open_storage(settings, folder),
        sampler=optuna.samplers.RandomSampler(), pruner=make_pruner(settings),
    )  # fmt: skip


def direction_of(name: str) -> StudyDirection:
    return StudyDirection.MINIMIZE if name == MINIMIZE else StudyDirection.MAXIMIZE


def quiet_optuna() -> None:
    """Its lines on every new study and trial, and of what is experimental in it."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _without_loggers(overrides: Sequence[str] | None) -> list[str]:
    """Those that change what is learnt."""
    given = list(overrides or ())
    return [override for override, key in zip(given, keys_of(given), strict=True) if lies_in(key, ("logger",)) is None]


def _names(storage: BaseStorage) -> list[str]:
    return [study.study_name for study in storage.get_all_studies()]


def _connect_arguments(url: str) -> dict[str, Any]:
    if url.startswith("sqlite"):
        return {"timeout": 60}  # others may be writing
    return {"connect_timeout": WAIT_SECONDS} if url.startswith("postgresql") else {}


def _another() -> str:
    return "name another study with hydra.sweeper.study=NAME, or give the command that made this one"

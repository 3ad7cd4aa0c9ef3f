"""Refuses a run before Hydra creates its folder: a config with problems, or a folder that cannot be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import reduce
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from multitask_bert.command_line.ending import exit_on_bad_input
from multitask_bert.command_line.job import accept, checked_config
from multitask_bert.config.action_table import ACTIONS
from multitask_bert.config.joined_tasks import GROUP
from multitask_bert.config.overrides import swept_values
from multitask_bert.config.setting import value_problems
from multitask_bert.config.tree import explain, flatten, from_tree, without_hydra
from multitask_bert.errors import InputError
from multitask_bert.saving.lock import hold
from multitask_bert.saving.resume import refuse_other_folder
from multitask_bert.saving.run_folder import HYDRA_CONFIG, existing_run
from multitask_bert.tracking.loggers import METRICS_FILE
from multitask_bert.trust import foreign_folders
from multitask_bert.trust.permissions import refuse
from multitask_bert.utils.addresses import has_password, without_password
from multitask_bert.utils.command import command
from multitask_bert.utils.ranks import Ranks, are_several, num_processes_of_job, this_run

INSTEAD_OF_PASSWORD = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for an MLflow server, for a database what its driver "
    "reads (PostgreSQL's: PGPASSWORD or ~/.pgpass)"
)
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # -m without a search
FOLDER = "folder"  # of the run, in the store of its processes
REPLACED = ("model", "checkpoints", "results.json")  # in its folder, by a run


class RefuseEarly(Callback):
    """Hydra's callback before a run or a multirun.

    Hydra turns a callback's exceptions into warnings, except for SystemExit.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with exit_on_bad_input(), _hydra_knows(config):
            ranks = this_run()
            if ranks.size > 1:
                given = f"WORLD_SIZE={os.environ['WORLD_SIZE']}"
                refuse_action_of_one_process(config, given, f"start it with {command()}, without torchrun")
                continue_after_restart(config, ranks)
            if not ranks.is_first:
                follow_first(config, ranks)
                return
            refuse_sweep_without_multirun(config.hydra.runtime.choices.get("sweep"))
            job = checked_config(without_hydra(config), config.hydra.runtime.choices.get(GROUP))
            refuse_passwords(config)
            if job.action == "train" and job.resume and job.run_dir is None:
                refuse_new_folder(config, "run")
            elif job.action == "train" and job.resume:
                refuse_other_folder(existing_run(job), Path(config.hydra.run.dir))  # before Hydra creates this folder
            refuse_links(config, "hydra.run.dir")
            check_writable(config, "hydra.run.dir")
            if job.action == "train":
                refuse_used_folder(Path(config.hydra.run.dir), resumes=job.resume)
            hold(Path(config.hydra.run.dir), f"hydra.run.dir={config.hydra.run.dir}")
            accept(job)
            announce_folder(config, ranks)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with exit_on_bad_input(), _hydra_knows(config):
            refuse_several_processes_of_multirun()
            if num_processes_of_job(config.hydra.launcher) > 1:
                given = f"hydra.launcher.tasks_per_node={config.hydra.launcher.tasks_per_node}"
                refuse_action_of_one_process(config, given, "leave tasks_per_node and nodes out")
            refuse_passwords(config)
            if config.get("resume") is True and config.get("run_dir") is None:
                refuse_new_folder(config, "sweep")
            refuse_links(config, "hydra.sweep.dir")
            check_writable(config, "hydra.sweep.dir")
            if config.hydra.sweeper._target_ == BASIC_SWEEPER:  # the processes of a search share a folder
                refuse_values_of_later_jobs(config)
                hold(Path(config.hydra.sweep.dir), f"hydra.sweep.dir={config.hydra.sweep.dir}")


def refuse_sweep_without_multirun(sweep: str | None) -> None:
    """Refuse `sweep=…` without `-m`, which would train a single run without a word.

    Raises:
        InputError: a sweep is chosen.
    """
    if sweep is not None:
        raise InputError(f"sweep={sweep}: a sweep needs -m, as in {command()} -m sweep={sweep} …")


def refuse_several_processes_of_multirun() -> None:
    """Refuse `-m` in one of several processes of torchrun: each would search by itself.

    Raises:
        InputError: there are several.
    """
    if are_several():
        raise InputError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: -m starts its runs itself; start it with {command()} -m …, and "
            f"for several processes per run with hydra/launcher=slurm hydra.launcher.tasks_per_node=N"
        )


def refuse_action_of_one_process(config: DictConfig, given: str, way_out: str) -> None:
    """Refuse to let several processes, of which `given` tells, do what only one can do.

    Raises:
        InputError: the action, or an option of it, is for one process.
    """
    name = str(config.get("action"))
    shared = [action for action, what in ACTIONS.items() if what.in_several_processes]
    asked = f"action={name}" if name not in shared else "verify=true" if config.get("verify") else None
    if asked is not None:
        raise InputError(
            f"{given}: {asked} is done by one process; {way_out} (several processes can do action={', '.join(shared)})"
        )


def continue_after_restart(config: DictConfig, ranks: Ranks) -> None:
    """Where torchrun has started the processes anew (`--max-restarts`), resume the run in the folder it had."""
    folder = ranks.recall(FOLDER) if ranks.restart and config.action == "train" else None
    if folder is not None:
        with read_write(config), open_dict(config):
            config.resume = True
            config.hydra.run.dir = folder


def announce_folder(config: DictConfig, ranks: Ranks) -> None:
    """Tell the other processes, those of a restart included, in which folder the run is."""
    folder = ranks.of_first(str(Path(config.hydra.run.dir).absolute()))
    if ranks.size > 1:
        ranks.remember(FOLDER, folder)


def follow_first(config: DictConfig, ranks: Ranks) -> None:
    """Wait until rank 0 has accepted the command, and take the folder from it; Hydra writes no files here."""
    with read_write(config), open_dict(config):
        config.hydra.run.dir = ranks.of_first("")
        config.hydra.output_subdir = None
        root = {"level": "ERROR", "handlers": []}
        config.hydra.job_logging = {"version": 1, "disable_existing_loggers": False, "root": root}


def refuse_values_of_later_jobs(config: DictConfig) -> None:
    """Refuse a value of `key=A,B` that its field does not allow: the job that has it may be hours away.

    What depends on several fields, or on an option of a group, is found where that job begins.

    Raises:
        InputError: one line per value.
    """
    problems: list[str] = []
    for key, value in swept_values(config.hydra.overrides.task):
        tree = OmegaConf.to_container(without_hydra(config), resolve=False)
        *above, name = key.split(".")
        parent = reduce(lambda node, step: node.get(step, {}) if isinstance(node, dict) else {}, above, tree)
        if isinstance(parent, dict) and name in parent and not isinstance(parent[name], dict):  # else a group's option
            parent[name] = value
            changed = OmegaConf.create(tree)
            assert isinstance(changed, DictConfig)
            problems += value_problems(from_tree(changed))
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))


def refuse_passwords(config: DictConfig) -> None:
    """Refuse a password in a store's address: it would be saved in the files of the run, or of a sweep's trials."""
    try:
        loggers: Any = OmegaConf.to_container(config.get("logger") or OmegaConf.create({}), resolve=True)
        found = {f"logger.{key}": value for key, value in flatten(loggers)}
        found["hydra.sweeper.storage"] = OmegaConf.select(config, "hydra.sweeper.storage")
    except OmegaConfBaseException as error:
        raise InputError(explain(error)) from error
    for override in config.hydra.overrides.task:
        key, _, value = override.lstrip("+").partition("=")
        found |= {key: value} if key.startswith("logger.") else {}
    for key, value in found.items():
        if isinstance(value, str) and has_password(value):
            raise InputError(
                f"{key}={without_password(value)}: the password in it would be saved in the run's folder; leave it out "
                f"here, and {INSTEAD_OF_PASSWORD}"
            )


def refuse_new_folder(config: DictConfig, mode: str) -> None:
    """Refuse to resume in a folder named after the time, which never holds a run yet; `mode`: run or sweep."""
    if "${now:" in str(OmegaConf.to_container(config.hydra[mode], resolve=False)):
        raise InputError(
            f"resume=true: which run should be resumed? An earlier one: run_dir=FOLDER resume=true; or one that may "
            f"not have begun yet, as in a job that is queued again: hydra.{mode}.dir=FOLDER resume=true"
        )


def refuse_used_folder(folder: Path, *, resumes: bool) -> None:
    """Refuse a folder that holds another run, or files that no run left and that the new run would replace.

    `resumes`: the run continues the one that the folder holds, if there is one.
    """
    is_of_a_run = (folder / METRICS_FILE).exists()
    if is_of_a_run and not resumes:
        raise InputError(
            f"hydra.run.dir={folder}: this folder holds a run already; resume it (resume=true), name another folder, "
            f"or remove it first"
        )
    others = [name for name in REPLACED if (folder / name).exists()]
    if others and not is_of_a_run and not (resumes and (folder / HYDRA_CONFIG).is_file()):
        raise InputError(
            f"hydra.run.dir={folder}: the run would replace {', '.join(others)} in it, which no run left there; "
            f"name another folder"
        )


def refuse_links(config: DictConfig, key: str) -> None:
    """Refuse links that lead out of the folder that `key` names, if it exists: a run would write through them.

    The working directory, and folders above it, are searched only if they hold a run.
    """
    folder = _folder(config, key)
    if foreign_folders.is_of_a_run(folder) or not Path.cwd().is_relative_to(folder.resolve()):
        refuse(foreign_folders.link_problems(folder), f"{key}={folder}")


def check_writable(config: DictConfig, key: str) -> None:
    """Check that the folder that `key` names can be created and written to.

    Raises:
        InputError: it cannot.
    """
    folder = _folder(config, key)
    probe, is_new = folder / f".writable.{os.getpid()}", not folder.exists()
    content = "on a full disk, files can be created but not written to"
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.write_text(content, encoding="utf-8")
        except FileNotFoundError:  # another process checked, too, and removed the folder that it had created
            folder.mkdir(parents=True, exist_ok=True)
            probe.write_text(content, encoding="utf-8")
        probe.unlink()
    except OSError as error:
        with suppress(OSError):
            probe.unlink()
        raise InputError(
            f"{key}={folder}: this folder cannot be created or written to ({error.strerror}); "
            f"name another with {key}=FOLDER, or start where outputs/ can be written to"
        ) from error
    if is_new:
        with suppress(OSError):  # another process may have put something into it
            folder.rmdir()  # a run that is refused later leaves no folder


def _folder(config: DictConfig, key: str) -> Path:
    try:
        return Path(OmegaConf.select(config, key))
    except OmegaConfBaseException as error:
        raise InputError(explain(error)) from error


@contextmanager
def _hydra_knows(config: DictConfig) -> Iterator[None]:
    """Make `${hydra:…}` resolvable, as it is inside a job."""
    hydra = HydraConfig.instance()
    before, hydra.cfg = hydra.cfg, config  # type: ignore[assignment]  # Hydra's own annotation is for the node below
    try:
        yield
    finally:
        hydra.cfg = before

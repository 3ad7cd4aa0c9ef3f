"""Between the command line and the actions: refuses early, and says in a line what Hydra says in many."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    CompactHydraException,
    ConfigCompositionException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError

from multitask_bert.config.action_table import ACTIONS
from multitask_bert.config.checks import NAME, NAME_RULE, check
from multitask_bert.config.joined_tasks import GROUP, file_of, options_of, split_names
from multitask_bert.config.overrides import as_word, keys_of, lies_in
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import (
    explain,
    flatten,
    from_tree,
    nearest,
    needs_list,
    unknown_key,
    without_hydra,
)
from multitask_bert.errors import InputError
from multitask_bert.heads import check_heads
from multitask_bert.saving.lock import hold
from multitask_bert.saving.resume import MAY_CHANGE, OF_THE_COMMAND, refuse_other_folder
from multitask_bert.saving.run_folder import HYDRA_CONFIG, existing_run
from multitask_bert.tracking.loggers import METRICS_FILE
from multitask_bert.trust import foreign_folders
from multitask_bert.trust.permissions import refuse
from multitask_bert.utils import signals
from multitask_bert.utils.addresses import has_password, without_password
from multitask_bert.utils.terminal import discard
from multitask_bert.utils.visible import visible

log = logging.getLogger(__name__)

FULL_ERROR = "HYDRA_FULL_ERROR"
GROUP_HINT = "\na group takes the name of one of its files (optimizer=sgd); a value is set below it (optimizer.lr=1e-4)"
NO_GROUPS = (
    "{group}: this config has no such group in its defaults list. A reproduce.yaml or best.yaml is whole: single keys "
    "can be changed (optimizer.lr=1e-4) and removed (~logger.mlflow: without that logger); +{group}=NAME lays the keys "
    "of {group}/NAME.yaml over those that it has"
)
LAUNCHERS = "joblib, submitit_local and submitit_slurm come with: pip install 'multitask_bert[cluster]'"
ONE_KEY = "{file}: it must have one key at its top, `{name}:`, with source and heads below it"
INSTEAD_OF_PASSWORD = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for an MLflow server, for a database what its driver "
    "reads (PostgreSQL's: PGPASSWORD or ~/.pgpass)"
)
BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # -m without a search
RERUN = "--experimental-rerun"
INSTEAD_OF_RERUN = "write python run.py --config-dir RUN --config-name reproduce"
REPLACED = ("model", "checkpoints", "results.json")  # what a run makes anew in its folder
QUOTES = "'\""
MERGING = "Error merging override "  # how Hydra begins when a value is of the wrong type


class PastHydra(BaseException):
    """Carries an `InputError` out of a job: before an ordinary exception, Hydra prints a line of its own."""

    def __init__(self, error: InputError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def plain_errors() -> Iterator[None]:
    """What the user can mend is told in a line or a few, and ends the program with exit status 1.

    Other errors keep their traceback. `HYDRA_FULL_ERROR=1`, set by the user, shows the traceback of all.
    """
    if os.environ.get(FULL_ERROR) == "1":
        try:
            yield
        except PastHydra as carrier:
            raise carrier.error from None
        return
    os.environ[FULL_ERROR] = "1"  # asks Hydra to raise its errors instead of printing them
    logging.raiseExceptions = False  # a full disk under run.log is no reason for a traceback per line
    try:
        with _exit_on_bad_input():
            yield
            if sys.stdout is not None:
                sys.stdout.flush()  # what `--help` and `--cfg` print
    except KeyboardInterrupt:  # before or after what can be gone on with
        sys.exit(signals.INTERRUPTED)
    except BrokenPipeError:  # whoever read it has seen enough, as in `--help | head`
        discard(sys.stdout)
    except CompactHydraException as error:
        _exit(explain_hydra(error))
    except YAMLError as error:
        _exit(explain_yaml(error))
    except OSError as error:
        if not _is_of_printing(error):
            raise
        discard(sys.stdout)
        _exit(f"standard output cannot be written ({error.strerror})")
    except ValueError as error:
        if not _was_raised_by_hydra(error):
            raise
        is_group = str(error).startswith("Config group override")
        _exit(f"{error}" + (GROUP_HINT if is_group else ""))
    finally:
        del os.environ[FULL_ERROR]
        logging.raiseExceptions = True


def show_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For `sys.excepthook`: the traceback, whose message may hold text from data, with control characters visible."""
    if sys.stderr is not None:
        sys.stderr.write(visible("".join(traceback.format_exception(kind, error, trace))))


def checked_config(tree: DictConfig, task_names: str | None) -> ExperimentConfig:
    """The typed and checked config. `task_names`: what was chosen with `tasks=…`; None: no choice was made.

    Raises:
        InputError: one line per problem.
    """
    for name in split_names(task_names) if task_names else []:
        if name not in (tree.get(GROUP) or {}):
            raise InputError(_one_key(name))
    config = from_tree(tree)
    check(config)
    check_heads(config)
    return config


class RefuseEarly(Callback):
    """Refuses a run before Hydra makes its folder, or where the folder cannot be made.

    Hydra turns a callback's exceptions into warnings; SystemExit passes.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _exit_on_bad_input(), _hydra_knows(config):
            refuse_several_processes()
            job = checked_config(without_hydra(config), config.hydra.runtime.choices.get(GROUP))
            refuse_passwords(config)
            if job.action == "train" and job.resume and job.run_dir is None:
                refuse_new_folder(config, "run")
            elif job.action == "train" and job.resume:
                refuse_other_folder(existing_run(job), Path(config.hydra.run.dir))  # before Hydra makes this folder
            refuse_links(config, "hydra.run.dir")
            check_writable(config, "hydra.run.dir")
            if job.action == "train":
                refuse_used_folder(Path(config.hydra.run.dir), goes_on=job.resume)
            hold(Path(config.hydra.run.dir), f"hydra.run.dir={config.hydra.run.dir}")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _exit_on_bad_input(), _hydra_knows(config):
            refuse_several_processes()
            refuse_passwords(config)
            if config.get("resume") is True and config.get("run_dir") is None:
                refuse_new_folder(config, "sweep")
            refuse_links(config, "hydra.sweep.dir")
            check_writable(config, "hydra.sweep.dir")
            if config.hydra.sweeper._target_ == BASIC_SWEEPER:  # the processes of a search share a folder
                hold(Path(config.hydra.sweep.dir), f"hydra.sweep.dir={config.hydra.sweep.dir}")


def refuse_several_processes() -> None:
    """Each would train the same run. None of Slurm's variables says that: its tasks may be runs of their own."""
    world_size = os.environ.get("WORLD_SIZE", "")
    if world_size.isdecimal() and int(world_size) > 1:
        raise InputError(
            f"WORLD_SIZE={world_size}: this is one of {world_size} processes, as torchrun starts them; a run is one "
            f"process on one device so far, so start it with python run.py"
        )


def refuse_passwords(config: DictConfig) -> None:
    """In the address of a store: it would stand in the files of the run, or of the sweep and all its trials."""
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
                f"{key}={without_password(value)}: the password in it would be kept in the folder of the run; leave it "
                f"out here, and {INSTEAD_OF_PASSWORD}"
            )


def refuse_new_folder(config: DictConfig, kind: str) -> None:
    """In a folder that is named after the time there is never a run to go on with; `kind`: run or sweep."""
    if "${now:" in str(OmegaConf.to_container(config.hydra[kind], resolve=False)):
        raise InputError(
            f"resume=true: go on with which run? With an earlier one: run_dir=FOLDER resume=true; or with one that may "
            f"not have begun yet, as in a job that is queued again: hydra.{kind}.dir=FOLDER resume=true"
        )


def refuse_used_folder(folder: Path, *, goes_on: bool) -> None:
    """Two runs in one folder would be neither the one nor the other; and a run replaces what is there by its names.

    `goes_on`: with the run that the folder holds, if there is one.
    """
    is_of_a_run = (folder / METRICS_FILE).exists()
    if is_of_a_run and not goes_on:
        raise InputError(
            f"hydra.run.dir={folder}: this folder holds a run already; go on with it (resume=true), name another, or "
            f"remove it first"
        )
    others = [name for name in REPLACED if (folder / name).exists()]
    if others and not is_of_a_run and not (goes_on and (folder / HYDRA_CONFIG).is_file()):
        raise InputError(
            f"hydra.run.dir={folder}: {', '.join(others)} in it would be replaced by the run's, and no run left it; "
            f"name another folder"
        )


def refuse_pickles(arguments: Sequence[str]) -> None:
    """`--experimental-rerun FILE` of Hydra unpickles, which runs whatever the file holds."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--e") and RERUN.startswith(flag):  # argparse takes beginnings, too
            _exit(f"{RERUN}: unpickles a file, which is never done here; {INSTEAD_OF_RERUN}")


def overrides_without_effect(config: ExperimentConfig, overrides: Iterable[str]) -> Iterator[str]:
    """One line per override that an action on an earlier run does not look at: tasks and model are those of the run."""
    action, goes_on = ACTIONS[config.action], config.action == "train" and config.resume and config.run_dir is not None
    for override in overrides if action.needs_run_dir or goes_on else ():
        (key,) = keys_of([override])
        is_read = lies_in(key, MAY_CHANGE if goes_on else action.reads) is not None
        if key not in OF_THE_COMMAND and not is_read:
            what = "resume=true" if goes_on else f"action={config.action}"
            yield f"{override} has no effect with {what}, which goes by the config of the run in run_dir"


def refuse_links(config: DictConfig, key: str) -> None:
    """Refuse links that lead out of the folder that `key` names, where it is there; a run would write through them.

    The folder that one stands in, or that it lies in, is looked at only where it holds a run.
    """
    folder = _folder(config, key)
    if foreign_folders.is_of_a_run(folder) or not Path.cwd().is_relative_to(folder.resolve()):
        refuse(foreign_folders.link_problems(folder), f"{key}={folder}")


def check_writable(config: DictConfig, key: str) -> None:
    """See whether the folder that `key` names can be made and written.

    Raises:
        InputError: it cannot.
    """
    folder = _folder(config, key)
    probe, is_new = folder / f".writable.{os.getpid()}", not folder.exists()
    content = "a full disk makes files, and writes nothing into them"
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe.write_text(content, encoding="utf-8")
        except FileNotFoundError:  # another process looked, too, and removed the folder that it had made
            folder.mkdir(parents=True, exist_ok=True)
            probe.write_text(content, encoding="utf-8")
        probe.unlink()
    except OSError as error:
        with suppress(OSError):
            probe.unlink()
        raise InputError(
            f"{key}={folder}: this folder cannot be made or written ({error.strerror}); "
            f"name another with {key}=FOLDER, or start where outputs/ can be written"
        ) from error
    if is_new:
        with suppress(OSError):  # another process may have put something into it
            folder.rmdir()  # what is refused after this leaves none


def _folder(config: DictConfig, key: str) -> Path:
    try:
        return Path(OmegaConf.select(config, key))
    except OmegaConfBaseException as error:
        raise InputError(explain(error)) from error


@contextmanager
def errors_in_run_log() -> Iterator[None]:
    """What ends a job stands in its run.log, too; on the console it is said once, by Hydra or by `plain_errors`.

    Raises:
        PastHydra: in place of an `InputError`, but for the jobs of a multirun, where the next ones are to run.
    """
    try:
        yield
    except InputError as error:
        log.info("error: %s", error)
        if HydraConfig.get().mode != RunMode.RUN:
            raise
        raise PastHydra(error) from error
    except Exception:
        log.info("the run ended with an error", exc_info=True)
        raise


def explain_yaml(error: YAMLError) -> str:
    """File, line and what is wrong there."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error)
    problem = getattr(error, "problem", None) or "this is not YAML"
    return f"{mark.name}:{mark.line + 1}: {problem} (column {mark.column + 1}); see to brackets, quotes and indentation"


def explain_hydra(error: CompactHydraException) -> str:
    """Hydra's message in a line or a few, with the names that were probably meant."""
    cause = error.__cause__ or error.__context__
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        return _no_such_option(error)
    if isinstance(error, ConfigCompositionException) and isinstance(cause, ConfigAttributeError | ConfigKeyError):
        task = re.match(r"In 'tasks/([^'+]+)'", str(error))
        if task is not None and not str(cause.full_key).startswith(f"{GROUP}.{task[1]}."):
            return _one_key(task[1])
        return _no_such_key(cause)
    if isinstance(error, OverrideParseException) and not error.override.isascii():
        return _beyond_ascii(error.override)
    message = str(error).partition("\nConfig search path:")[0].strip()
    if group := re.match(r"Could not override '([\w/]+)'\. No match in the defaults list", message):
        return NO_GROUPS.format(group=group[1])
    if isinstance(error, ConfigCompositionException) and isinstance(cause, OmegaConfBaseException):
        override = message.removeprefix(MERGING)
        if override != message and needs_list(cause):
            key, _, value = override.partition("=")
            return f"{override}: needs a list, also of one; write '{key}=[{value}]' (quoted, for the shell)"
        if override != message:
            return f"{override}: {str(cause).splitlines()[0]}"
        where = message.partition(":")[0]  # In 'experiment/swahili'
        return f"{where}: {explain(cause)}" if where else explain(cause)
    return message if message else type(error).__name__


def _beyond_ascii(override: str) -> str:
    """Hydra takes letters beyond ASCII between quotes only, and names of tasks have none."""
    key, _, value = override.partition("=")
    if key.lstrip("+~") == GROUP:
        return f"{override}: a task's name {NAME_RULE}; rename the file of the task, and the key at its top"
    if not key.isascii():
        return f"{override}: no key has letters beyond ASCII"
    word = as_word(key, value.strip(QUOTES))
    return f"{override}: a value with letters beyond ASCII is written between quotes, here for a shell: {word}"


def _one_key(task: str) -> str:
    return ONE_KEY.format(file=file_of(GROUP, task), name=task)


def _no_such_option(error: MissingConfigException) -> str:
    group, _, name = str(error.missing_cfg_file).rpartition("/")
    options = sorted({*options_of(group), *(error.options or ())})
    near = nearest(name, options)
    lines = [f"{group}: there is no '{name}'" + (f"; did you mean {near}?" if near else "")]
    if group == GROUP and not NAME.fullmatch(name):
        return f"{lines[0]}\na task's name {NAME_RULE}; rename the file of the task, and the key at its top"
    lines += [f"there are: {', '.join(options)}"] if options else []
    lines += [LAUNCHERS] if group == "hydra/launcher" else []
    lines += [f"your own FOLDER/{group}/{name}.yaml is found with --config-dir FOLDER"]
    return "\n".join(lines)


def _no_such_key(error: OmegaConfBaseException) -> str:
    assert error.full_key is not None
    parent: Any = error.parent_node
    siblings = [str(key) for key in parent if key != "hydra"] if isinstance(parent, DictConfig) else []
    message = unknown_key(error.full_key, siblings)
    if is_dataclass(OmegaConf.get_type(parent)):
        return message
    return f"{message}\na new one is added with a '+' before the key, as in +{error.full_key}=…"


def _was_raised_by_hydra(error: ValueError) -> bool:
    """Some of its refusals (`optimizer=3`, `--multirun --cfg job`) are plain ValueErrors."""
    return _module_of(error).startswith("hydra.")


def _is_of_printing(error: OSError) -> bool:
    """Whether standard output could not be written: by Hydra, or when it was flushed here. Actions do not mind that."""
    return error.filename is None and _module_of(error).startswith(("hydra.", __name__))


def _module_of(error: Exception) -> str:
    """Where it was raised."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__"))


@contextmanager
def _exit_on_bad_input() -> Iterator[None]:
    try:
        yield
    except (InputError, PastHydra) as error:
        _exit(str(error))


def _exit(problem: str) -> NoReturn:
    sys.exit(f"error: {visible(problem)}")


@contextmanager
def _hydra_knows(config: DictConfig) -> Iterator[None]:
    """`${hydra:…}` can be resolved, as it can inside a job."""
    hydra = HydraConfig.instance()
    before, hydra.cfg = hydra.cfg, config  # type: ignore[assignment]  # Hydra's own annotation is for the node below
    try:
        yield
    finally:
        hydra.cfg = before

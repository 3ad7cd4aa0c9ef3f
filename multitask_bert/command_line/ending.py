"""How the program ends on an error: a short message for what the user can fix, a traceback for everything else."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from yaml import YAMLError

from multitask_bert.command_line.explanations import GROUP_HINT, explain_hydra, explain_yaml
from multitask_bert.config.sweep_config import TRIAL
from multitask_bert.errors import InputError
from multitask_bert.saving.run_folder import BAD_INPUT, ENDED_BY_ERROR
from multitask_bert.utils import signals
from multitask_bert.utils.ranks import PeerLostError, are_several, this_run
from multitask_bert.utils.terminal import discard, make_console
from multitask_bert.utils.visible import visible

log = logging.getLogger(__name__)

FULL_ERROR = "HYDRA_FULL_ERROR"
RERUN = "--experimental-rerun"
INSTEAD_OF_RERUN = "write python run.py --config-dir RUN --config-name reproduce"

_failed_jobs: list[int] = []  # numbers of the jobs of a multirun, in this process


class PastHydra(BaseException):
    """Carries an `InputError` out of a job: for an ordinary exception, Hydra would print a line of its own."""

    def __init__(self, error: InputError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the program with a short message and exit status 1 on errors that the user can fix.

    Other errors keep their traceback; with `HYDRA_FULL_ERROR=1` in the environment, all of them do.
    """
    if os.environ.get(FULL_ERROR) == "1":
        try:
            yield
        except PastHydra as carrier:
            raise carrier.error from None
        return
    _failed_jobs.clear()
    os.environ[FULL_ERROR] = "1"  # asks Hydra to raise its errors instead of printing them
    logging.raiseExceptions = False  # a full disk under run.log would print a traceback per line
    try:
        with exit_on_bad_input():
            yield
            if sys.stdout is not None:
                sys.stdout.flush()  # what `--help` and `--cfg` print
    except KeyboardInterrupt:  # before or after the part of a run that can be resumed
        sys.exit(signals.INTERRUPTED)
    except BrokenPipeError:  # the reader has closed it, as in `--help | head`
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
    """Print a traceback (as `sys.excepthook`) with control characters visible: its message may quote data."""
    if sys.stderr is not None:
        if not _may_tell(error, str(error)):
            return
        sys.stderr.write(visible(_of_rank("".join(traceback.format_exception(kind, error, trace)))))


@contextmanager
def errors_in_run_log() -> Iterator[None]:
    """Write the error that ends a job to its run.log, too; Hydra or `plain_errors` prints it on the console.

    Raises:
        PastHydra: in place of an `InputError`, except in a multirun, whose next jobs should run.
    """
    try:
        yield
    except InputError as error:
        cause = _cause(error)
        log.info("%s%s", BAD_INPUT, cause)
        if HydraConfig.get().mode != RunMode.RUN:
            _tell_first(error)
            _show_failed_job(cause)
            if cause != str(error):
                raise InputError(cause) from error
            raise
        raise PastHydra(error) from error
    except Exception as error:
        log.info(ENDED_BY_ERROR, exc_info=True)
        if HydraConfig.get().mode != RunMode.RUN:
            _tell_first(error)
            _show_failed_job(f"{type(error).__name__}: {error}")
        raise


def refuse_pickles(arguments: Sequence[str]) -> None:
    """Refuse Hydra's `--experimental-rerun FILE`: it unpickles the file, which runs any code in it."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--e") and RERUN.startswith(flag):  # argparse accepts abbreviations
            _exit(f"{RERUN}: unpickles a file, which is never done here; {INSTEAD_OF_RERUN}")


def _was_raised_by_hydra(error: ValueError) -> bool:
    """Whether Hydra refuses the command: `optimizer=3` and `--multirun --cfg job` are plain ValueErrors."""
    return _module_of(error).startswith("hydra.")


def _is_of_printing(error: OSError) -> bool:
    """Whether Hydra, or the flush in this file, could not write to standard output; actions tolerate that."""
    return error.filename is None and _module_of(error).startswith(("hydra.", __name__))


def _module_of(error: Exception) -> str:
    """The name of the module that raised the error."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__"))


@contextmanager
def exit_on_bad_input() -> Iterator[None]:
    try:
        yield
    except (InputError, PastHydra) as error:
        _exit(str(error), error.error if isinstance(error, PastHydra) else error)


def _exit(problem: str, error: InputError | None = None) -> NoReturn:
    """End with a message; of several processes that end, only one tells it."""
    if not _may_tell(error, problem):
        sys.exit(1)
    if len(_failed_jobs) > 1:  # each has been shown
        numbers = ", ".join(map(str, _failed_jobs))
        problem = f"{len(_failed_jobs)} jobs failed: {numbers}; job {_failed_jobs[0]}: {problem}"
    sys.exit(f"error: {visible(_of_rank(problem))}")


def _of_rank(problem: str) -> str:
    """The text of an error; of several processes, with the rank of this one."""
    return f"rank {os.environ.get('RANK')}: {problem}" if are_several() else problem


def _may_tell(error: BaseException | None, text: str) -> bool:
    try:
        return this_run().may_tell(error, text)
    except InputError:  # the processes have not met
        return True


def _show_failed_job(problem: str) -> None:
    """Print at once what Hydra raises after the last job, and of several failed jobs for the first one only."""
    if TRIAL in os.environ or not this_run().is_first:  # of a sweep's trial, the sweep tells
        return
    number = HydraConfig.get().job.num
    _failed_jobs.append(number)
    make_console(sys.stderr).print(f"job {number} failed: {problem}")


def _tell_first(error: Exception) -> None:
    """Let rank 0 of a job know which error ends this process; only its own results are looked at."""
    if not this_run().is_first and not isinstance(error, PeerLostError):
        this_run().may_tell(error, str(error))


def _cause(error: InputError) -> str:
    """The text of an error; if this process has only lost another, what that one has told."""
    told = None
    if isinstance(error, PeerLostError):
        with suppress(RuntimeError):  # the process that held torch's store has ended
            told = this_run().told()
    return told or str(error)

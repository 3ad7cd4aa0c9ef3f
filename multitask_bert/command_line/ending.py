"""How the program ends on an error: a line or a few for what the user can mend, a traceback for everything else."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from yaml import YAMLError

from multitask_bert.command_line.explanations import GROUP_HINT, explain_hydra, explain_yaml
from multitask_bert.errors import InputError
from multitask_bert.utils import signals
from multitask_bert.utils.terminal import discard
from multitask_bert.utils.visible import visible

log = logging.getLogger(__name__)

FULL_ERROR = "HYDRA_FULL_ERROR"
RERUN = "--experimental-rerun"
INSTEAD_OF_RERUN = "write python run.py --config-dir RUN --config-name reproduce"


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
        with exit_on_bad_input():
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


def refuse_pickles(arguments: Sequence[str]) -> None:
    """`--experimental-rerun FILE` of Hydra unpickles, which runs whatever the file holds."""
    for argument in arguments:
        flag = argument.partition("=")[0]
        if flag.startswith("--e") and RERUN.startswith(flag):  # argparse takes beginnings, too
            _exit(f"{RERUN}: unpickles a file, which is never done here; {INSTEAD_OF_RERUN}")


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
def exit_on_bad_input() -> Iterator[None]:
    try:
        yield
    except (InputError, PastHydra) as error:
        _exit(str(error))


def _exit(problem: str) -> NoReturn:
    sys.exit(f"error: {visible(problem)}")

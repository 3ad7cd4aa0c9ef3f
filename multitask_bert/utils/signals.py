"""Signals that ask a run to stop: it does so between two steps, and leaves a checkpoint to resume from."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from multitask_bert.utils.ranks import are_several

RESUME_ME = 75  # exit status after SIGTERM and SIGUSR1: EX_TEMPFAIL of sysexits.h, "try again later"
INTERRUPTED = 130  # after Ctrl-C, as shells have it
WARNINGS = ("SIGTERM", "SIGUSR1")  # the second is what Slurm can send before time is up; Windows has it not


def exit_status(signal_name: str) -> int:
    """The exit status of a run that this signal has stopped."""
    return INTERRUPTED if signal_name == "SIGINT" else RESUME_ME


@contextlib.contextmanager
def asking(ask: Callable[[str], None]) -> Iterator[None]:
    """Within this context, signals call `ask` with their name. A second Ctrl-C is a `KeyboardInterrupt`, as usual;
    not under torchrun, which passes on to its processes what they have got from the terminal.

    Processes that are forked within it are ended by the signals, as by default. Outside the main thread, where Python
    sets no handlers, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    owner = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if os.getpid() != owner:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if name == "SIGINT" and not are_several():
            signal.signal(signal.SIGINT, signal.default_int_handler)
        ask(name)

    names = [name for name in ("SIGINT", *WARNINGS) if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), handle) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            if signal.getsignal(getattr(signal, name)) is signal.SIG_IGN:
                continue  # the process ends, and tells why
            signal.signal(getattr(signal, name), handler)

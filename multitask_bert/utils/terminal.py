"""Output that a run can do without: streams that never fail, and consoles that show text unchanged."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from multitask_bert.utils.visible import visible

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

NAMES = {"<stdout>": "standard output", "<stderr>": "standard error"}


class TolerantStream:
    """Wraps a text stream and suppresses its errors.

    A character that the encoding lacks is written as its escape. Once the stream cannot be written (a pipe without a
    reader, a full disk), a warning is logged and the rest is dropped.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._is_lost = False

    def write(self, text: str) -> int:
        try:
            if not self._is_lost:
                self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            self.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError) as error:  # the second: it is closed
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        try:
            if not self._is_lost:
                self._stream.flush()
        except (OSError, ValueError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._is_lost = True
        discard(self._stream)
        name = str(getattr(self._stream, "name", "output"))
        reason = getattr(error, "strerror", None) or error
        log.warning("%s cannot be written (%s); the work goes on without it", NAMES.get(name, name), reason)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def discard(stream: Any) -> None:
    """Redirect a stream, its buffer included, to the null device: Python flushes it once more on exit."""
    with suppress(OSError, ValueError):  # of a stream without a file
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def tolerant(stream: Any) -> Any:
    return stream if stream is None or isinstance(stream, TolerantStream) else TolerantStream(stream)


def tolerate_lost_output() -> None:
    """Make printing in this process never raise, from now on."""
    sys.stdout, sys.stderr = tolerant(sys.stdout), tolerant(sys.stderr)


def make_console(file: Any = None, *, quiet: bool = False) -> Console:
    """A rich console on a tolerant stream (None: standard output) that reads no markup and no emoji codes in text."""
    from rich.console import Console
    from rich.text import Text

    class VisibleConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(visible(text), **options)

    return VisibleConsole(
        file=tolerant(file or sys.stdout), quiet=quiet, markup=False, emoji=False, highlight=False, soft_wrap=True
    )

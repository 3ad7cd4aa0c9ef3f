"""Log messages that would be repeated, told once."""

from __future__ import annotations

import logging
from contextlib import ContextDecorator


class _NewMessages(logging.Filter):
    """Passes each message the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.known: set[tuple[str, str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        message = (record.levelname, record.getMessage())
        is_new = message not in self.known
        self.known.add(message)
        return is_new


class EachMessageOnce(ContextDecorator):
    """While one is entered, each handler of the root logger passes a message once only.

    It can be entered again, and remembers what was told before; so can the functions that it decorates.
    """

    def __init__(self) -> None:
        self._filters: dict[logging.Handler, _NewMessages] = {}

    def __enter__(self) -> None:
        for handler in logging.getLogger().handlers:
            handler.addFilter(self._filters.setdefault(handler, _NewMessages()))

    def __exit__(self, *error: object) -> None:
        for handler, new_messages in self._filters.items():
            handler.removeFilter(new_messages)

"""Log messages that would be repeated, told once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


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


@contextmanager
def each_message_once() -> Iterator[None]:
    """Let each handler of the root logger pass a message once only."""
    filters = [(handler, _NewMessages()) for handler in logging.getLogger().handlers]
    for handler, new_messages in filters:
        handler.addFilter(new_messages)
    try:
        yield
    finally:
        for handler, new_messages in filters:
            handler.removeFilter(new_messages)

"""TensorBoard's event file, written without its writer's thread, which a full disk ends with a traceback."""

from __future__ import annotations

import os
import socket
import time
from io import BytesIO
from pathlib import Path
from typing import Any

FLUSH_SECONDS = 10  # what a killed run may lose in TensorBoard
VERSION = "brain.Event:2"  # of the format, as TensorBoard wants it in the first event
_num_made = 0  # in this process


class EventFile:
    """A new file of events in `folder`; each call may raise an OSError, and may be made again after it."""

    def __init__(self, folder: Path, *, first_step: int | None = None) -> None:
        """`first_step`: what earlier files have of this step and later ones is not shown any more; None: all is."""
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        global _num_made
        _num_made += 1
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{_num_made}"
        self._path, self._num_bytes = folder / name, 0
        self._path.touch(exist_ok=False)
        self._pending = BytesIO()
        self._records = RecordWriter(self._pending)
        self._next_flush = 0.0
        self._add(file_version=VERSION)
        if first_step is not None:
            self._add(step=first_step, session_log=SessionLog(status=SessionLog.START))

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        from torch.utils.tensorboard.summary import scalar

        self._add(step=step, summary=scalar(tag, value))  # type: ignore[no-untyped-call]

    def add_text(self, tag: str, markdown: str) -> None:
        from torch.utils.tensorboard.summary import text

        self._add(step=0, summary=text(tag, markdown))  # type: ignore[no-untyped-call]

    def flush(self) -> None:
        """Write what is pending; what cannot be written is dropped, and the file stays readable.

        Raises:
            OSError: the disk is full, or the folder is there no more.
        """
        pending = self._pending.getvalue()
        self._pending.seek(0)
        self._pending.truncate()
        self._next_flush = time.monotonic() + FLUSH_SECONDS
        with self._path.open("r+b", buffering=0) as file:
            file.truncate(self._num_bytes)  # of a write that failed in its midst
            file.seek(self._num_bytes)
            num_written = file.write(pending)
            if num_written != len(pending):
                raise OSError(f"{self._path}: only {num_written} of {len(pending)} bytes could be written")
        self._num_bytes += num_written

    def _add(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
        if time.monotonic() >= self._next_flush:
            self.flush()

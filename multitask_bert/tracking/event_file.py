"""TensorBoard's event file; its own writer is not used, since its thread dies with a traceback on a full disk."""

from __future__ import annotations

import os
import socket
import time
from io import BytesIO
from pathlib import Path
from typing import Any

FLUSH_SECONDS = 10  # between two flushes; a killed run loses at most as much
VERSION = "brain.Event:2"  # of the format, in the first event of a file
_num_made = 0  # in this process


class EventFile:
    """A new event file in `folder`. A call that raises an OSError may be repeated."""

    def __init__(self, folder: Path, *, first_step: int | None = None) -> None:
        """`first_step`: hides what earlier files have of this and later steps; None: hides nothing."""
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

    def add_png(self, tag: str, png: bytes, step: int) -> None:
        """Add an image as it is, without decoding it."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = (int.from_bytes(png[start : start + 4]) for start in (16, 20))  # after signature and IHDR
        image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
        self._add(step=step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def flush(self) -> None:
        """Write the pending events; if that fails they are dropped, and the file stays readable.

        Raises:
            OSError: the disk is full, or the folder is gone.
        """
        pending = self._pending.getvalue()
        self._pending.seek(0)
        self._pending.truncate()
        self._next_flush = time.monotonic() + FLUSH_SECONDS
        with self._path.open("r+b", buffering=0) as file:
            file.truncate(self._num_bytes)  # in case the last write failed halfway
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

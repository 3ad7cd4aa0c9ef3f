"""`checkpoints/last/`: all that a run is at a step, so that it can go on from there after whatever ended it.

    step_00000120/tensors.safetensors  weights, moments of the optimizer, states of random generators
    step_00000120/state.json           everything else
    step_00000120/checksums.json       sha256 of the two

A folder has its name only when it is whole: what dies while writing leaves the earlier ones as they are.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multitask_bert.errors import InputError
from multitask_bert.utils.files import CHECKSUMS, checksums_of, compare_checksums, partial_of, read_json

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

TENSORS, STATE = "tensors.safetensors", "state.json"
LAST, FAILED = "last", "failed"  # below checkpoints/: to go on from; before a step that could not be made
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Snapshot:
    """A run at a step."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]  # of JSON types

    @property
    def step(self) -> int:
        return int(self.state["train"]["step"])


class Snapshots:
    """Those of the run in `folder`; the newest `num_kept` (at least 1) stay."""

    def __init__(self, folder: Path, *, num_kept: int = 2, name: str = LAST) -> None:
        self.folder, self.num_kept = folder / "checkpoints" / name, num_kept

    def write(self, step: int, snapshot: Snapshot) -> None:
        """Add the snapshot of a step, or replace it.

        Raises:
            InputError: it cannot be written; those before it are as they were.
        """
        from safetensors.torch import save_file

        target = self.folder / _name(step)
        partial = partial_of(target)
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            save_file({name: tensor.contiguous() for name, tensor in snapshot.tensors.items()}, partial / TENSORS)
            _write(partial / STATE, {"format_version": FORMAT_VERSION, **snapshot.state})
            _write(partial / CHECKSUMS, checksums_of(partial))
            _sync(partial / TENSORS)
            _sync(partial)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            _sync(self.folder)
        except Exception as error:  # safetensors has an exception type of its own for a full disk
            shutil.rmtree(partial, ignore_errors=True)
            raise InputError(
                f"{self.folder}: the checkpoint of step {step} cannot be written ({error}); make room there and go on "
                f"with resume=true; the one before it is whole"
            ) from error
        for old in self._steps()[: -self.num_kept]:
            shutil.rmtree(self.folder / _name(old), ignore_errors=True)

    def read(self, *, before: float = math.inf) -> Snapshot | None:
        """The newest that is whole, before a step if one is given; None: there is none. What is damaged is named."""
        for step in reversed([step for step in self._steps() if step < before]):
            folder = self.folder / _name(step)
            try:
                return _read(folder)
            except (OSError, ValueError, KeyError) as error:
                log.warning("%s: damaged (%s); the checkpoint before it is taken, if there is one", folder, error)
        return None

    def remove(self) -> None:
        """All of them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[int]:
        return sorted(int(path.name.removeprefix("step_")) for path in self.folder.glob("step_*"))


def _name(step: int) -> str:
    return f"step_{step:08d}"


def _read(folder: Path) -> Snapshot:
    from safetensors.torch import load_file

    compare_checksums(folder)
    state = read_json(folder / STATE)
    if state["format_version"] != FORMAT_VERSION:
        raise ValueError(f"format {state['format_version']} is not known here")
    return Snapshot(load_file(folder / TENSORS), state)


def _write(path: Path, value: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Have the system put a file, or the names in a folder, on the disk."""
    if os.name == "nt" and path.is_dir():
        return  # folders cannot be opened there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Checkpoints on disk: the whole state of a run at a step, one folder each, below `checkpoints/last/`.

    step_00000120/tensors.safetensors  weights, moments of the optimizer, states of random generators
    step_00000120/state.json           everything else
    step_00000120/checksums.json       sha256 of the two

A folder is written under another name and renamed once it is complete, so that a process killed while writing leaves
the earlier checkpoints as they were. What the tensors and the state mean is known to training/checkpoint.py.
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
CHECKPOINTS = "checkpoints"  # in a run's folder
LAST, FAILED = "last", "failed"  # below it: to resume from; the state before a step that ended the run
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """The whole state of a run at a step."""

    tensors: Mapping[str, Tensor]
    state: Mapping[str, Any]  # of JSON types

    @property
    def step(self) -> int:
        return int(self.state["train"]["step"])


class CheckpointStore:
    """Writes and reads the checkpoints of the run in `folder`; keeps the newest `num_kept` (at least 1)."""

    def __init__(self, folder: Path, *, num_kept: int = 2, name: str = LAST) -> None:
        self.folder, self.num_kept = folder / CHECKPOINTS / name, num_kept

    def write(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, replacing one of the same step; remove the oldest.

        Raises:
            InputError: it cannot be written; the earlier ones are as they were.
        """
        from safetensors.torch import save_file

        target = self.folder / _name(checkpoint.step)
        partial = partial_of(target)
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            save_file({name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}, partial / TENSORS)
            _write(partial / STATE, {"format_version": FORMAT_VERSION, **checkpoint.state})
            _write(partial / CHECKSUMS, checksums_of(partial))
            _sync(partial / TENSORS)
            _sync(partial)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
            _sync(self.folder)
        except Exception as error:  # safetensors has an exception type of its own for a full disk
            shutil.rmtree(partial, ignore_errors=True)
            raise InputError(
                f"{self.folder}: the checkpoint of step {checkpoint.step} cannot be written ({error}); free disk space "
                f"and continue with resume=true; the earlier checkpoint is intact"
            ) from error
        for old in self._steps()[: -self.num_kept]:
            shutil.rmtree(self.folder / _name(old), ignore_errors=True)

    def read(self, *, before: float = math.inf) -> Checkpoint | None:
        """The newest intact checkpoint of a step before `before`; None if there is none. Warns of damaged ones."""
        for step in reversed([step for step in self._steps() if step < before]):
            folder = self.folder / _name(step)
            try:
                return _read(folder)
            except (OSError, ValueError, KeyError) as error:
                log.warning("%s: damaged (%s); trying the checkpoint before it", folder, error)
        return None

    def remove(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[int]:
        return sorted(int(path.name.removeprefix("step_")) for path in self.folder.glob("step_*"))


def _name(step: int) -> str:
    return f"step_{step:08d}"


def _read(folder: Path) -> Checkpoint:
    from safetensors.torch import load_file

    compare_checksums(folder)
    state = read_json(folder / STATE)
    if state["format_version"] != FORMAT_VERSION:
        raise ValueError(f"unknown format version {state['format_version']}")
    return Checkpoint(load_file(folder / TENSORS), state)


def _write(path: Path, value: Any) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    if os.name == "nt" and path.is_dir():
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""What a snapshot holds of a run, taken between two steps and put back later: the run then goes on bit for bit.

Which examples come next follows from seed, epoch and step (data/streaming.py), so that nothing of it is kept.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import to_dict
from multitask_bert.errors import InputError
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.saving.best_model import BestCheckpoint
from multitask_bert.saving.resume import refuse_another_config
from multitask_bert.saving.store import FAILED, Snapshot, Snapshots
from multitask_bert.tracking.loggers import METRICS_FILE
from multitask_bert.train_state import TrainState, without_best
from multitask_bert.training.averaging import WeightAverage
from multitask_bert.training.optimization import Updater

log = logging.getLogger(__name__)

MODEL, AVERAGE, OPTIMIZER, ROWS, RANDOM = "model.", "average.", "optimizer.", "rows", "random."


class Savepoints:
    """The snapshots of a run in `folder`; without a folder, or where none are wanted, nothing is written."""

    def __init__(self, folder: Path | None, config: ExperimentConfig) -> None:
        self.folder, self.config = folder, config
        self._snapshots = None if folder is None else Snapshots(folder, num_kept=config.trainer.keep_last)

    @property
    def are_kept(self) -> bool:
        """Whether `save` leaves something to go on from."""
        return self._snapshots is not None and self._snapshots.num_kept > 0

    def save(
        self,
        model: MultiTaskModel,
        updater: Updater,
        state: TrainState,
        *,
        average: WeightAverage,
        has_failed: bool = False,
        **more: Any,
    ) -> None:
        """The run as it stands, with its config and the length of its log; `more`: see `take`.

        `has_failed`: to be looked at, not to be gone on from; it does not take the place of those that are.

        Raises:
            InputError: it cannot be written; those before it are whole.
        """
        if self.folder is None or self._snapshots is None or not self.are_kept:
            return
        log_file = self.folder / METRICS_FILE
        num_bytes_logged = log_file.stat().st_size if log_file.is_file() else 0
        snapshot = take(
            model, updater, state, average,
            config=self._config_tree, num_bytes_logged=num_bytes_logged, **more,
        )  # fmt: skip
        place = Snapshots(self.folder, num_kept=1, name=FAILED) if has_failed else self._snapshots
        place.write(state.step, snapshot)

    @cached_property
    def _config_tree(self) -> dict[str, Any]:
        return to_dict(self.config)  # once: it takes longer than writing a small model

    def last(self, best: BestCheckpoint) -> Snapshot | None:
        """Where the config asks to go on from; None: from the beginning.

        Where the best model is lost: before it was made, so that it is made again.

        Raises:
            InputError: it is of a run with another config; or the best model is damaged, and all checkpoints are later.
        """
        snapshot = self._snapshots.read() if self.config.resume and self._snapshots is not None else None
        if snapshot is None or self._snapshots is None:
            return None
        refuse_another_config(snapshot.state["config"], self.config)
        if snapshot.state["train"]["best_score"] is None or (damage := best.damage()) is None:
            return snapshot
        snapshot = self._way_to_best(snapshot, best, damage)
        log.warning("%s: the best model so far is lost (%s); going on from step %d", best.folder, damage, snapshot.step)
        train = without_best(snapshot.state["train"])
        return Snapshot(snapshot.tensors, {**snapshot.state, "train": train, "best": {}})

    def _way_to_best(self, newest: Snapshot, best: BestCheckpoint, damage: str) -> Snapshot:
        """Where a best model that is lost is made again; where nothing is left of it: the newest."""
        assert self._snapshots is not None
        made_at = best.step() or newest.state["train"]["best_step"]
        if best.is_half_replaced() or made_at > newest.step:
            return newest
        earlier = self._snapshots.read(before=made_at)
        if earlier is None and best.is_there():
            raise InputError(
                f"{best.folder}: {damage}; it held the best model so far, of step {made_at}, and no checkpoint before "
                f"that step is left; remove this folder to go on from step {newest.step} without it, or begin anew in "
                f"another folder"
            )
        return earlier or newest

    def remove(self) -> None:
        """Free the disk of what a complete run does not need."""
        if self._snapshots is not None:
            self._snapshots.remove()


class Stopped(BaseException):
    """The run was asked to end, and has left a checkpoint to go on from. No `except Exception` is to take it."""


def take(model: MultiTaskModel, updater: Updater, state: TrainState, average: WeightAverage, **more: Any) -> Snapshot:
    """The run as it stands; `more`: further entries of the state, of JSON types."""
    tensors = {MODEL + name: weight for name, weight in _weights(model, updater).items()}
    tensors |= {AVERAGE + name: weight for name, weight in average.tensors.items()}
    if updater.rows is not None:
        tensors[ROWS] = updater.rows.rows.detach()
    of_optimizer = updater.optimizer.state_dict()
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in of_optimizer["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER}{index}.{name}"] = value
            else:
                numbers.setdefault(str(index), {})[name] = value
    of_numpy: Any = np.random.get_state(legacy=False)
    tensors |= {RANDOM + "torch": torch.get_rng_state(), RANDOM + "numpy": _of_words(of_numpy["state"]["key"])}
    if (device := _device_of(updater)).type == "cuda":
        tensors[RANDOM + "cuda"] = torch.cuda.get_rng_state(device)
    entries = {
        "train": asdict(state),
        "optimizer": {"numbers": numbers, "param_groups": of_optimizer["param_groups"]},
        "scheduler": updater.scheduler.state_dict(),
        "scaler": updater.scaler.state_dict(),
        "average": average.state_dict(),
        "rows": None if updater.rows is None else {"decay": updater.rows.decay, "others": updater.rows.fingerprint},
        "random": {
            "python": random.getstate(),
            "numpy": {name: of_numpy[name] for name in ("has_gauss", "gauss")} | {"pos": of_numpy["state"]["pos"]},
        },
    }
    return Snapshot(tensors, entries | more)


def put_back(
    snapshot: Snapshot, model: MultiTaskModel, updater: Updater, state: TrainState, average: WeightAverage
) -> None:
    """Make a run that has not begun the one that the snapshot was taken of.

    Raises:
        InputError: it was taken of a run over other weights, or of another shape.
    """
    tensors, entries = snapshot.tensors, snapshot.state
    try:
        _put_back_rows(snapshot, updater)
        missing, unexpected = model.load_state_dict(_below(tensors, MODEL), strict=False)
        if {*missing} - {_name_of_rows(model, updater)} or unexpected:
            raise ValueError(f"weights: {', '.join([*missing, *unexpected])}")
        of_optimizer: dict[int, dict[str, Any]] = {
            int(index): dict(values) for index, values in entries["optimizer"]["numbers"].items()
        }
        for name, value in _below(tensors, OPTIMIZER).items():
            index, _, field = name.partition(".")
            of_optimizer.setdefault(int(index), {})[field] = value
        updater.optimizer.load_state_dict({"state": of_optimizer, "param_groups": entries["optimizer"]["param_groups"]})
        updater.scheduler.load_state_dict(dict(entries["scheduler"]))
        updater.scaler.load_state_dict(dict(entries["scaler"]))
        if "average" in entries:  # an older checkpoint has none
            average.load(entries["average"], _below(tensors, AVERAGE))
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"the checkpoint does not fit this run ({error}); its data or its model changed") from error
    for name, value in entries["train"].items():
        setattr(state, name, value)
    version, numbers, gauss = entries["random"]["python"]
    random.setstate((version, tuple(numbers), gauss))
    of_numpy = entries["random"]["numpy"]
    key = tensors[RANDOM + "numpy"].numpy().view(np.uint32)
    np.random.set_state({
        "bit_generator": "MT19937", "state": {"key": key, "pos": of_numpy["pos"]},
        "has_gauss": of_numpy["has_gauss"], "gauss": of_numpy["gauss"],
    })  # fmt: skip
    torch.set_rng_state(tensors[RANDOM + "torch"])
    if RANDOM + "cuda" in tensors and (device := _device_of(updater)).type == "cuda":
        torch.cuda.set_rng_state(tensors[RANDOM + "cuda"], device)


def _weights(model: MultiTaskModel, updater: Updater) -> dict[str, Tensor]:
    """All but the word embeddings of which only rows are trained: the others are those that the run began with."""
    weights: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if module is not updater.rows:
            module._save_to_state_dict(weights, f"{name}." if name else "", keep_vars=False)
    return weights


def _device_of(updater: Updater) -> torch.device:
    """On which dropout draws."""
    return updater.weights[0].device


def _name_of_rows(model: MultiTaskModel, updater: Updater) -> str | None:
    """Of the embedding, as a state dict has it."""
    found = (f"{name}.weight" for name, module in model.named_modules() if module is updater.rows)
    return None if updater.rows is None else next(found)


def _put_back_rows(snapshot: Snapshot, updater: Updater) -> None:
    rows, kept = updater.rows, snapshot.state["rows"]
    if (rows is None) != (kept is None):
        raise ValueError("the word embeddings that are trained are others")
    if rows is None:
        return
    if rows.fingerprint != kept["others"]:
        raise ValueError("the word embeddings that it began with are others")
    with torch.no_grad():
        rows.rows.copy_(snapshot.tensors[ROWS])
    rows.decay = kept["decay"]


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _of_words(words: np.ndarray) -> Tensor:
    """Unsigned 32-bit numbers as the bytes that they are; safetensors has no type for them."""
    return torch.from_numpy(words.view(np.uint8).copy())

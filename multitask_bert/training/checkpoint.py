"""What a checkpoint holds: `capture` collects the state of a run between two steps, `restore` puts it back.

A restored run continues bit for bit. Which examples come next follows from seed, epoch and step (data/streaming.py), so
that nothing of it is saved. The folders on disk are those of saving/store.py.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from multitask_bert.errors import InputError
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.saving.store import Checkpoint
from multitask_bert.train_state import TrainState
from multitask_bert.training.averaging import WeightAverage
from multitask_bert.training.optimization import Updater
from multitask_bert.utils.ranks import Ranks
from multitask_bert.utils.seeding import seed_rank

# Prefixes of the tensors' names
MODEL, AVERAGE, OPTIMIZER, ROWS, RANDOM = "model.", "average.", "optimizer.", "rows", "random."


def capture(
    model: MultiTaskModel,
    updater: Updater,
    state: TrainState,
    average: WeightAverage,
    others: Sequence[Mapping[str, Tensor]] = (),
    **more: Any,
) -> Checkpoint:
    """The state of a run as it is now.

    `others`: `rng_tensors` of the processes from rank 1 on. `more`: further entries of its `state`, of JSON types.
    """
    tensors = {MODEL + name: weight for name, weight in _weights(model, updater).items()}
    tensors |= {AVERAGE + name: weight for name, weight in average.tensors.items()}
    if updater.rows is not None:
        tensors[ROWS] = updater.rows.rows.detach()
    optimizer = updater.optimizer.state_dict()
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in optimizer["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER}{index}.{name}"] = value
            else:
                numbers.setdefault(str(index), {})[name] = value
    numpy_state: Any = np.random.get_state(legacy=False)
    tensors[RANDOM + "numpy"] = _as_bytes(numpy_state["state"]["key"])
    for rank, states in enumerate([rng_tensors(_device_of(updater)), *others]):
        tensors |= {_of_rank(name, rank): value for name, value in states.items()}
    entries = {
        "train": asdict(state),
        "optimizer": {"numbers": numbers, "param_groups": optimizer["param_groups"]},
        "scheduler": updater.scheduler.state_dict(),
        "scaler": updater.scaler.state_dict(),
        "average": average.state_dict(),
        "rows": None if updater.rows is None else {"decay": updater.rows.decay, "others": updater.rows.fingerprint},
        "random": {
            "python": random.getstate(),
            "numpy": {
                "pos": numpy_state["state"]["pos"],
                "has_gauss": numpy_state["has_gauss"],
                "gauss": numpy_state["gauss"],
            },
        },
    }
    return Checkpoint(tensors, entries | more)


def rng_tensors(device: torch.device) -> dict[str, Tensor]:
    """The states of the generators that dropout draws from, on the host and on the device."""
    states = {"torch": torch.get_rng_state()}
    return states if device.type == "cpu" else states | {"cuda": torch.cuda.get_rng_state(device)}


def share_checkpoint(ranks: Ranks, checkpoint: Checkpoint | None) -> Checkpoint | None:
    """The checkpoint that rank 0 has read; None if it has found none."""
    if ranks.size == 1:
        return checkpoint
    if checkpoint is None:
        described = None
    else:
        described = {name: (one.shape, one.dtype) for name, one in checkpoint.tensors.items()}, checkpoint.state
    described = ranks.of_first(described)
    if described is None:
        return None
    if checkpoint is None:
        empty = {name: torch.empty(shape, dtype=dtype) for name, (shape, dtype) in described[0].items()}
        checkpoint = Checkpoint(empty, described[1])
    ranks.copy_from_first(checkpoint.tensors.values())
    return checkpoint


def restore(
    checkpoint: Checkpoint,
    model: MultiTaskModel,
    updater: Updater,
    state: TrainState,
    average: WeightAverage,
    ranks: Ranks = Ranks(),  # noqa: B008 - it cannot be changed
) -> None:
    """Put the state of a checkpoint into a run that has not begun.

    A process that the checkpoint has no random state of, since there were fewer, draws anew from seed and step.

    Raises:
        InputError: the checkpoint is of other initial weights or of another model.
    """
    tensors, entries = checkpoint.tensors, checkpoint.state
    try:
        _restore_rows(checkpoint, updater)
        missing, unexpected = model.load_state_dict(_below(tensors, MODEL), strict=False)
        if {*missing} - {_name_of_rows(model, updater)} or unexpected:
            raise ValueError(f"weights: {', '.join([*missing, *unexpected])}")
        moments: dict[int, dict[str, Any]] = {
            int(index): dict(values) for index, values in entries["optimizer"]["numbers"].items()
        }
        for name, value in _below(tensors, OPTIMIZER).items():
            index, _, field = name.partition(".")
            moments.setdefault(int(index), {})[field] = value
        updater.optimizer.load_state_dict({"state": moments, "param_groups": entries["optimizer"]["param_groups"]})
        updater.scheduler.load_state_dict(dict(entries["scheduler"]))
        updater.scaler.load_state_dict(dict(entries["scaler"]))
        if "average" in entries:  # absent from older checkpoints
            average.load(entries["average"], _below(tensors, AVERAGE))
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"the checkpoint does not fit this run ({error}); its data or its model changed") from error
    for name, value in entries["train"].items():
        setattr(state, name, value)
    version, numbers, gauss = entries["random"]["python"]
    random.setstate((version, tuple(numbers), gauss))
    numpy_state = entries["random"]["numpy"]
    key = tensors[RANDOM + "numpy"].numpy().view(np.uint32)
    np.random.set_state({
        "bit_generator": "MT19937", "state": {"key": key, "pos": numpy_state["pos"]},
        "has_gauss": numpy_state["has_gauss"], "gauss": numpy_state["gauss"],
    })  # fmt: skip
    if _of_rank("torch", ranks.rank) not in tensors:
        seed_rank(entries["config"]["seed"], ranks.rank, state.step)
        return
    torch.set_rng_state(tensors[_of_rank("torch", ranks.rank)])
    cuda_state = tensors.get(_of_rank("cuda", ranks.rank))
    if cuda_state is not None and (device := _device_of(updater)).type == "cuda":
        torch.cuda.set_rng_state(cuda_state, device)


def _of_rank(name: str, rank: int) -> str:
    """The name of a process's random state among the tensors."""
    return RANDOM + (f"rank{rank}.{name}" if rank else name)


def _weights(model: MultiTaskModel, updater: Updater) -> dict[str, Tensor]:
    """All weights but the word embeddings where only some rows are trained: the others are the initial ones."""
    weights: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if module is not updater.rows:
            module._save_to_state_dict(weights, f"{name}." if name else "", keep_vars=False)
    return weights


def _device_of(updater: Updater) -> torch.device:
    """The device whose generator dropout draws from."""
    return updater.weights[0].device


def _name_of_rows(model: MultiTaskModel, updater: Updater) -> str | None:
    """The state dict's key of the embedding of which only rows are trained; None where all are."""
    found = (f"{name}.weight" for name, module in model.named_modules() if module is updater.rows)
    return None if updater.rows is None else next(found)


def _restore_rows(checkpoint: Checkpoint, updater: Updater) -> None:
    rows, kept = updater.rows, checkpoint.state["rows"]
    if (rows is None) != (kept is None):
        raise ValueError("other word embeddings are trained")
    if rows is None:
        return
    if rows.fingerprint != kept["others"]:
        raise ValueError("the initial word embeddings differ")
    with torch.no_grad():
        rows.rows.copy_(checkpoint.tensors[ROWS])
    rows.decay = kept["decay"]


def _below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _as_bytes(words: np.ndarray) -> Tensor:
    """Unsigned 32-bit numbers as bytes, since safetensors has no type for them."""
    return torch.from_numpy(words.view(np.uint8).copy())

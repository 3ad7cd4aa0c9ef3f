"""`provenance.json`: what a run was made from and what came out, to compare it with another run.

Initial weights, tokenizer and data are identified by hashes of their content, wherever they came from.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from multitask_bert.config.tree import flatten
from multitask_bert.data.caching import fingerprint_of
from multitask_bert.data.splits import as_split
from multitask_bert.data.storage import as_line
from multitask_bert.errors import InputError
from multitask_bert.utils.addresses import without_password
from multitask_bert.utils.files import finite, read_json, write_bytes, write_json
from multitask_bert.utils.versions import checkout

if TYPE_CHECKING:
    from torch import nn
    from torch.utils.data import Dataset

    from multitask_bert.records import EncodedExample
    from multitask_bert.training.trainer import Trainer

PROVENANCE, CHANGES = "provenance.json", "changes.diff"
PACKAGES = (
    "torch", "transformers", "tokenizers", "numpy", "safetensors", "evaluate", "datasets", "hydra-core", "omegaconf",
)  # fmt: skip
INPUTS = ("weights", "tokenizer", "data")  # must be the same, or there is no point in training again
CIRCUMSTANCES = ("code", "packages", "python", "hardware", "threads", "precision", "processes")


def describe(trainer: Trainer) -> dict[str, Any]:
    """Everything that goes into a run, described before it trains."""
    return {
        "command": [Path(sys.argv[0]).name, *map(without_password, sys.argv[1:])],
        "seed": trainer.config.seed,
        "code": checkout(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "python": platform.python_version(),
        "hardware": _hardware(trainer.device),
        "threads": torch.get_num_threads(),
        "precision": trainer.config.trainer.precision,
        **({"processes": trainer.ranks.size} if trainer.ranks.size > 1 else {}),
        "weights": hash_of_weights(trainer.model.encoder),
        "tokenizer": fingerprint_of(trainer.tokenizer),
        "data": {
            task: {split: hash_of_data(of_split[task]) for split, of_split in _splits(trainer) if task in of_split}
            for task in sorted({task for _, of_split in _splits(trainer) for task in of_split})
        },
    }


def write_start(folder: Path, described: Mapping[str, Any]) -> None:
    """Write `provenance.json`, and beside it the uncommitted changes of the code."""
    changes = described["code"].get("changes")
    if changes:
        write_bytes(folder / CHANGES, changes.encode())
    code = {**described["code"], "changes": CHANGES if changes else None}
    write_json(folder / PROVENANCE, {**described, "code": code})


def write_end(folder: Path, model: nn.Module, metrics: Mapping[str, Any]) -> None:
    """Add the hashes of the final weights and scores to `provenance.json`."""
    path = folder / PROVENANCE
    described = read_json(path)
    described["final"] = {"weights": hash_of_weights(model), "metrics": hash_of_metrics(metrics)}
    write_json(path, described)


def read(folder: Path) -> dict[str, Any]:
    """A run's `provenance.json`.

    Raises:
        OSError, ValueError: the file is missing or damaged.
    """
    described: dict[str, Any] = read_json(folder / PROVENANCE)
    return described


def differences(before: Mapping[str, Any], now: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """A line for each entry that differs, as in `packages.torch: 2.12.0, now 2.13.0`."""
    then_flat, now_flat = (
        dict(flatten({name: described[name] for name in names if name in described})) for described in (before, now)
    )
    return [
        f"{key}: {_short(then_flat.get(key))}, now {_short(now_flat.get(key))}"
        for key in sorted({*then_flat, *now_flat})
        if then_flat.get(key) != now_flat.get(key)
    ]


def refuse_other_inputs(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that the inputs of a run to reproduce are unchanged.

    Raises:
        InputError: weights, tokenizer or data are not those of the earlier run.
    """
    changed = differences(before, now, INPUTS)
    if changed:
        raise InputError(
            "action=reproduce: the inputs of this run have changed since, so it cannot be reproduced:\n  "
            + "\n  ".join(changed)
            + "\nrestore them, or train with them as they are: python run.py --config-dir RUN --config-name reproduce"
        )


def hash_of_weights(model: nn.Module) -> str:
    """sha256 of the names and values of all weights and buffers in the state dict."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def hash_of_metrics(metrics: Mapping[str, Any]) -> str:
    """sha256 of all scores, as in `results.json`."""
    return hashlib.sha256(json.dumps(finite(metrics), sort_keys=True).encode()).hexdigest()


def hash_of_data(dataset: Dataset[EncodedExample]) -> str:
    """sha256 of the texts and labels of all examples, in order, independent of their encoding."""
    digest = hashlib.sha256()
    for example in as_split(dataset).examples():
        digest.update(as_line(replace(example, where="")))  # without the path of their file
    return digest.hexdigest()


def _splits(trainer: Trainer) -> Iterator[tuple[str, Mapping[str, Dataset[EncodedExample]]]]:
    yield "train", trainer.train_datasets
    yield "dev", trainer.eval_datasets
    yield "test", trainer.test_datasets


def _hardware(device: torch.device) -> dict[str, Any]:
    found: dict[str, Any] = {
        "machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(), "device": device.type,
    }  # fmt: skip
    if device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 16 else f"{text[:12]}…"

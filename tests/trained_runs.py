"""A run trained in this process, for tests of what is done with its folder afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import to_dict

OF_TIME = {"time", "train_tokens_per_second", "train_seconds", "total_seconds"}


def trained(config: ExperimentConfig, folder: Path) -> dict[str, Any]:
    """`results.json` of a run whose folder looks as Hydra leaves it."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(to_dict(config)), folder / ".hydra" / "config.yaml")
    best = actions.train(config, folder)
    results: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert best == results["best"]["value"]
    return results


def logged(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def without_times(values: dict[str, Any]) -> dict[str, Any]:
    """What two runs that are the same have in common, of a line of `metrics.jsonl` or of `results.json`."""
    return {name: value for name, value in values.items() if name not in OF_TIME}


def logged_without_times(folder: Path) -> list[dict[str, Any]]:
    return [without_times(line) for line in logged(folder)]


def trained_alike(make_config: Callable[..., ExperimentConfig], folder: Path, **options: Any) -> dict[str, Any]:
    """`results.json` of a run in `folder / "with"`, whose losses and scores are those of one without these options."""
    without = trained(make_config(num_epochs=2, dropout=0.1), folder / "without")
    results = trained(make_config(num_epochs=2, dropout=0.1, **options), folder / "with")
    assert results["metrics"] == without["metrics"]
    lines = {name: logged(folder / name) for name in ("with", "without")}
    losses = {name: [line["train_loss"] for line in found if "train_loss" in line] for name, found in lines.items()}
    assert losses["with"] == losses["without"]
    return results

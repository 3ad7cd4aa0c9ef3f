"""A run trained in this process, for tests of what is done with its folder afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import to_dict


def trained(config: ExperimentConfig, folder: Path) -> dict[str, Any]:
    """`results.json` of a run whose folder looks as Hydra leaves it."""
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(to_dict(config)), folder / ".hydra" / "config.yaml")
    best = actions.train(config, folder)
    results: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert best == results["best"]["value"]
    return results

"""The parts of a model that can have learning rates of their own: embeddings, each layer, the encoder's top, each head.

Parts are recognized by the names of parameters, which encoder families share: `embeddings…`, and a number after `layer`
or `layers`. What is neither (a pooler, a last norm) belongs to the top of the encoder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from multitask_bert.config.schema import OptimizerConfig

BACKBONE, HEADS = "encoder.backbone.", "head_modules."
LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")


@dataclass(frozen=True)
class Part:
    """`layer`: -1 for the embeddings, from 0 for the layers, their number for the top; None: a head."""

    name: str  # embeddings | layer_N | top | task.head
    layer: int | None


EMBEDDINGS = Part("embeddings", -1)


def parts_of(model: nn.Module) -> dict[str, Part]:
    """The part that each parameter belongs to, by the parameter's name."""
    names = [name for name, _ in model.named_parameters()]
    num_layers = 1 + max((_layer_of(name) for name in names), default=-1)
    return {name: _part_of(name, num_layers) for name in names}


def freeze(model: nn.Module, config: OptimizerConfig, *, epoch: int | None = None) -> None:
    """Make trainable only the weights that the config lets learn; `epoch`: in this one (from 0); None: in any.

    `config.unfreezing` goes from the top of the encoder down, an entry per epoch (gradual unfreezing: Howard and Ruder
    2018, "Universal Language Model Fine-tuning for Text Classification", section 3.3).
    """
    parts = parts_of(model)
    num_layers = _num_layers(parts.values())
    lowest = config.frozen_layers
    is_planned = epoch is not None and epoch < len(config.unfreezing)
    if is_planned:
        lowest = max(lowest, num_layers - config.unfreezing[epoch])  # type: ignore[index]
    for name, weight in model.named_parameters():
        layer = parts[name].layer
        if layer is None:
            continue
        if layer == -1:
            weight.requires_grad_(not (config.frozen_embeddings or is_planned))
        else:
            weight.requires_grad_(layer >= lowest)


def rate_factors(model: Any, config: OptimizerConfig) -> dict[Part, float]:
    """The factor of `optimizer.lr` for each part of the model.

    The top layer and the top learn at `optimizer.lr`, each layer below at `layer_decay` times the rate of the one above
    it, the embeddings below the lowest (Clark et al. 2020, "ELECTRA", appendix A); heads at their own multiple.
    """
    parts = list(dict.fromkeys(parts_of(model).values()))
    num_layers = _num_layers(parts)
    own = {
        f"{task}.{name}": head.config.lr_factor
        for task, by_name in getattr(model, "heads", {}).items()
        for name, head in by_name.items()
    }

    def factor(part: Part) -> float:
        if part.layer is None:
            of_head = own.get(part.name)
            return config.head_lr_factor if of_head is None else float(of_head)
        return float(config.layer_decay ** max(0, num_layers - 1 - part.layer))

    return {part: factor(part) for part in parts}


def weight_decay_of(part: Part, config: OptimizerConfig) -> float:
    """The weight decay of a part's matrices."""
    own: float | None = None
    if part.layer is None:
        own = config.head_weight_decay
    elif part.layer == -1:
        own = config.embedding_weight_decay
    return config.weight_decay if own is None else own


def _num_layers(parts: Iterable[Part]) -> int:
    return len({part.layer for part in parts if part.name == f"layer_{part.layer}"})  # a head may be called layer_x.y


def _layer_of(name: str) -> int:
    found = LAYER.search(name.removeprefix(BACKBONE)) if name.startswith(BACKBONE) else None
    return int(found[1]) if found else -1


def _part_of(name: str, num_layers: int) -> Part:
    if name.startswith(HEADS):
        return Part(".".join(name.removeprefix(HEADS).split(".")[:2]), None)
    inside = name.removeprefix(BACKBONE)
    if inside.startswith("embeddings"):
        return EMBEDDINGS
    layer = _layer_of(name)
    return Part("top", num_layers) if layer == -1 else Part(f"layer_{layer}", layer)

"""Step 7 of the flow: the losses of several heads become one scalar. One class per rule (`balancing._target_`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from multitask_bert.model.multitask import MultiTaskModel

Key = tuple[str, str]  # (task, head)


def head_weights(model: MultiTaskModel) -> dict[Key, float]:
    """The weight of each head's loss, as the config says."""
    return {(task, name): head.config.weight for task, heads in model.heads.items() for name, head in heads.items()}


class Balancer(ABC):
    """Combines the heads' losses into the one that is minimised; `weights`: of the heads, from the config."""

    def __init__(self, weights: Mapping[Key, float]) -> None:
        self.weights = weights

    def state_dict(self) -> dict[str, Any]:
        """What the rule has learned, of JSON types, for the checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most rules have no state
        """Continue from what `state_dict` gave."""

    @abstractmethod
    def combine(self, losses: Mapping[Key, Tensor]) -> Tensor:
        """One scalar out of the heads' mean losses (scalars; with micro-batches, their shares of the mean)."""


class FixedWeights(Balancer):
    """The weighted sum, with the weights of the config."""

    def combine(self, losses: Mapping[Key, Tensor]) -> Tensor:
        return sum(
            (self.weights[key] * loss for key, loss in losses.items()), start=next(iter(losses.values())).new_zeros(())
        )

"""Step 7 of the flow: the losses of several heads become one scalar. One class per rule (`balancing._target_`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

Key = tuple[str, str]  # (task, head)


class Balancer(ABC):
    """`weights`: by (task, head), from the config."""

    def __init__(self, weights: Mapping[Key, float]) -> None:
        self.weights = weights

    def state_dict(self) -> dict[str, Any]:
        """What it has learnt, of JSON types, for `load_state_dict` of the run that goes on."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most rules learn nothing
        """Go on from there."""

    @abstractmethod
    def combine(self, losses: Mapping[Key, Tensor]) -> Tensor:
        """One scalar out of the heads' mean losses (scalars; with micro-batches, their shares of the mean)."""


class FixedWeights(Balancer):
    """The weighted sum, with the weights of the config."""

    def combine(self, losses: Mapping[Key, Tensor]) -> Tensor:
        return sum(
            (self.weights[key] * loss for key, loss in losses.items()), start=next(iter(losses.values())).new_zeros(())
        )

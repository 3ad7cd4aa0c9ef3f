"""Step 7 of the flow: the losses of several heads become one scalar. One class per rule (`balancing._target_`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from multitask_bert.config.schema import BalancingConfig, ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.trust.classes import named_class

Key = tuple[str, str]  # (task, head)


def head_weights(model: MultiTaskModel) -> dict[Key, float]:
    """The weight of each head's loss, as the config says."""
    return {(task, name): head.config.weight for task, heads in model.heads.items() for name, head in heads.items()}


def config_weights(config: ExperimentConfig) -> dict[Key, float]:
    """The weights that `head_weights` gives once there is a model."""
    return {(task, name): head.weight for task, of in config.tasks.items() for name, head in of.heads.items()}


class Balancer(ABC):
    """Combines the heads' losses into the one that is minimised.

    `weights`: of the heads, from the config; a rule's own settings (`balancing.options`) follow as keywords.
    """

    def __init__(self, weights: Mapping[Key, float]) -> None:
        self.weights = weights

    def state_dict(self) -> dict[str, Any]:
        """What the rule has learned, of JSON types, for the checkpoint."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - most rules have no state
        """Continue from what `state_dict` gave."""

    def after_step(self, losses: Mapping[Key, Tensor]) -> None:  # noqa: B027 - most rules have no state
        """Called after each update with the heads' mean losses over the whole step; not after a step that is skipped.

        The place to learn from losses: `combine` may be called several times per step, and for steps that fail.
        """

    @abstractmethod
    def combine(self, losses: Mapping[Key, Tensor]) -> Tensor:
        """One scalar out of the heads' mean losses (scalars; with micro-batches, their shares of the mean)."""


def make_balancer(config: BalancingConfig, weights: Mapping[Key, float]) -> Balancer:
    """The rule that the config names, with its options.

    Raises:
        InputError: it is no balancer, or does not take these options.
    """
    rule = named_class("balancing._target_", config._target_, Balancer)
    try:
        made: Balancer = rule(weights, **config.options)
    except TypeError as error:
        raise InputError(f"balancing.options={config.options}: {error}") from error
    return made


class FixedWeights(Balancer):
    """The weighted sum, with the weights of the config."""

    def combine(self, losses: Mapping[Key, Tensor]) -> Tensor:
        return sum(
            (self.weights[key] * loss for key, loss in losses.items()), start=next(iter(losses.values())).new_zeros(())
        )

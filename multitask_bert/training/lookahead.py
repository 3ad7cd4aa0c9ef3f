"""Lookahead affinities between tasks, measured while a run trains without changing it.

The affinity of task i onto task j is 1 - L_j(after) / L_j(before), where a step on the gradient of L_i alone, at the
learning rate of the next update, has moved the shared weights in between: Fifty et al. 2021, "Efficiently Identifying
Task Groupings for Multi-Task Learning" (2109.04617), section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from multitask_bert.config.schema import OptimizerConfig
from multitask_bert.model.multitask import MultiTaskModel, evaluating
from multitask_bert.training.optimization import make_fresh_optimizer
from multitask_bert.training.steps import RngState
from multitask_bert.training.task_losses import TaskLosses, shared_weights

PREFIX = "train_lookahead_"  # of a key in the logs, before `a.b`: the affinity of task a onto task b


class LookaheadAffinities(TaskLosses):
    """Measures the affinity of each of a run's tasks onto each other one, in fp32 and without dropout.

    The step is that of the run's optimizer without its memory of earlier gradients, which are those of all tasks and
    would hide whose step it is; nor is there weight decay or clipping. With SGD that is the step of the paper's
    definition. With Adam, whose rates are made for gradients divided by their size, a step of the plain gradient would
    be lost in rounding. The random state, the weights, their gradients and the run's optimizer stay as they are.
    """

    def __init__(self, *args: Any, optimizer: OptimizerConfig, **options: Any) -> None:
        super().__init__(*args, **options)
        self.optimizer = optimizer

    def measure(self, step: int, rates: Mapping[Tensor, float]) -> dict[str, float]:
        """The affinities of the weights as they are after `step`, by their keys in the logs.

        `rates`: the learning rate of each weight. A task without a loss or a gradient on the shared weights (no known
        label in its batch, frozen layers) has none, and there is none at a rate of 0.
        """
        weights: list[Tensor] = [weight for weight in shared_weights(self.model) if rates[weight] > 0]
        if not weights:
            return {}
        found = {}
        with evaluating(self.model), in_full_precision(self.model):
            batches = {task: self.batch(task, step) for task in sorted(self.datasets)}
            with torch.no_grad():  # as after the step: other kernels, with a gradient, would round differently
                before = {task: float(self.loss(batch)) for task, batch in batches.items()}
            tasks = [task for task in batches if before[task] > 0]
            for source in tasks:
                gradient = torch.autograd.grad(self.loss(batches[source]), weights, allow_unused=True)
                if all(part is None for part in gradient):
                    continue
                optimizer = make_fresh_optimizer({weight: rates[weight] for weight in weights}, self.optimizer)
                with torch.no_grad(), stepped(weights, gradient, optimizer):
                    for target in tasks:
                        if target != source:
                            after = float(self.loss(batches[target]))
                            found[f"{PREFIX}{source}.{target}"] = 1.0 - after / before[target]
        return found


@contextmanager
def stepped(
    weights: Sequence[Tensor], gradient: Sequence[Tensor | None], optimizer: torch.optim.Optimizer
) -> Iterator[None]:
    """Move weights by one step of an optimizer; on exit, also after an error, restore them to the bit, and the random
    state, from which an optimizer may draw.
    """
    rng_state = RngState(weights[0].device)
    saved = [(weight.detach().clone(), weight.grad) for weight in weights]
    try:
        for weight, part in zip(weights, gradient, strict=True):
            weight.grad = part
        optimizer.step()
        yield
    finally:
        for weight, (value, grad) in zip(weights, saved, strict=True):
            weight.copy_(value)
            weight.grad = grad
        rng_state.restore()


@contextmanager
def in_full_precision(model: MultiTaskModel) -> Iterator[None]:
    """Compute in fp32 whatever the run's precision, which small steps would be lost in; restore it on exit."""
    autocast, of_products = model.autocast, torch.get_float32_matmul_precision()
    model.autocast = None
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        model.autocast = autocast
        torch.set_float32_matmul_precision(of_products)

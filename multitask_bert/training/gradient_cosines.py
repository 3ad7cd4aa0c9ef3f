"""Cosines between the gradients of tasks on the shared encoder, measured while a run trains without changing it.

The cosine says whether a small step for one task lowers the loss of another (positive) or raises it (negative): Yu et
al. 2020, "Gradient Surgery for Multi-Task Learning" (2001.06782), section 2.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from multitask_bert.model.multitask import evaluating
from multitask_bert.training.task_losses import TaskLosses, shared_weights

PREFIX = "train_cosine_"  # of a key in the logs, before `a.b`: the names of two tasks
LOSS_SCALE = 1024.0  # a power of two: changes no cosine, and keeps small gradients of fp16 from becoming 0


class GradientCosines(TaskLosses):
    """Measures the cosines of every two of a run's tasks, without dropout.

    The random state, the weights and their gradients stay as they are.
    """

    def measure(self, step: int) -> dict[str, float]:
        """The cosines of the weights as they are after `step`, by their keys in the logs.

        A task without a gradient (no known label in its batch) has none.
        """
        gradients = {task: self._gradient(task, step) for task in sorted(self.datasets)}
        squares = {task: _dot(gradient, gradient) for task, gradient in gradients.items()}
        found = {}
        for a, b in itertools.combinations(gradients, 2):
            if squares[a] > 0 and squares[b] > 0:
                found[f"{PREFIX}{a}.{b}"] = _dot(gradients[a], gradients[b]) / (squares[a] * squares[b]) ** 0.5
        return found

    def _gradient(self, task: str, step: int) -> list[Tensor | None]:
        """The gradient of one task's loss, by parameter of the encoder; None for a parameter that it does not reach."""
        weights = shared_weights(self.model)
        if not weights:  # all frozen in this epoch
            return []
        with evaluating(self.model):
            loss = LOSS_SCALE * self.loss(self.batch(task, step))
            return list(torch.autograd.grad(loss, weights, allow_unused=True))


def _dot(a: list[Tensor | None], b: list[Tensor | None]) -> float:
    """The dot product, summed per tensor, then in double precision: fp32 loses digits over millions of terms."""
    dots = [(one * other).sum() for one, other in zip(a, b, strict=True) if one is not None and other is not None]
    return float(torch.stack(dots).cpu().double().sum()) if dots else 0.0

"""Cosines between the gradients of tasks on the shared encoder, measured while a run trains without changing it.

The cosine says whether a small step for one task lowers the loss of another (positive) or raises it (negative): Yu et
al. 2020, "Gradient Surgery for Multi-Task Learning" (2001.06782), section 2.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from multitask_bert.data.loading import Loader
from multitask_bert.data.splits import as_split
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import EncodedExample
from multitask_bert.training.evaluation import evaluating

PREFIX = "train_cosine_"  # of a key in the logs, before `a.b`: the names of two tasks
LOSS_SCALE = 1024.0  # a power of two: changes no cosine, and keeps small gradients of fp16 from becoming 0


class GradientCosines:
    """Measures the cosines of every two of a run's tasks.

    Each measurement draws a batch of `batch_size` examples of each task, by seed and step only, and takes the gradient
    of the task's weighted loss without dropout. The random state, the weights and their gradients stay as they are.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        datasets: Mapping[str, Dataset[EncodedExample]],
        *,
        weights: Mapping[tuple[str, str], float],
        batch_size: int,
        pad_id: int,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.datasets, self.weights = model, datasets, weights
        self.batch_size, self.seed, self.device = batch_size, seed, device
        self._loader = Loader(datasets, pad_id=pad_id)

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
        size = len(as_split(self.datasets[task]))
        generator = np.random.default_rng([self.seed, step, *task.encode()])
        indices = generator.choice(size, min(self.batch_size, size), replace=False)
        (batch,) = self._loader.make({task: indices.tolist()})
        with evaluating(self.model):
            outputs = self.model(batch.to(self.device))
            losses = [self.weights[key] * out.loss_sum / max(1, out.count) for key, out in outputs.items()]
            return list(torch.autograd.grad(LOSS_SCALE * sum(losses), self._shared(), allow_unused=True))

    def _shared(self) -> list[nn.Parameter]:
        """The encoder's trained parameters but its word embeddings, of which two batches share few."""
        backbone: nn.Module = self.model.encoder.backbone
        words = {id(weight) for weight in backbone.get_input_embeddings().parameters()}  # type: ignore[operator]
        return [
            weight for weight in self.model.encoder.parameters() if weight.requires_grad and id(weight) not in words
        ]


def _dot(a: list[Tensor | None], b: list[Tensor | None]) -> float:
    """The dot product, summed per tensor, then in double precision: fp32 loses digits over millions of terms."""
    dots = [(one * other).sum() for one, other in zip(a, b, strict=True) if one is not None and other is not None]
    return float(torch.stack(dots).cpu().double().sum()) if dots else 0.0

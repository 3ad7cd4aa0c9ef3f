"""Losses of single tasks, for measurements on the weights of a run between two of its steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from multitask_bert.data.loading import Loader
from multitask_bert.data.splits import as_split
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import Batch, EncodedExample


class TaskLosses:
    """Draws a batch of `batch_size` examples of a task, by seed and step only, and computes the task's weighted loss.

    The random state of the run stays as it is.
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

    def batch(self, task: str, step: int) -> Batch:
        """The batch of a task that belongs to a step, on the device."""
        size = len(as_split(self.datasets[task]))
        generator = np.random.default_rng([self.seed, step, *task.encode()])
        indices = generator.choice(size, min(self.batch_size, size), replace=False)
        (batch,) = self._loader.make({task: indices.tolist()})
        return batch.to(self.device)

    def loss(self, batch: Batch) -> Tensor:
        """The sum of the heads' mean losses, weighted as the config says; 0 without a known label."""
        outputs = self.model(batch)
        losses = [self.weights[key] * out.loss_sum / max(1, out.count) for key, out in outputs.items()]
        total: Tensor = sum(losses[1:], start=losses[0])
        return total


def shared_weights(model: MultiTaskModel) -> list[nn.Parameter]:
    """The encoder's trained parameters but its word embeddings, of which two batches share few."""
    backbone: nn.Module = model.encoder.backbone
    words = {id(weight) for weight in backbone.get_input_embeddings().parameters()}  # type: ignore[operator]
    return [weight for weight in model.encoder.parameters() if weight.requires_grad and id(weight) not in words]

"""Which affinities between tasks a run measures, and when: `trainer.cosines_every` and `trainer.lookahead_every`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from multitask_bert.errors import InputError
from multitask_bert.training.gradient_cosines import GradientCosines
from multitask_bert.training.lookahead import LookaheadAffinities
from multitask_bert.training.optimization import Updater
from multitask_bert.training.task_losses import shared_weights

if TYPE_CHECKING:
    from multitask_bert.training.trainer import Trainer


class Affinities:
    """Measures affinities between the steps of a trainer's run; none in a run of one task.

    Raises:
        InputError: no weight but those of the word embeddings is trained, so there is nothing to compare tasks by.
    """

    def __init__(self, trainer: Trainer, updater: Updater) -> None:
        self.updater = updater
        config, several = trainer.config.trainer, len(trainer.train_datasets) > 1
        self.cosines_every = config.cosines_every if several else None
        self.lookahead_every = config.lookahead_every if several else None
        self._refuse_frozen(trainer)
        options: dict[str, Any] = {
            "weights": trainer.weights, "batch_size": trainer.config.batching.batch_size, "pad_id": trainer.pad_id,
            "seed": trainer.config.seed, "device": trainer.device,
        }  # fmt: skip
        model, datasets = trainer.model, trainer.train_datasets
        self.cosines = GradientCosines(model, datasets, **options)
        self.lookahead = LookaheadAffinities(model, datasets, optimizer=trainer.config.optimizer, **options)

    def measure_if_due(self, step: int) -> dict[str, float]:
        """What is due after `step`, by its keys in the logs."""
        found: dict[str, float] = {}
        if self.cosines_every is not None and step % self.cosines_every == 0:
            found |= self.cosines.measure(step)
        if self.lookahead_every is not None and step % self.lookahead_every == 0:
            found |= self.lookahead.measure(step, self.updater.rates_by_weight)
        return found

    def _refuse_frozen(self, trainer: Trainer) -> None:
        for name in ("cosines_every", "lookahead_every"):
            if (every := getattr(self, name)) is not None and not shared_weights(trainer.model):
                raise InputError(
                    f"trainer.{name}={every}: tasks are compared by the weights that they share, and the encoder's are "
                    f"frozen; set trainer.{name}=null, or optimizer.frozen_layers below "
                    f"{trainer.config.optimizer.frozen_layers}"
                )

"""`calibrate: true`: probabilities at a temperature fitted on dev (Guo et al. 2017); the decisions stay the same."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from multitask_bert.heads import options
from multitask_bert.heads.base import Head
from multitask_bert.records import Prediction

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

TEMPERATURE = "temperature_1"


class SoftmaxHead(Head):
    """A head that predicts the most probable of several labels or choices.

    The temperature is a buffer of the head's module, so it is kept, saved and restored with the weights that it was
    fitted for.
    """

    _module: nn.Module | None = None  # the last that was built, which holds the temperature

    def build(self, hidden_size: int, dropout_rate: float) -> nn.Module:
        import torch

        self._module = super().build(hidden_size, dropout_rate)
        if self.config.calibrate:
            self._module.register_buffer(TEMPERATURE, torch.ones(1))
        return self._module

    def share(self, other: Head) -> None:
        assert isinstance(other, SoftmaxHead)
        self._module = other._module

    @property
    def temperature(self) -> float:
        """By which logits are divided before the softmax; 1 unless the head calibrates."""
        if not self.config.calibrate or self._module is None:
            return 1.0
        return float(self._module.get_buffer(TEMPERATURE))

    def tune(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> list[Prediction]:
        """Fit the temperature; values stay, and scores become those at the new temperature."""
        if not self.config.calibrate:
            return list(predictions)
        from multitask_bert.utils.calibration import fit_temperature, with_temperature

        assert self._module is not None, "build() makes the module that keeps the temperature"
        indices = [self.index_of(gold) for gold in golds]
        known = [
            (one.uncalibrated, index)
            for index, one in zip(indices, predictions, strict=True)
            if index is not None and one.uncalibrated
        ]
        self._module.get_buffer(TEMPERATURE).fill_(
            fit_temperature([scores for scores, _ in known], [index for _, index in known])
        )
        temperature = self.temperature
        return [
            replace(one, scores=with_temperature(one.uncalibrated, temperature)) if one.uncalibrated else one
            for one in predictions
        ]

    @abstractmethod
    def index_of(self, gold: Any) -> int | None:
        """The index of a gold label among the scores; None: it is missing, or not one of the head's."""

    def decide(self, logits_L: np.ndarray) -> tuple[int, tuple[float, ...], tuple[float, ...]]:
        """The index of the most probable label, and a `Prediction`'s `scores` and `uncalibrated`."""
        scores_L = options.softmax(logits_L)
        best, scores = int(scores_L.argmax()), tuple(scores_L.tolist())
        if not self.config.calibrate:
            return best, scores, ()
        from multitask_bert.utils.calibration import with_temperature

        return best, with_temperature(scores, self.temperature), scores

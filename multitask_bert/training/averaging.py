"""Averages of the weights over training, which are evaluated beside the plain weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from multitask_bert.config.schema import AveragingConfig
from multitask_bert.model.parts import HEADS

FEWEST = 2  # sets of weights; the average of fewer is the plain weights


class WeightAverage:
    """A running average of a model's trainable weights, as `config.kind` says; `none` never has one.

    Word embeddings that no batch holds are not averaged: they stay those of the plain weights.
    """

    def __init__(self, model: nn.Module, config: AveragingConfig, *, num_steps: int) -> None:
        self._model, self._kind = model, config.kind
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        is_ema = config.kind == "ema"
        self._average: Any = get_ema_multi_avg_fn(config.decay) if is_ema else get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
        self._first_step = config.start * num_steps
        self._sums: dict[str, Tensor] = {}
        self._num_averaged = self._last_step = 0

    @property
    def is_ready(self) -> bool:
        """Whether there is an average that differs from the plain weights."""
        return self._num_averaged >= FEWEST

    def after_step(self, step: int) -> None:
        """Update an EMA."""
        if self._kind == "ema":
            self._add(step)

    def at_evaluation(self, step: int) -> None:
        """Update an average of kind `last`, which is over evaluations."""
        if self._kind == "last":
            self._add(step)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the average into the model; on exit, restore the plain weights, and what heads have tuned with them."""
        tuned = {name: buffer.clone() for name, buffer in self._model.named_buffers() if name.startswith(HEADS)}
        plain = {name: weight.detach().clone() for name, weight in self._weights.items()}
        self._copy(self._sums)
        try:
            yield
        finally:
            self._copy(plain)
            for name, buffer in self._model.named_buffers():
                if name in tuned:
                    buffer.copy_(tuned[name])

    def state_dict(self) -> dict[str, int]:
        """What a checkpoint holds of the average beside `tensors`."""
        return {"num_averaged": self._num_averaged, "last_step": self._last_step}

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The average, by the names of the weights; empty before its first step."""
        return self._sums

    def load(self, state: Mapping[str, int], tensors: Mapping[str, Tensor]) -> None:
        """Continue from what `state_dict` and `tensors` gave."""
        self._num_averaged, self._last_step = state["num_averaged"], state["last_step"]
        self._sums = (
            {name: tensors[name].to(weight.device) for name, weight in self._weights.items()} if tensors else {}
        )

    @torch.no_grad()
    def _add(self, step: int) -> None:
        if step <= self._first_step or step <= self._last_step:  # a repeated evaluation adds nothing
            return
        self._last_step = step
        weights = [weight.detach() for weight in self._weights.values()]
        if not self._sums:
            self._sums = {name: weight.clone() for name, weight in zip(self._weights, weights, strict=True)}
        else:
            self._average(list(self._sums.values()), weights, self._num_averaged)
        self._num_averaged += 1

    @torch.no_grad()
    def _copy(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(weights[name])

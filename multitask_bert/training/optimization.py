"""Step 8 of the flow: gradients become an update."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from multitask_bert.config.schema import OptimizerConfig, SchedulerConfig
from multitask_bert.errors import InputError
from multitask_bert.model.devices import AsyncScalar, is_out_of_memory
from multitask_bert.model.embeddings import UsedRows
from multitask_bert.model.parts import parts_of, rate_factors, weight_decay_of
from multitask_bert.trust.classes import named_class
from multitask_bert.utils.schedules import learning_rate_factor


class Updater:
    """Optimizer, scheduler, gradient scaler and clipping, which together turn gradients into an update.

    `rows`: the word embeddings that are trained, if only some are (see model/embeddings.py).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: OptimizerConfig,
        scheduler: SchedulerConfig,
        *,
        num_steps: int,
        max_grad_norm: float | None,
        rows: UsedRows | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = make_optimizer(model, optimizer)
        self.scheduler = make_scheduler(self.optimizer, scheduler, num_steps=num_steps)
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        self.max_grad_norm, self.rows, self._lr = max_grad_norm, rows, optimizer.lr
        self._shown = shown_rates(model, optimizer)

    @property
    def rate(self) -> float:
        """The encoder's learning rate in the next update: `optimizer.lr` times the schedule's factor."""
        schedule = self.scheduler.lr_lambdas[0]
        return self._lr * float(schedule(self.scheduler.last_epoch))

    @property
    def rates_by_part(self) -> dict[str, float]:
        """The learning rates in the next update, of the embeddings and heads whose rate is not always the encoder's."""
        return {shown.part: self.rate * shown.factor if shown.is_trained() else 0.0 for shown in self._shown}

    @property
    def rates_by_weight(self) -> dict[Tensor, float]:
        """The learning rate in the next update of each weight that is trained at any time."""
        return {weight: group["lr"] for group in self.optimizer.param_groups for weight in group["params"]}

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those of the step; in fp16, scaled up, so that they do not vanish."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def clip(self) -> bool:
        """Clip the gradient to `max_grad_norm` (None: leave it); False if it is infinite or not a number.

        Waits for the device.

        Always True with a scaler, which checks for itself and skips the update.
        """
        self.scaler.unscale_(self.optimizer)
        limit = math.inf if self.max_grad_norm is None else self.max_grad_norm
        norm = nn.utils.clip_grad_norm_(self.weights, limit)
        return self.scaler.is_enabled() or math.isfinite(AsyncScalar(norm).get())

    def is_stuck(self) -> bool:
        """Whether the scaler has skipped so many updates that it no longer scales up."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < 1.0

    def step(self) -> None:
        """Update the weights, clear the gradients, and advance the schedule.

        Raises:
            InputError: the optimizer's state does not fit into the device's memory.
        """
        scale = self.scaler.get_scale()
        try:
            self.scaler.step(self.optimizer)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"out of memory: {type(self.optimizer).__name__} keeps numbers of its own for each weight, and they do "
                f"not fit beside the model; choose a smaller model, or optimizer=sgd"
            ) from error
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # otherwise the scaler has skipped the update
            self._decay_other_rows()
        self.clear_gradients()
        self._advance()

    def skip(self) -> None:
        """Skip the update; clear the gradients, and advance the schedule."""
        self.clear_gradients()
        self._advance()

    def _decay_other_rows(self) -> None:
        """Apply weight decay to the word embeddings that no batch holds, as to those that are trained."""
        if self.rows is None or self.rows.rows.grad is None:  # frozen in this epoch
            return
        for group in self.optimizer.param_groups:
            if any(weight is self.rows.rows for weight in group["params"]):
                self.rows.decay *= 1.0 - group["lr"] * group["weight_decay"]

    def _advance(self) -> None:
        with warnings.catch_warnings():  # torch warns if the very first update was skipped, by us or by a scaler
            warnings.simplefilter("ignore")
            self.scheduler.step()

    def clear_gradients(self) -> None:
        """Clear the gradients."""
        self.optimizer.zero_grad(set_to_none=True)


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimizer, with a group per rate and decay; biases and norms (all weights of one dimension) do not decay.

    Raises:
        InputError: there is no such optimizer, or it does not know an option.
    """
    parts, factors = parts_of(model), rate_factors(model, config)
    groups: dict[tuple[bool, float, float], dict[str, Any]] = {}
    weights = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    for name, weight in sorted(weights, key=lambda named: named[1].ndim < 2):  # matrices first
        part, is_matrix = parts[name], weight.ndim >= 2
        factor = factors[part]
        decay = weight_decay_of(part, config) if is_matrix else 0.0
        new: dict[str, Any] = {"params": [], "lr": config.lr * factor, "weight_decay": decay}
        groups.setdefault((is_matrix, factor, decay), new)["params"].append(weight)
    return _instantiate(list(groups.values()), config)


def make_fresh_optimizer(rates: Mapping[Tensor, float], config: OptimizerConfig) -> torch.optim.Optimizer:
    """The run's kind of optimizer, without a history and without weight decay, for weights at rates of their own."""
    groups: dict[float, dict[str, Any]] = {}
    for weight, rate in rates.items():
        groups.setdefault(rate, {"params": [], "lr": rate, "weight_decay": 0.0})["params"].append(weight)
    return _instantiate(list(groups.values()), config)


def check_optimizer(config: OptimizerConfig) -> None:
    """Make the optimizer for a single number, to see whether its class takes the options.

    Raises:
        InputError: there is no such optimizer, or it does not know an option.
    """
    _instantiate([{"params": [nn.Parameter(torch.zeros(1))]}], config)


def _instantiate(groups: list[dict[str, Any]], config: OptimizerConfig) -> torch.optim.Optimizer:
    for name in {"lr", "weight_decay"} & config.options.keys():
        raise InputError(f"optimizer.options.{name}: each part of the model has its own; set optimizer.{name}")
    make = named_class("optimizer._target_", config._target_, torch.optim.Optimizer)
    try:
        optimizer: torch.optim.Optimizer = make(groups, lr=config.lr, **config.options)
    except (TypeError, ValueError, ImportError, AttributeError) as error:
        raise InputError(
            f"optimizer: {config._target_} cannot be made with options={config.options} ({error})"
        ) from error
    return optimizer


@dataclass(frozen=True)
class ShownRate:
    """A part of the model whose learning rate a run logs beside the encoder's: `factor` times that, 0 while frozen."""

    part: str
    factor: float
    weights: list[Tensor]

    def is_trained(self) -> bool:
        return any(weight.requires_grad for weight in self.weights)


def shown_rates(model: nn.Module, config: OptimizerConfig) -> list[ShownRate]:
    """The embeddings and heads whose rate differs from the encoder's, at least in some epoch."""
    parts, weights = parts_of(model), dict(model.named_parameters())
    has_plan = config.frozen_embeddings or bool(config.unfreezing)
    return [
        ShownRate(part.name, factor, [weights[name] for name, of in parts.items() if of == part])
        for part, factor in rate_factors(model, config).items()
        if (part.layer in (None, -1) and factor != 1.0) or (part.layer == -1 and has_plan)
    ]


def make_scheduler(optimizer: torch.optim.Optimizer, config: SchedulerConfig, *, num_steps: int) -> LambdaLR:
    """The learning rate's schedule; the warmup takes `warmup_ratio` of all steps, rounded up."""
    num_warmup_steps = math.ceil(num_steps * config.warmup_ratio)

    def factor(step: int) -> float:
        return learning_rate_factor(config.shape, step, num_warmup_steps=num_warmup_steps, num_steps=num_steps)

    return LambdaLR(optimizer, factor)

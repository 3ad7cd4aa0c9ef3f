"""Step 8 of the flow: gradients become an update."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from multitask_bert.config import InputError, OptimizerConfig, SchedulerConfig
from multitask_bert.model.devices import SoonRead, is_out_of_memory
from multitask_bert.model.embeddings import UsedRows
from multitask_bert.trust import named_class
from multitask_bert.utils.schedules import learning_rate_factor


class Updater:
    """What happens between the last gradient of a step and the first of the next.

    `rows`: the word embeddings in use, where the others are left out (see model/embeddings.py).
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
        self.max_grad_norm, self.rows, self.weight_decay = max_grad_norm, rows, optimizer.weight_decay

    @property
    def rate(self) -> float:
        """The learning rate of the next update."""
        return float(self.optimizer.param_groups[0]["lr"])

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradients to those of the step; in fp16, of the loss scaled up, so that they do not vanish."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def clip(self) -> bool:
        """Shorten the gradient; False where it is infinite or not a number, for which the device is waited for.

        With a scaler always True: it looks for itself, and leaves the update out.
        """
        if self.max_grad_norm is None:
            return True
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.weights, self.max_grad_norm)
        return self.scaler.is_enabled() or math.isfinite(SoonRead(norm).get())

    def is_stuck(self) -> bool:
        """Whether a scaler has left out one update after the other, until nothing is scaled up any more."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < 1.0

    def step(self) -> None:
        """Update, forget the gradients, and move the learning rate on.

        Raises:
            InputError: the optimizer's own state does not fit into the device's memory.
        """
        try:
            self.scaler.step(self.optimizer)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"out of memory: {type(self.optimizer).__name__} keeps numbers of its own for each weight, and they do "
                f"not fit beside the model; take a smaller model, or optimizer=sgd"
            ) from error
        self.scaler.update()
        self.forget()
        if self.rows is not None:
            self.rows.decay *= 1.0 - self.rate * self.weight_decay
        self._move_on()

    def skip(self) -> None:
        """Leave the update out; the learning rate moves on."""
        self.forget()
        self._move_on()

    def _move_on(self) -> None:
        with warnings.catch_warnings():  # torch warns where the very first update is left out, by us or by a scaler
            warnings.simplefilter("ignore")
            self.scheduler.step()

    def forget(self) -> None:
        """Drop the gradients."""
        self.optimizer.zero_grad(set_to_none=True)


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Two groups: matrices with weight decay; biases and norms (everything of one dimension) without.

    Raises:
        InputError: no such optimizer, or one that does not know an option.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    make = named_class("optimizer._target_", config._target_, torch.optim.Optimizer)
    try:
        optimizer: torch.optim.Optimizer = make(groups, lr=config.lr, **config.options)
    except (TypeError, ValueError, ImportError, AttributeError) as error:
        raise InputError(
            f"optimizer: {config._target_} cannot be made with options={config.options} ({error})"
        ) from error
    return optimizer


def make_scheduler(optimizer: torch.optim.Optimizer, config: SchedulerConfig, *, num_steps: int) -> LambdaLR:
    """The warmup takes `warmup_ratio` of all steps, rounded up."""
    num_warmup_steps = math.ceil(num_steps * config.warmup_ratio)

    def factor(step: int) -> float:
        return learning_rate_factor(config.shape, step, num_warmup_steps=num_warmup_steps, num_steps=num_steps)

    return LambdaLR(optimizer, factor)

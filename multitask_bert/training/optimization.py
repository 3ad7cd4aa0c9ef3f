"""Step 8 of the flow: optimizer and learning rate."""

from __future__ import annotations

import math

import torch
from hydra.utils import get_class
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from multitask_bert.config import InputError, OptimizerConfig, SchedulerConfig
from multitask_bert.utils.schedules import learning_rate_factor


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
    try:
        optimizer: torch.optim.Optimizer = get_class(config._target_)(groups, lr=config.lr, **config.options)
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

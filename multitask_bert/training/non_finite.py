"""Where a loss that is infinite or not a number comes from: which head, which examples; and the report about it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from multitask_bert.data.collation import Indices
from multitask_bert.data.loading import Loader
from multitask_bert.errors import InputError
from multitask_bert.model.multitask import MultiTaskModel, evaluating
from multitask_bert.records import EncodedExample
from multitask_bert.saving.store import FAILED
from multitask_bert.training.steps import NonFiniteStepError
from multitask_bert.utils.files import shown, write_json

REPORT = "non_finite.json"
NUM_SHOWN = 3  # examples in the message; the report has all


class NonFiniteLossError(InputError):
    """A run ends because its loss, or its gradient, is infinite or not a number."""


@dataclass(frozen=True)
class Finding:
    """What is known about a step that is not finite."""

    step: int
    losses: dict[str, float]  # by `task.head`
    are_weights_finite: bool  # before the step
    examples: list[dict[str, Any]]  # task, where, text, and in `losses_alone` the losses that are not finite

    @property
    def heads(self) -> list[str]:
        """Heads whose loss is not finite, as `task.head`; empty where only the gradient is not."""
        return [name for name, loss in self.losses.items() if not math.isfinite(loss)]

    @property
    def culprits(self) -> list[dict[str, Any]]:
        """Examples whose loss is not finite when each goes through the model alone, without dropout."""
        return [example for example in self.examples if example["losses_alone"]]

    def summary(self) -> str:
        """A line or two on what happened."""
        what = f"the loss of {' and of '.join(self.heads)}" if self.heads else "the gradient"
        text = f"step {self.step}: {what} is infinite or not a number; nothing was updated"
        if not self.are_weights_finite:
            return f"{text}. The weights are not finite either: the run had diverged before"
        if len(self.culprits) == len(self.examples):
            return f"{text}. Every example of the step alone gives such a loss: the weights have grown too large"
        named = self.culprits or self.examples
        names = ", ".join(f"{example['task']} ({example['where']})" for example in named[:NUM_SHOWN])
        names += f" and {len(named) - NUM_SHOWN} more" if len(named) > NUM_SHOWN else ""
        if self.culprits:
            return f"{text}. It comes from {names}"
        return f"{text}. None of its {len(self.examples)} examples alone gives such a loss: {names}"

    def message(self, folder: Path | None) -> str:
        """The summary, the files in `folder` to look into, and the way out."""
        files = ""
        if folder is not None:
            files = (
                f"\nall examples of the step: {shown(folder / REPORT)}; the state before it: "
                f"{shown(folder / 'checkpoints' / FAILED)}; resume=true comes to the same step again"
            )
        return (
            f"{self.summary()}{files}\nlower optimizer.lr, or correct the examples; in fp16, try "
            f"trainer.precision=bf16 or fp32"
        )


def investigate(
    error: NonFiniteStepError,
    model: MultiTaskModel,
    datasets: Mapping[str, Dataset[EncodedExample]],
    indices: Indices,
    *,
    step: int,
    pad_id: int,
    device: torch.device,
) -> Finding:
    """Run each example of the step alone through the model as it is, without dropout; `indices`: of the step."""
    return Finding(
        step,
        {".".join(key): loss for key, loss in error.by_head.items()},
        all(bool(weight.isfinite().all()) for weight in model.parameters()),
        list(_one_by_one(model, datasets, indices, pad_id=pad_id, device=device)),
    )


def write_report(finding: Finding, folder: Path) -> None:
    """Write `non_finite.json`; infinite and undefined numbers are strings, since JSON has no word for them."""
    report = {
        "step": finding.step,
        "losses": {name: str(loss) for name, loss in finding.losses.items()},
        "are_weights_finite": finding.are_weights_finite,
        "examples": finding.examples,
    }
    write_json(folder / REPORT, report)


@torch.no_grad()
def _one_by_one(
    model: MultiTaskModel,
    datasets: Mapping[str, Dataset[EncodedExample]],
    indices: Indices,
    *,
    pad_id: int,
    device: torch.device,
) -> Iterator[dict[str, Any]]:
    """The examples of a step as `Finding.examples` has them."""
    steps = [{task: [index]} for task, of_task in indices.items() for index in of_task]
    with evaluating(model):
        for step, (batch,) in zip(steps, Loader(datasets, pad_id=pad_id).load(steps), strict=True):
            ((task, (index,)),) = step.items()
            losses = {name: float(output.loss_sum) for (_, name), output in model(batch.to(device)).items()}
            example = datasets[task][index].example
            yield {
                "task": task,
                "where": example.where,
                "text": example.text,
                "losses_alone": {name: str(loss) for name, loss in losses.items() if not math.isfinite(loss)},
            }

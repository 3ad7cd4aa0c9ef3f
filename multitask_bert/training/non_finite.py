"""A step whose loss is infinite or not a number: which head, which examples, and all that it takes to look closer."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from multitask_bert.config.schema import TrainerConfig
from multitask_bert.data.collation import Indices
from multitask_bert.data.loading import Loader
from multitask_bert.errors import InputError
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import EncodedExample
from multitask_bert.saving.store import FAILED
from multitask_bert.train_state import TrainState
from multitask_bert.training.evaluation import evaluating
from multitask_bert.training.optimization import Updater
from multitask_bert.training.steps import NonFiniteStepError
from multitask_bert.utils.files import shown, write_json

log = logging.getLogger(__name__)

REPORT = "non_finite.json"
NUM_SHOWN = 3  # examples in the message; the report has all
MAX_SKIPPED_IN_A_ROW = 10  # with trainer.on_non_finite=skip


class NonFiniteLossError(InputError):
    """The run cannot go on: its loss, or its gradient, is infinite or not a number."""


@dataclass(frozen=True)
class Finding:
    """What can be known of such a step."""

    step: int  # the one that was not made
    losses: dict[str, float]  # by `task.head`, of the step
    are_weights_finite: bool  # before the step
    examples: list[dict[str, Any]]  # of the step: task, where, text; and under `losses_alone` those that are not finite

    @property
    def heads(self) -> list[str]:
        """Those whose loss is not finite; none: it is the gradient that is not."""
        return [name for name, loss in self.losses.items() if not math.isfinite(loss)]

    @property
    def culprits(self) -> list[dict[str, Any]]:
        """Examples whose loss is not finite either where each is alone, and nothing is dropped."""
        return [example for example in self.examples if example["losses_alone"]]

    def summary(self) -> str:
        """What happened, in a line or two."""
        what = f"the loss of {' and of '.join(self.heads)}" if self.heads else "the gradient"
        text = f"step {self.step}: {what} is infinite or not a number; nothing was updated"
        if not self.are_weights_finite:
            return f"{text}. The weights are not finite either: the run diverged before"
        shown_ones = self.culprits or self.examples
        if len(self.culprits) == len(self.examples):
            return f"{text}. It does so with every example of the step: the weights have grown too large"
        places = ", ".join(f"{one['task']} ({one['where']})" for one in shown_ones[:NUM_SHOWN])
        more = len(shown_ones) - NUM_SHOWN
        places += f" and {more} more" if more > 0 else ""
        if self.culprits:
            return f"{text}. It comes from {places}"
        return f"{text}. None of its {len(self.examples)} examples does it alone: {places}"


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
    """Each example of the step alone through the model as it is, without dropout."""
    return Finding(
        step,
        {".".join(key): loss for key, loss in error.by_head.items()},
        all(bool(weight.isfinite().all()) for weight in model.parameters()),
        list(_alone(model, datasets, indices, pad_id=pad_id, device=device)),
    )


def refuse_stuck(updater: Updater, step: int) -> None:
    """End a run in fp16 that has stopped learning.

    Raises:
        NonFiniteLossError: in fp16, no gradient has been finite for many steps, and nothing is learnt.
    """
    if updater.is_stuck():
        raise NonFiniteLossError(
            f"step {step}: trainer.precision=fp16: no gradient has been finite for many steps, so that none was "
            f"learnt from; set trainer.precision=bf16 or fp32"
        )


def may_leave_out(config: TrainerConfig, state: TrainState) -> bool:
    """Whether the run may go on without this step: where that is asked for, and not too many in a row were such."""
    return config.on_non_finite == "skip" and state.skipped_in_a_row < MAX_SKIPPED_IN_A_ROW


def leave_out(finding: Finding, updater: Updater, state: TrainState) -> None:
    """Go on as if the step had been made, with a warning and a count."""
    log.warning("%s; the step is left out", finding.summary())
    updater.skip()
    state.num_skipped += 1
    state.skipped_in_a_row += 1


def refusal_of(finding: Finding, folder: Path | None, state: TrainState) -> NonFiniteLossError:
    """The error that ends the run, to be raised; all that is known of the step is then in `folder`."""
    if folder is not None:
        _write_report(finding, folder)
    return NonFiniteLossError(finding.summary() + _way_out(folder, has_skipped=state.skipped_in_a_row > 0))


def _write_report(finding: Finding, folder: Path) -> None:
    """`non_finite.json`; numbers that JSON has no word for are strings."""
    report = {
        "step": finding.step,
        "losses": {name: str(loss) for name, loss in finding.losses.items()},
        "are_weights_finite": finding.are_weights_finite,
        "examples": finding.examples,
    }
    write_json(folder / REPORT, report)


def _way_out(folder: Path | None, *, has_skipped: bool) -> str:
    """What to do about it, as the end of an error; `has_skipped`: too many such steps were left out already."""
    looks = ""
    if folder is not None:
        looks = (
            f"\nall examples of the step: {shown(folder / REPORT)}; the state before it: "
            f"{shown(folder / 'checkpoints' / FAILED)}; resume=true comes to it again"
        )
    skips = (
        f"{MAX_SKIPPED_IN_A_ROW} steps in a row were left out before it"
        if has_skipped
        else "trainer.on_non_finite=skip leaves such steps out, and counts them"
    )
    return f"{looks}\nlower optimizer.lr, or mend the examples; in fp16, try trainer.precision=bf16 or fp32; {skips}"


@torch.no_grad()
def _alone(
    model: MultiTaskModel,
    datasets: Mapping[str, Dataset[EncodedExample]],
    indices: Indices,
    *,
    pad_id: int,
    device: torch.device,
) -> Iterator[dict[str, Any]]:
    each = [{task: [index]} for task, of_task in indices.items() for index in of_task]
    with evaluating(model):
        for one, (batch,) in zip(each, Loader(datasets, pad_id=pad_id).load(each), strict=True):
            ((task, (index,)),) = one.items()
            losses = {name: float(output.loss_sum) for (_, name), output in model(batch.to(device)).items()}
            example = datasets[task][index].example
            yield {
                "task": task,
                "where": example.where,
                "text": example.text,
                "losses_alone": {name: str(loss) for name, loss in losses.items() if not math.isfinite(loss)},
            }

"""Steps 5 to 7 of the flow, for one update: micro-batches in, gradients and losses out; or what stood in the way."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multitask_bert.errors import InputError
from multitask_bert.model.devices import AsyncScalar, is_out_of_memory
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import Batch
from multitask_bert.training.balancing import Balancer
from multitask_bert.training.optimization import Updater

HeadKey = tuple[str, str]  # task and head


def steps_at(shares: Sequence[float], num_steps: int) -> list[int]:
    """The steps at these shares of a run, each the next whole one, and none twice."""
    return sorted({max(1, math.ceil(share * num_steps - 1e-9)) for share in shares})


class NonFiniteStepError(Exception):
    """A step whose update would have been no number; it is as if it had not begun. `by_head`: its losses."""

    def __init__(self, by_head: Mapping[HeadKey, Tensor]) -> None:
        super().__init__("loss or gradient is not finite")
        self.by_head = {key: float(loss) for key, loss in by_head.items()}


class DoesNotFitError(Exception):
    """The device's memory is too small for these micro-batches; the step is as if it had not begun."""

    def __init__(self, micro_batches: Sequence[Batch]) -> None:
        super().__init__("out of memory")
        self._largest = max(micro_batches, key=lambda batch: batch.input_ids_BS.numel())

    def half(self) -> int:
        """Places per forward pass that are worth a try: half of what did not fit.

        Raises:
            InputError: it was a single example.
        """
        num_places = self._largest.input_ids_BS.numel()
        if self._largest.num_examples == 1:
            raise InputError(
                f"out of memory: one example of {num_places} places does not fit into the device's memory; set "
                f"trainer.precision=bf16, trainer.gradient_checkpointing=true or a smaller batching.max_length"
            )
        return num_places // 2


@dataclass(frozen=True)
class StepLosses:
    """The losses of a step, on the device."""

    total: Tensor  # scalar: what was minimised
    by_head: dict[HeadKey, Tensor]  # scalars, without the heads' weights


def make_gradients(
    model: MultiTaskModel,
    micro_batches: Sequence[Batch],
    updater: Updater,
    *,
    balancer: Balancer,
    mean_counts: Mapping[HeadKey, float],
    device: torch.device,
) -> StepLosses:
    """Forward and backward of all parts, and clipping.

    Losses are sums, divided once for the whole step, so that 1 x 8 and 4 x 2 are the same step: by the mean count of a
    batch (see `TrainingStream.mean_counts`), else by the step's own.

    Raises:
        NonFiniteStepError: a loss, or the gradient, is infinite or not a number.
        DoesNotFitError: a part needs more memory than the device has.
    """
    counts: Counter[HeadKey] = Counter()
    for batch in micro_batches:
        counts.update({key: target.num_known for key, target in batch.targets.items()})
    divisors = {key: mean_counts.get(key, count) for key, count in counts.items()}
    draws = DrawStates(device)
    error: NonFiniteStepError | DoesNotFitError
    try:
        total, by_head, soon = _all_parts(model, micro_batches, updater, balancer, divisors, device)
    except RuntimeError as failure:
        if not is_out_of_memory(failure):
            raise
        error = DoesNotFitError(micro_batches)  # raised below: this one holds on to what filled the memory
    else:
        if math.isfinite(soon.get()) and updater.clip():
            return StepLosses(total, by_head)
        error = NonFiniteStepError(by_head)
    updater.forget()
    draws.put_back()
    raise error


class DrawStates:
    """Where the random generators stand from which dropout draws."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._of_cpu = torch.get_rng_state()
        self._of_cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def put_back(self) -> None:
        torch.set_rng_state(self._of_cpu)
        if self._of_cuda is not None:
            torch.cuda.set_rng_state(self._of_cuda, self._device)


def _all_parts(
    model: MultiTaskModel,
    micro_batches: Sequence[Batch],
    updater: Updater,
    balancer: Balancer,
    divisors: Mapping[HeadKey, float],
    device: torch.device,
) -> tuple[Tensor, dict[HeadKey, Tensor], AsyncScalar]:
    total = torch.zeros((), device=device)
    by_head: dict[HeadKey, Tensor] = {}
    known = AsyncScalar(total)
    for batch in micro_batches:
        outputs = model(batch.to(device))
        losses = {key: out.loss_sum / max(1, divisors[key]) for key, out in outputs.items()}
        loss = balancer.combine(losses)
        total += loss.detach()
        if batch is micro_batches[-1]:
            known = AsyncScalar(total)
        updater.backward(loss)
        for key, value in losses.items():
            by_head[key] = by_head.get(key, 0.0) + value.detach()
    return total, by_head, known

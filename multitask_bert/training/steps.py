"""Steps 5 to 7 of the flow: the micro-batches of one step become gradients and losses.

What may fail is known before the update, and leaves everything as it was: see training/recovery.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from multitask_bert.model.devices import AsyncScalar, is_out_of_memory
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import Batch
from multitask_bert.training.balancing import Balancer
from multitask_bert.training.data_parallel import HeadKey, sum_counts, sum_gradients, sum_losses
from multitask_bert.training.optimization import Updater
from multitask_bert.utils.ranks import this_run


class NonFiniteStepError(Exception):
    """The loss or the gradient of a step is infinite or not a number; nothing has changed. `by_head`: its losses."""

    def __init__(self, by_head: Mapping[HeadKey, Tensor]) -> None:
        super().__init__("loss or gradient is not finite")
        self.by_head = {key: float(loss) for key, loss in by_head.items()}


class DoesNotFitError(Exception):
    """The micro-batches of a step do not fit into the device's memory; nothing has changed.

    `largest`: the largest of them; None: those of this process fit, but not those of another.
    """

    def __init__(self, micro_batches: Sequence[Batch], *, fits_here: bool = False) -> None:
        super().__init__("out of memory")
        self.largest = None if fits_here else max(micro_batches, key=lambda batch: batch.input_ids_BS.numel())


@dataclass(frozen=True)
class StepLosses:
    """The losses of a step, on the device, and its size; over all processes."""

    total: Tensor  # scalar: what was minimised
    by_head: dict[HeadKey, Tensor]  # scalars, without the heads' weights
    num_examples: int
    num_tokens: int  # without padding


def make_gradients(
    model: MultiTaskModel,
    micro_batches: Sequence[Batch],
    updater: Updater,
    *,
    balancer: Balancer,
    mean_counts: Mapping[HeadKey, float],
    device: torch.device,
) -> StepLosses:
    """Run all micro-batches forward and backward, and clip the gradients.

    Losses are sums, divided once for the whole step, so that 1 x 8 and 4 x 2 are the same step: by the mean count of a
    batch (see `TrainingStream.mean_counts`), else by the step's own. Of several processes, each has micro-batches of
    its own; gradients and losses are then those of all, and all succeed or fail together.

    Raises:
        NonFiniteStepError: a loss, or the gradient, is infinite or not a number.
        DoesNotFitError: a micro-batch needs more memory than the device has.
    """
    counts: Counter[HeadKey] = Counter()
    for batch in micro_batches:
        counts.update({key: target.num_known for key, target in batch.targets.items()})
    ranks = this_run()
    num_examples = sum(batch.num_examples for batch in micro_batches)
    num_tokens = sum(batch.num_tokens for batch in micro_batches)
    if ranks.size > 1:
        sums, (num_examples, num_tokens) = sum_counts(ranks, model, counts, num_examples, num_tokens)
        counts = Counter(sums)
    divisors = {key: mean_counts.get(key, count) for key, count in counts.items()}
    rng_state = RngState(device)
    fits = True
    error: NonFiniteStepError | DoesNotFitError
    try:
        total, by_head, total_on_host = _run_micro_batches(model, micro_batches, updater, balancer, divisors, device)
    except RuntimeError as failure:
        if not is_out_of_memory(failure):
            raise
        fits = False  # looked at below: `failure` keeps alive what filled the memory
    if ranks.smallest(fits):
        if ranks.size > 1:
            losses = sum_losses(ranks, total, by_head, list(divisors))
            total, by_head = losses[0], dict(zip(divisors, losses[1:], strict=True))
            total_on_host = AsyncScalar(total)
            sum_gradients(ranks, updater.weights)
        if math.isfinite(total_on_host.get()) and updater.clip():
            return StepLosses(total, by_head, num_examples, num_tokens)
        error = NonFiniteStepError(by_head)
    else:
        error = DoesNotFitError(micro_batches, fits_here=fits)
    updater.clear_gradients()
    rng_state.restore()
    raise error


class RngState:
    """State of the random generators that dropout draws from: captured when made, put back by `restore`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._cpu_state = torch.get_rng_state()
        self._cuda_state = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        torch.set_rng_state(self._cpu_state)
        if self._cuda_state is not None:
            torch.cuda.set_rng_state(self._cuda_state, self._device)


def _run_micro_batches(
    model: MultiTaskModel,
    micro_batches: Sequence[Batch],
    updater: Updater,
    balancer: Balancer,
    divisors: Mapping[HeadKey, float],
    device: torch.device,
) -> tuple[Tensor, dict[HeadKey, Tensor], AsyncScalar]:
    total = torch.zeros((), device=device)
    by_head: dict[HeadKey, Tensor] = {}
    total_on_host = AsyncScalar(total)
    for batch in micro_batches:
        outputs = model(batch.to(device))
        losses = {key: out.loss_sum / max(1, divisors[key]) for key, out in outputs.items()}
        loss = balancer.combine(losses)
        total += loss.detach()
        if batch is micro_batches[-1]:
            total_on_host = AsyncScalar(total)  # copied while the backward pass runs
        updater.backward(loss)
        for key, value in losses.items():
            by_head[key] = by_head.get(key, 0.0) + value.detach()
    return total, by_head, total_on_host

"""What to do when a step cannot be made: out of memory, use smaller parts; not finite, skip the step or stop."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from multitask_bert.data.streaming import TrainingStream
from multitask_bert.errors import InputError
from multitask_bert.model.acceleration import empty_cache
from multitask_bert.records import Batch
from multitask_bert.training.non_finite import Finding, NonFiniteLossError, investigate, write_report
from multitask_bert.training.optimization import Updater
from multitask_bert.training.steps import DoesNotFitError, NonFiniteStepError, StepLosses, make_gradients
from multitask_bert.utils.ranks import this_run

if TYPE_CHECKING:
    from multitask_bert.training.trainer import Trainer

log = logging.getLogger(__name__)

MAX_SKIPPED_IN_A_ROW = 10  # with trainer.on_non_finite=skip


class Recovery:
    """Makes the gradients of a step, in spite of what may go wrong.

    `save_failed` is called before the run ends over a step that is not finite, to save the state before that step.
    """

    def __init__(
        self, trainer: Trainer, stream: TrainingStream, updater: Updater, *, save_failed: Callable[[], None]
    ) -> None:
        self._trainer, self._stream, self._updater, self._save_failed = trainer, stream, updater, save_failed
        self._mean_counts = stream.mean_counts()

    def make_gradients(self, micro_batches: list[Batch], index: int) -> StepLosses | None:
        """Gradients and losses of the epoch's step `index`; None where the step is skipped.

        Where the device's memory is too small, this step and all that follow are made in smaller micro-batches.

        Raises:
            NonFiniteLossError: the step is not finite, and may not be skipped.
            InputError: a single example does not fit into the device's memory.
        """
        trainer = self._trainer
        while True:
            try:
                losses = make_gradients(
                    trainer.model, micro_batches, self._updater,
                    balancer=trainer.balancer, mean_counts=self._mean_counts, device=trainer.device,
                )  # fmt: skip
            except DoesNotFitError as error:
                limit = _reduced_limit(error.largest)
            except NonFiniteStepError as error:
                self._skip_or_stop(error, index)
                return None
            else:
                trainer.state.skipped_in_a_row = 0
                return losses
            micro_batches = self._in_smaller_parts(index, limit)  # out of `except`, which would hold on to memory

    def refuse_stuck(self) -> None:
        """End a run in fp16 that no longer learns.

        Raises:
            NonFiniteLossError: for many steps, no gradient has been finite.
        """
        if self._updater.is_stuck():
            raise NonFiniteLossError(
                f"step {self._trainer.state.step}: trainer.precision=fp16: no gradient has been finite for many steps, "
                f"so nothing was learned from them; set trainer.precision=bf16 or fp32"
            )

    def _in_smaller_parts(self, index: int, limit: int) -> list[Batch]:
        state = self._trainer.state
        log.warning(
            "step %d: out of memory; from here on at most %d tokens per forward pass, as "
            "batching.micro_batch_tokens=%d sets from the start",
            state.step + 1, limit, limit,
        )  # fmt: skip
        self._stream.limit(limit)
        empty_cache(self._trainer.device)
        return self._stream.step(state.epoch, index)

    def _skip_or_stop(self, error: NonFiniteStepError, index: int) -> None:
        trainer, state = self._trainer, self._trainer.state
        finding = investigate(
            error, trainer.model, trainer.train_datasets, self._stream.plan(state.epoch)[index],
            step=state.step + 1, pad_id=trainer.pad_id, device=trainer.device,
        )  # fmt: skip
        if trainer.config.trainer.on_non_finite == "skip" and state.skipped_in_a_row < MAX_SKIPPED_IN_A_ROW:
            log.warning("%s; the step is skipped", finding.summary())
            self._updater.skip()
            state.num_skipped += 1
            state.skipped_in_a_row += 1
            return
        raise self._refusal(finding)

    def _refusal(self, finding: Finding) -> NonFiniteLossError:
        """The error that ends the run, once the report and the state before the step are saved."""
        num_skipped, folder = self._trainer.state.skipped_in_a_row, self._trainer.folder
        if folder is not None:
            write_report(finding, folder)
        self._save_failed()
        advice = (
            f"{num_skipped} steps in a row were skipped before it"
            if num_skipped
            else "trainer.on_non_finite=skip skips such steps, and counts them"
        )
        return NonFiniteLossError(f"{finding.message(folder)}; {advice}")


def _reduced_limit(largest: Batch | None) -> int:
    """The `micro_batch_tokens` to try next: half of what did not fit; of several processes, the smallest.

    `largest`: the micro-batch of this process that did not fit; None: all did.

    Raises:
        InputError: it has a single example.
    """
    if largest is None:
        return this_run().smallest(sys.maxsize)
    num_tokens = largest.input_ids_BS.numel()
    if largest.num_examples == 1:
        shorter = "a smaller batching.max_length" if largest.first_N is None else "batching.windows=false"
        raise InputError(
            f"out of memory: one example of {num_tokens} tokens does not fit into the device's memory; set "
            f"trainer.precision=bf16, trainer.gradient_checkpointing=true or {shorter}"
        )
    return this_run().smallest(num_tokens // 2)

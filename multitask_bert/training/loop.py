"""The training loop: everything that exists only while a Trainer trains, and the order in which it happens.

epochs -> rounds (data/mixing.py) -> a batch of each task in turn -> gradients, update -> log, evaluate, save
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from multitask_bert.config.schema import run_name, task_epochs
from multitask_bert.config.tree import to_dict
from multitask_bert.data.streaming import TrainingStream
from multitask_bert.model.acceleration import fit_batching
from multitask_bert.model.embeddings import training_used_rows
from multitask_bert.model.parts import freeze
from multitask_bert.records import Batch, TaskResult
from multitask_bert.saving.resume import checkpoint_to_resume
from multitask_bert.saving.store import FAILED, Checkpoint, CheckpointStore
from multitask_bert.tracking.loggers import METRICS_FILE, RunStart
from multitask_bert.training.affinities import Affinities
from multitask_bert.training.averaging import WeightAverage
from multitask_bert.training.checkpoint import capture, restore, rng_tensors, share_checkpoint
from multitask_bert.training.collapse import WAY_OUT
from multitask_bert.training.data_parallel import check_processes_agree
from multitask_bert.training.metric_keys import gather_metrics
from multitask_bert.training.optimization import Updater
from multitask_bert.training.recovery import Recovery
from multitask_bert.training.restart import CollapsedError, may_restart
from multitask_bert.training.start_checks import check_run_length, warn_of_small_dev
from multitask_bert.training.steps import StepLosses
from multitask_bert.utils.clock import seconds_since
from multitask_bert.utils.schedules import steps_at

if TYPE_CHECKING:
    from multitask_bert.training.trainer import Trainer


class Stopped(BaseException):
    """The run was asked to end, and its state is saved. Not an Exception, so that no `except Exception` catches it."""


@contextlib.contextmanager
def training_loop(trainer: Trainer) -> Iterator[TrainingLoop]:
    """The loop of a trainer, at the first step or at that of the checkpoint to resume; the loggers hear of the start.

    Raises:
        InputError: there is nothing to train or to measure, or the run cannot be resumed.
    """
    config, state, model = trainer.config, trainer.state, trainer.model
    stream = make_stream(trainer)
    state.num_steps = stream.count_steps(config.trainer.max_steps)
    check_run_length(config, stream, state.num_steps)
    warn_of_small_dev(config, trainer.eval_datasets)
    checkpoint = None
    if config.resume and trainer.checkpoints is not None:
        checkpoint = checkpoint_to_resume(trainer.checkpoints, config, trainer.best)
    checkpoint = share_checkpoint(trainer.ranks, checkpoint)
    _tell_start(trainer, checkpoint)
    check_processes_agree(trainer.ranks, model, stream)
    model.train()
    freeze(model, config.optimizer)
    with training_used_rows(model.encoder, stream.used_ids(), config.optimizer) as rows:
        updater = Updater(
            model, config.optimizer, config.scheduler,
            num_steps=state.num_steps, max_grad_norm=config.trainer.max_grad_norm, rows=rows,
            scaler=torch.amp.GradScaler(trainer.device.type, enabled=config.trainer.precision == "fp16"),
        )  # fmt: skip
        average = WeightAverage(model, config.averaging, num_steps=state.num_steps)
        loop = TrainingLoop(trainer, stream, updater, average)
        if checkpoint is not None:
            loop.resume(checkpoint)
        elif config.resume:
            trainer.console.say("no checkpoint to resume from: the run starts at its first step")
        yield loop


class TrainingLoop:
    """One training, from its first step or a checkpoint to its end; made by `training_loop`."""

    def __init__(self, trainer: Trainer, stream: TrainingStream, updater: Updater, average: WeightAverage) -> None:
        self.trainer, self.config, self.state = trainer, trainer.config.trainer, trainer.state
        self.stream, self.updater, self.average = stream, updater, average
        self.affinities = Affinities(trainer, updater)
        myself = weakref.proxy(self)  # as in Trainer
        self.recovery = Recovery(trainer, stream, updater, save_failed=lambda: myself._save(has_failed=True))

    def run(self) -> None:
        """Train to the end.

        Raises:
            Stopped: the run was asked to end, and its state is saved.
        """
        while not self._is_over():
            self._train_epoch()
        if self.state.best_score is None:  # the best model was lost, and no step was left
            self._evaluate_and_keep_best()

    def _train_epoch(self) -> None:
        """Train the rest of the current epoch."""
        freeze(self.trainer.model, self.trainer.config.optimizer, epoch=self.state.epoch)
        started = time.perf_counter()
        for micro_batches in self.stream.epoch(self.state.epoch, start=self._num_done()):
            self._step(micro_batches)
            self._advance(started)
            self._log_if_due()
            if affinities := self.affinities.measure_if_due(self.state.step):
                self.trainer.reporter.queue(affinities, step=self.state.step)
            self.trainer.agree_to_stop()
            is_evaluated = self._evaluate_if_due()
            if is_evaluated:
                self.trainer.agree_to_stop()  # a signal may have come meanwhile
            self._save_if_due(is_evaluated=is_evaluated)
            if self._is_over():
                break
            started = time.perf_counter()
        self._end_epoch()

    def _step(self, micro_batches: list[Batch]) -> None:
        """Make one update, or skip it."""
        losses = self.recovery.make_gradients(micro_batches, self._num_done())
        if losses is None:
            self._report({"train_skipped_steps": float(self.state.num_skipped)})
            return
        rates = self._rates()
        self.updater.step()
        self.trainer.balancer.after_step(losses.by_head)
        self.state.num_examples += losses.num_examples
        self.state.num_tokens += losses.num_tokens
        self._report({"train_loss": losses.total, **self._losses_by_task(losses), **rates})

    def _advance(self, started: float) -> None:
        """Count a step, made or skipped, that has taken the time since `started`."""
        num_done = self._num_done() + 1
        self.state.step += 1
        self.state.epoch_progress = num_done / self.stream.num_steps(self.state.epoch)
        self.average.after_step(self.state.step)
        self.state.train_seconds += seconds_since(started)

    def _end_epoch(self) -> None:
        self.state.epoch, self.state.epoch_progress = self.state.epoch + 1, 0.0

    def _num_done(self) -> int:
        """Steps of the current epoch that are done; the index of the next one."""
        return round(self.state.epoch_progress * self.stream.num_steps(self.state.epoch))

    def _is_over(self) -> bool:
        return self.state.step >= self.state.num_steps or self.state.stopped_early or self.state.pruned

    # Logging

    def _log_if_due(self) -> None:
        if self.state.step % self.config.log_every == 0:
            self.trainer.log_steps()
            self.recovery.refuse_stuck()

    def _report(self, metrics: Mapping[str, Tensor | float]) -> None:
        """Metrics of the step that is being made; logged with the next `log_steps`."""
        self.trainer.reporter.queue(metrics, step=self.state.step + 1)

    def _rates(self) -> dict[str, float]:
        """The learning rates of the next update, as the logs name them."""
        by_part = {f"train_lr_{part}": rate for part, rate in self.updater.rates_by_part.items()}
        return {"train_lr": self.updater.rate, **by_part}

    def _losses_by_task(self, losses: StepLosses) -> dict[str, Tensor]:
        """Each task's weighted loss, as the logs name it."""
        by_task: dict[str, Tensor] = {}
        for (task, head), loss in losses.by_head.items():
            name = f"train_{task}_loss"
            by_task[name] = by_task.get(name, 0.0) + self.trainer.weights[task, head] * loss
        return by_task

    # Evaluating

    def _is_evaluation_due(self) -> bool:
        """After `eval_shares` of the steps, else every `eval_every` steps, else at the end of an epoch; and always
        after the last step."""
        config, state = self.config, self.state
        if config.eval_shares:
            is_due = state.step in steps_at(config.eval_shares, state.num_steps)
        elif config.eval_every is not None:
            is_due = state.step % config.eval_every == 0
        else:
            is_due = state.epoch_progress == 1.0
        return is_due or self._is_over()

    def _evaluate_if_due(self) -> bool:
        """Evaluate if it is due; True where that was done. An evaluation cut short by a stop stays due."""
        self.state.is_evaluation_due = self._is_evaluation_due()
        if self.state.is_evaluation_due:
            with contextlib.suppress(Stopped):  # `_save_if_due` raises it again, once the checkpoint is written
                self._evaluate_and_keep_best()
                return True
        return False

    def _evaluate_and_keep_best(self) -> None:
        """Evaluate the weights and, where there is one, their average; save the better of the two if it is the best.

        Then decide whether the run ends here: out of patience, collapsed, or pruned.
        """
        trainer, state = self.trainer, self.state
        metrics, which = self._evaluate_and_offer()
        state.is_evaluation_due = False
        state.score_history.append(metrics[trainer.best.metric])
        results, is_best = trainer.results["eval"], state.evaluations_since_best == 0
        if is_best:
            trainer.results["best"] = results
        trainer.console.show_scores(f"step {state.step}{which}", results, is_best=is_best)
        patience = self.config.patience
        state.stopped_early = patience is not None and state.evaluations_since_best >= patience
        self._note_collapses(results)
        if trainer.watcher is not None:
            state.pruned = bool(trainer.watcher(state.step, state.num_steps, metrics)) and not self._is_over()

    def _evaluate_and_offer(self) -> tuple[dict[str, float], str]:
        """Metrics of the better of plain and averaged weights, and which those are; the best model is offered them."""
        trainer, state = self.trainer, self.state
        metrics = trainer.evaluate()
        trainer.best_per_head.offer(trainer.results["eval"], trainer.model, trainer.tokenizer)
        self.average.at_evaluation(state.step)
        if self.average.is_ready:
            with self.average.applied():
                average_metrics, average_results = self._evaluate_average()
                if trainer.best.prefers(average_metrics, metrics):
                    trainer.results["eval"] = average_results
                    trainer.best.offer(trainer.model, trainer.tokenizer, average_metrics, state, weights="average")
                    return average_metrics, ", averaged weights"
        trainer.best.offer(trainer.model, trainer.tokenizer, metrics, state)
        return metrics, ", plain weights (their average is not better)" if self.average.is_ready else ""

    def _evaluate_average(self) -> tuple[dict[str, float], dict[str, TaskResult]]:
        """Metrics and results of the averaged weights, which are in the model; in the logs, `average_eval_…`."""
        trainer = self.trainer
        results = trainer.evaluator.evaluate_all(trainer.eval_datasets, tune=True, trained=trainer.train_datasets)
        trainer.best_per_head.offer(results, trainer.model, trainer.tokenizer)
        metrics = gather_metrics(results, trainer.weights)
        trainer.reporter.log({f"average_{key}": value for key, value in metrics.items()}, step=self.state.step)
        return metrics, results

    def _note_collapses(self, results: Mapping[str, TaskResult]) -> None:
        """Name and count the heads that have learned nothing.

        Raises:
            CollapsedError: half of the run is over, a head has never learned anything, and the config asks for a
                restart.
        """
        state = self.state
        state.num_evaluations += 1
        for task, result in results.items():
            for head, how in result.collapsed.items():
                name = f"{task}.{head}"
                state.num_collapses[name] = state.num_collapses.get(name, 0) + 1
                self.trainer.console.say(f"step {state.step}: {name} {how}; {WAY_OUT}")
        never = [name for name, number in state.num_collapses.items() if number == state.num_evaluations]
        if never and may_restart(self.trainer.config) and 2 * state.step >= state.num_steps:
            raise CollapsedError(f"step {state.step} of {state.num_steps}: {', '.join(never)} learned nothing so far")

    # Saving and resuming

    def _save_if_due(self, *, is_evaluated: bool) -> None:
        """Save a checkpoint every `save_every` steps, else after each evaluation, and before the run stops.

        Raises:
            Stopped: the run was asked to end.
        """
        every, stop = self.config.save_every, self.trainer.stop_reason
        is_due = is_evaluated if every is None else self.state.step % every == 0
        if is_due or stop is not None:
            self._save()
        if stop is not None:
            raise Stopped(stop)

    def _save(self, *, has_failed: bool = False) -> None:
        """Write a checkpoint; `has_failed`: to look into, not to resume from, so that it replaces none of those."""
        trainer = self.trainer
        trainer.log_steps()
        others = trainer.ranks.gather(rng_tensors(trainer.device))[1:]
        if trainer.folder is None or not trainer.saves_checkpoints:
            return
        log_file = trainer.folder / METRICS_FILE
        store = CheckpointStore(trainer.folder, num_kept=1, name=FAILED) if has_failed else trainer.checkpoints
        assert store is not None
        store.write(
            capture(
                trainer.model, self.updater, self.state, self.average, others,
                config=self._config_tree, num_bytes_logged=log_file.stat().st_size if log_file.is_file() else 0,
                balancer=trainer.balancer.state_dict(), micro_batch_tokens=self.stream.micro_batch_tokens,
                best={task: result.summary() for task, result in trainer.results.get("best", {}).items()},
            )
        )  # fmt: skip

    @cached_property
    def _config_tree(self) -> dict[str, Any]:
        return to_dict(self.trainer.config)  # once: it takes longer than writing a small model

    def resume(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint, and make the evaluation that was due there."""
        trainer, state = self.trainer, self.state
        restore(checkpoint, trainer.model, self.updater, state, self.average, trainer.ranks)
        trainer.balancer.load_state_dict(checkpoint.state["balancer"])
        if "micro_batch_tokens" in checkpoint.state:  # absent from older checkpoints
            self.stream.limit(checkpoint.state["micro_batch_tokens"])
        trainer.results["best"] = {task: TaskResult(**summary) for task, summary in checkpoint.state["best"].items()}
        trainer.console.say(f"resuming from step {state.step} of {state.num_steps}")
        if state.is_evaluation_due:
            self._evaluate_and_keep_best()
        if state.epoch_progress == 1.0:
            self._end_epoch()


def make_stream(trainer: Trainer) -> TrainingStream:
    """The batches of a trainer's run, as its config says and its device can hold them."""
    config = trainer.config
    batching = fit_batching(config.batching, trainer.model, trainer.device, is_compiled=config.trainer.compile)
    return TrainingStream(
        trainer.train_datasets, batching, config.mixing,
        num_epochs=config.trainer.num_epochs, min_steps=config.trainer.min_steps,
        task_epochs=task_epochs(config.tasks), pad_id=trainer.pad_id, seed=config.seed, update=config.trainer.update,
    )  # fmt: skip


def _tell_start(trainer: Trainer, checkpoint: Checkpoint | None) -> None:
    """Tell loggers and console that the run starts, or from where it is resumed."""
    config, output = trainer.config, trainer.output
    if output.folder is not None:
        state: Mapping[str, Any] = {} if checkpoint is None else checkpoint.state
        trainer.reporter.start(
            RunStart(
                output.folder, output.name or run_name(config), to_dict(config), dict(output.tags),
                step=0 if checkpoint is None else checkpoint.step,
                num_bytes_kept=state.get("num_bytes_logged", 0) if config.resume else None,
            )
        )  # fmt: skip
    trainer.console.start_training(trainer.state.num_steps)

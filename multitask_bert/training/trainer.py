"""The Trainer: one encoder, several tasks in turn, one optimizer.

epochs -> rounds (data/mixing.py) -> one batch of each task in turn -> forward, backward, update
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from multitask_bert.config.checks import check
from multitask_bert.config.schema import ExperimentConfig, is_lower_better, run_name, task_epochs
from multitask_bert.config.tree import to_dict
from multitask_bert.data.collation import Indices
from multitask_bert.data.processor import SplitReport
from multitask_bert.data.streaming import TrainingStream
from multitask_bert.errors import InputError
from multitask_bert.heads import check_heads, metric_for_best
from multitask_bert.heads.trial import try_metrics
from multitask_bert.model.acceleration import accelerate, be_deterministic, empty_cache, fit_batching
from multitask_bert.model.devices import pick_device
from multitask_bert.model.embeddings import training_used_rows
from multitask_bert.model.encoder import what_is_kept
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.model.parts import freeze
from multitask_bert.records import Batch, EncodedExample, TaskResult
from multitask_bert.saving.best_model import BestCheckpoint
from multitask_bert.saving.store import Snapshot
from multitask_bert.tracking.console import Console
from multitask_bert.tracking.loggers import RunLogger, RunStart, make_loggers
from multitask_bert.tracking.reporter import Reporter
from multitask_bert.train_state import TrainState
from multitask_bert.training.averaging import WeightAverage
from multitask_bert.training.balancing import make_balancer
from multitask_bert.training.best_per_head import OwnBest
from multitask_bert.training.checkpoint import Savepoints, Stopped, put_back
from multitask_bert.training.collapse import WAY_OUT, CollapsedError
from multitask_bert.training.evaluation import Evaluator, as_test, gather_metrics
from multitask_bert.training.non_finite import investigate, leave_out, may_leave_out, refusal_of, refuse_stuck
from multitask_bert.training.optimization import Updater
from multitask_bert.training.preparation import prepare
from multitask_bert.training.steps import DoesNotFitError, NonFiniteStepError, make_gradients, steps_at
from multitask_bert.utils.clock import seconds_since
from multitask_bert.utils.seeding import seed_everything

log = logging.getLogger(__name__)

# Told step, steps of the whole run and scores of each evaluation; True: no need to go on.
Watcher = Callable[[int, int, Mapping[str, float]], bool]


class Trainer:
    """Trains and evaluates one model on several tasks.

    `train_datasets`, `eval_datasets`, `test_datasets`: by task name; items are `EncodedExample`s. `folder`: where the
    run leaves its files; None keeps the best weights in memory and writes nothing. `loggers`: told of everything;
    `close()` ends them. `watcher`: hears every evaluation, and may end a run that promises nothing. `name`: of the run
    in the loggers; None: that of the config, or its tasks.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        model: MultiTaskModel,
        tokenizer: Any,
        train_datasets: dict[str, Dataset[EncodedExample]],
        eval_datasets: dict[str, Dataset[EncodedExample]],
        *,
        test_datasets: dict[str, Dataset[EncodedExample]] | None = None,
        loggers: Sequence[RunLogger] = (),
        folder: Path | None = None,
        tags: Mapping[str, str] | None = None,
        console: Console | None = None,
        data_reports: Sequence[SplitReport] = (),
        watcher: Watcher | None = None,
        name: str | None = None,
    ) -> None:
        # What is trained, and on what
        self.config = config
        self.device = pick_device(config.trainer.device)
        self.model = model.to(self.device)
        accelerate(model, config.trainer)
        be_deterministic(config.deterministic, self.device)
        self.tokenizer = tokenizer
        self.train_datasets = dict(sorted(train_datasets.items()))
        self.eval_datasets = dict(sorted(eval_datasets.items()))
        self.test_datasets = dict(sorted((test_datasets or {}).items()))
        self.data_reports = data_reports

        # How its losses become one
        self.weights = {
            (t, name): head.config.weight for t, heads in model.heads.items() for name, head in heads.items()
        }
        self.balancer = make_balancer(config.balancing, self.weights)

        # Where it stands, and who is told
        self.state = TrainState()
        metric, higher = metric_for_best(config), config.trainer.higher_is_better
        higher = not is_lower_better(metric) if higher is None else higher
        self.best = BestCheckpoint(folder, metric=metric, is_higher_better=higher)
        self.own_best = OwnBest(folder, self.state, keeps=config.trainer.keep_best_per_head)
        self.folder = folder
        self.console = console or Console(quiet=True)
        self.watcher = watcher
        self.reporter = Reporter(loggers)
        # By "eval" and "test", the newest, and "best", eval at the best step; then by task.
        self.results: dict[str, dict[str, TaskResult]] = {}
        self._name, self._tags = name or run_name(config), dict(tags or {})
        self._stream: TrainingStream
        self.average: WeightAverage
        self._mean_counts: dict[tuple[str, str], float] = {}
        self._evaluator = Evaluator(
            self.model, config.batching, pad_id=self._pad_id, device=self.device, before_batch=self._heed_stop
        )
        self.savepoints = Savepoints(folder, config)
        self._stop: str | None = None  # the signal by which the run was asked to end
        self._is_finished = False

    @classmethod
    def from_config(
        cls,
        config: ExperimentConfig,
        *,
        folder: Path | None = None,
        tags: Mapping[str, str] | None = None,
        console: Console | None = None,
        watcher: Watcher | None = None,
        name: str | None = None,
    ) -> Trainer:
        """Tokenizer, data, model and loggers as the config says.

        Raises:
            InputError: bad config or data; refused before anything slower is loaded.
        """
        check(config)
        check_heads(config)
        loggers = [] if folder is None else make_loggers(config.logger)
        seed_everything(config.seed)
        preparation = prepare(config)
        data, heads = preparation.data, preparation.heads
        try_metrics(heads)
        if console is not None:
            console.show_data(data.reports)
            if (kept := what_is_kept(config.model)) is not None:
                console.say(kept)
        model = MultiTaskModel(
            preparation.load_encoder(), heads, pooling=config.model.pooling, head_init=config.model.head_init,
            max_length=config.batching.max_length,
            kinds={task: dataset[0].example.kind for task, dataset in data.train.items()},
        )  # fmt: skip
        return cls(
            config, model, preparation.tokenizer, dict(data.train), dict(data.dev),
            test_datasets=dict(data.test), loggers=loggers, folder=folder, tags=tags, console=console,
            data_reports=data.reports, watcher=watcher, name=name,
        )  # fmt: skip

    # Training

    def train(self) -> TrainState:
        """Epochs, rounds, steps; evaluations in between; in the end the best weights are in the model.

        Raises:
            Stopped: the run was asked to end (`ask_to_stop`), and its state is saved.
        """
        config, state = self.config.trainer, self.state
        seed_everything(self.config.seed)
        batching = fit_batching(self.config.batching, self.model, self.device, is_compiled=config.compile)
        stream = self._stream = TrainingStream(
            self.train_datasets, batching, self.config.mixing,
            num_epochs=config.num_epochs, min_steps=config.min_steps, task_epochs=task_epochs(self.config.tasks),
            pad_id=self._pad_id, seed=self.config.seed, update=config.update,
        )  # fmt: skip
        state.num_steps = stream.count_steps(config.max_steps)
        if not state.num_steps:
            raise InputError("no update would be made: tasks.<task>.num_epochs is too small for a batch of any task")
        self._mean_counts = stream.mean_counts()
        snapshot = self.savepoints.last(self.best)
        if self.folder is not None:
            self.reporter.start(self._start_of_run(self.folder, snapshot))
        self.console.start_training(state.num_steps)
        self.model.train()
        freeze(self.model, self.config.optimizer)
        with training_used_rows(self.model.encoder, stream.used_ids(), self.config.optimizer) as rows:
            updater = Updater(
                self.model, self.config.optimizer, self.config.scheduler,
                num_steps=state.num_steps, max_grad_norm=config.max_grad_norm, rows=rows,
                scaler=torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16"),
            )  # fmt: skip
            self.average = WeightAverage(self.model, self.config.averaging, num_steps=state.num_steps)
            if snapshot is not None:
                self._go_on_from(snapshot, updater)
            elif self.config.resume:
                self.console.say("no checkpoint to go on from: the run begins at its first step")
            while not self._is_over():
                self._train_epoch(updater)
            if self.state.best_score is None:  # it was lost, and nothing was left to train
                self._evaluate_and_keep_best()
        self.console.end_training()
        self.best.restore(self.model)
        self._is_finished = True
        return state

    def ask_to_stop(self, reason: str) -> None:
        """End after the current step, with a checkpoint to go on from; for signal handlers and other threads."""
        self._stop = reason

    def _train_epoch(self, updater: Updater) -> None:
        """What is left of the epoch; from a step on that does not fit into the device's memory, in smaller parts."""
        freeze(self.model, self.config.optimizer, epoch=self.state.epoch)
        while True:
            try:
                self._train_steps(updater)
                break
            except DoesNotFitError as error:
                num_places = error.half()
            self._stream.limit(num_places)
            log.warning(
                "step %d: out of memory; from here on at most %d places per forward pass, as "
                "batching.micro_batch_tokens=%d says from the start",
                self.state.step + 1, num_places, num_places,
            )  # fmt: skip
            empty_cache(self.device)
        self._end_epoch()

    def _train_steps(self, updater: Updater) -> None:
        state, stream = self.state, self._stream
        steps = stream.plan(state.epoch)
        num_done = round(state.epoch_progress * len(steps))
        first_step = state.step - num_done
        clock = time.perf_counter()
        for micro_batches in stream.epoch(state.epoch, start=num_done):
            try:
                self._step(micro_batches, updater)
            except NonFiniteStepError as error:
                self._leave_out(error, steps[state.step - first_step], updater)
            state.step += 1
            self.average.after_step(state.step)
            state.epoch_progress = (state.step - first_step) / len(steps)
            state.train_seconds += seconds_since(clock)
            if state.step % self.config.trainer.log_every == 0:
                self._flush_steps()
                refuse_stuck(updater, state.step)
            state.is_evaluation_due = self._is_evaluation_due()
            is_evaluated = self._evaluate_if_due()
            self._save_if_due(updater, is_evaluated=is_evaluated)
            clock = time.perf_counter()
            if self._is_over():
                break

    def _end_epoch(self) -> None:
        self.state.epoch, self.state.epoch_progress = self.state.epoch + 1, 0.0

    def _is_over(self) -> bool:
        state = self.state
        return state.step >= state.num_steps or state.stopped_early or state.pruned

    def _is_evaluation_due(self) -> bool:
        """After `eval_shares` of the steps, else every `eval_every` steps, else at the end of an epoch; in any case
        after the last step."""
        config, state = self.config.trainer, self.state
        if config.eval_shares:
            is_due = state.step in steps_at(config.eval_shares, state.num_steps)
        elif config.eval_every is not None:
            is_due = state.step % config.eval_every == 0
        else:
            is_due = state.epoch_progress == 1.0
        return is_due or self._is_over()

    # Saving, and going on

    def _save_if_due(self, updater: Updater, *, is_evaluated: bool) -> None:
        every, state = self.config.trainer.save_every, self.state
        is_due = is_evaluated if every is None else state.step % every == 0
        if is_due or self._stop is not None:
            self._save(updater)
        if self._stop is not None:
            raise Stopped(self._stop)

    def _save(self, updater: Updater, *, has_failed: bool = False) -> None:
        self._flush_steps()
        best = {task: result.summary() for task, result in self.results.get("best", {}).items()}
        self.savepoints.save(
            self.model, updater, self.state,
            has_failed=has_failed, average=self.average, balancer=self.balancer.state_dict(), best=best,
            micro_batch_tokens=self._stream.micro_batch_tokens,
        )  # fmt: skip

    def _go_on_from(self, snapshot: Snapshot, updater: Updater) -> None:
        put_back(snapshot, self.model, updater, self.state, self.average)
        self.balancer.load_state_dict(snapshot.state["balancer"])
        if "micro_batch_tokens" in snapshot.state:  # an older checkpoint has none
            self._stream.limit(snapshot.state["micro_batch_tokens"])
        self.results["best"] = {task: TaskResult(**summary) for task, summary in snapshot.state["best"].items()}
        self.console.say(f"going on from step {self.state.step} of {self.state.num_steps}")
        if self.state.is_evaluation_due:
            self._evaluate_and_keep_best()
        if self.state.epoch_progress == 1.0:
            self._end_epoch()

    def _step(self, micro_batches: list[Batch], updater: Updater) -> None:
        """One update.

        Raises:
            NonFiniteStepError, DoesNotFitError: it cannot be made, and nothing has changed.
        """
        losses = make_gradients(
            self.model, micro_batches, updater,
            balancer=self.balancer, mean_counts=self._mean_counts, device=self.device,
        )  # fmt: skip
        rates = {"train_lr": updater.rate}
        rates |= {f"train_lr_{part}": rate for part, rate in updater.rates_by_part.items()}
        updater.step()
        self.state.skipped_in_a_row = 0
        self.state.num_examples += sum(batch.num_examples for batch in micro_batches)
        self.state.num_tokens += sum(batch.num_tokens for batch in micro_batches)
        of_tasks: dict[str, Tensor] = {}
        for (task, head), loss in losses.by_head.items():
            name = f"train_{task}_loss"
            of_tasks[name] = of_tasks.get(name, 0.0) + self.weights[task, head] * loss
        self.reporter.hold({"train_loss": losses.total, **of_tasks, **rates}, step=self.state.step + 1)

    def _leave_out(self, error: NonFiniteStepError, indices: Indices, updater: Updater) -> None:
        """Go on without a step whose loss is no number, where the config allows it.

        Raises:
            NonFiniteLossError: it does not, or too many in a row were left out.
        """
        state = self.state
        finding = investigate(
            error, self.model, self.train_datasets, indices,
            step=state.step + 1, pad_id=self._pad_id, device=self.device,
        )  # fmt: skip
        if may_leave_out(self.config.trainer, state):
            leave_out(finding, updater, state)
            self.reporter.hold({"train_skipped_steps": float(state.num_skipped)}, step=state.step + 1)
            return
        refusal = refusal_of(finding, self.folder, state)
        self._save(updater, has_failed=True)
        raise refusal

    def _flush_steps(self) -> None:
        """Hand the losses of the last steps over."""
        losses = [metrics["train_loss"] for metrics in self.reporter.hand_over() if "train_loss" in metrics]
        if losses:
            self.reporter.tell({"train_tokens_per_second": self.state.tokens_per_second}, step=self.state.step)
            self.console.show_step(self.state, sum(losses) / len(losses))

    # Evaluating

    def evaluate(self, test: bool = False) -> dict[str, float]:
        """Scores of the weights as they are, on the evaluation sets or on the test sets.

        Keys: `eval_<task>_<head>_<metric>`, `eval_<task>_loss`, `eval_loss`, `eval_mean_f1`, `eval_mean_score`; the
        same for both sets. In the logs, those of the test sets begin with `test_`.

        Raises:
            InputError: no task has such a set.
            Stopped: in the middle of it the run was asked to end.
        """
        datasets = self.test_datasets if test else self.eval_datasets
        if not datasets:
            raise InputError(f"no {'test' if test else 'evaluation'} set: no task has one")
        self._flush_steps()
        results = self._results_on(datasets, test=test)
        self.results["test" if test else "eval"] = results
        metrics = gather_metrics(results, self.weights)
        self.reporter.tell(as_test(metrics) if test else metrics, step=self.state.step)
        return metrics

    def _results_on(self, datasets: Mapping[str, Dataset[EncodedExample]], *, test: bool) -> dict[str, TaskResult]:
        return {
            task: self._evaluator.evaluate(task, dataset, test=test, joint=self.config.tasks[task].joint_accuracy)
            for task, dataset in datasets.items()
        }

    def evaluate_own_best(self) -> dict[str, dict[str, Any]]:
        """Test scores of each head with the weights of its own best step; see `OwnBest.test`."""
        try:
            return self.own_best.test(self.model, self._evaluator, self.test_datasets)
        finally:
            self.best.restore(self.model)

    def _evaluate_if_due(self) -> bool:
        """Whether it was, and is made; one that a stop cuts short stays due."""
        if self.state.is_evaluation_due:
            with contextlib.suppress(Stopped):  # raised again once the checkpoint is there
                self._evaluate_and_keep_best()
                return True
        return False

    def _evaluate_and_keep_best(self) -> None:
        """Evaluate the weights and, where there is one, their average; the better of the two may be the best so far."""
        config, state = self.config.trainer, self.state
        metrics, results = self.evaluate(), self.results["eval"]
        self.own_best.offer(results, self.model, self.tokenizer)
        title, is_best, is_average = f"step {state.step}", False, False
        self.average.at_evaluation(state.step)
        if self.average.is_ready:
            with self.average.applied():
                of_average, averaged = self._evaluate_average()
                is_average = self.best.prefers(of_average, metrics)
                if is_average:
                    metrics, results = of_average, averaged
                    is_best = self.best.offer(self.model, self.tokenizer, metrics, state, weights="average")
            title += ", averaged weights" if is_average else ", plain weights (their average is not better)"
        if not is_average:
            is_best = self.best.offer(self.model, self.tokenizer, metrics, state)
        state.is_evaluation_due = False
        state.score_history.append(metrics[self.best.metric])
        self.results["eval"] = results
        if is_best:
            self.results["best"] = results
        self.console.show_scores(title, results, is_best=is_best)
        state.stopped_early = config.patience is not None and state.evaluations_since_best >= config.patience
        self._note_collapses()
        if self.watcher is not None:
            state.pruned = bool(self.watcher(state.step, state.num_steps, metrics)) and not self._is_over()

    def _evaluate_average(self) -> tuple[dict[str, float], dict[str, TaskResult]]:
        """Metrics and results of the averaged weights, which are in the model; in the logs, `average_eval_…`."""
        results = self._results_on(self.eval_datasets, test=False)
        self.own_best.offer(results, self.model, self.tokenizer)
        metrics = gather_metrics(results, self.weights)
        self.reporter.tell({f"average_{key}": value for key, value in metrics.items()}, step=self.state.step)
        return metrics, results

    def _note_collapses(self) -> None:
        """Name and count the heads that have learnt nothing.

        Raises:
            CollapsedError: half of the run is over, one never learnt anything, and the config asks to begin anew.
        """
        state = self.state
        state.num_evaluations += 1
        for task, result in self.results["eval"].items():
            for head, how in result.collapsed.items():
                name = f"{task}.{head}"
                state.num_collapses[name] = state.num_collapses.get(name, 0) + 1
                self.console.say(f"step {state.step}: {name} {how}; {WAY_OUT}")
        never = [name for name, number in state.num_collapses.items() if number == state.num_evaluations]
        if never and self.config.trainer.restart_collapsed and 2 * state.step >= state.num_steps:
            raise CollapsedError(f"step {state.step} of {state.num_steps}: {', '.join(never)} learnt nothing so far")

    def _heed_stop(self) -> None:
        """End an evaluation once the run was asked to stop.

        Raises:
            Stopped: that was asked for, and a checkpoint to go on from is there or can be written.
        """
        if self._stop is not None and self.savepoints.are_kept:
            raise Stopped(self._stop)

    # Telling

    def close(self) -> None:
        """End the loggers; safe to call twice."""
        self.console.close()
        unfinished = "FAILED" if self._stop is None else "KILLED"
        self.reporter.close(("PRUNED" if self.state.pruned else "FINISHED") if self._is_finished else unfinished)

    def _start_of_run(self, folder: Path, snapshot: Snapshot | None) -> RunStart:
        """What the loggers are told first."""
        state: Mapping[str, Any] = {} if snapshot is None else snapshot.state
        return RunStart(
            folder, self._name, to_dict(self.config), self._tags,
            step=state["train"]["step"] if state else 0,
            num_bytes_kept=state.get("num_bytes_logged", 0) if self.config.resume else None,
        )  # fmt: skip

    @property
    def _pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

"""The Trainer: one encoder, several tasks, one optimizer. It holds what a run works on; the steps are in loop.py."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import Any

from torch.utils.data import Dataset

from multitask_bert.config.checks import check
from multitask_bert.config.schema import ExperimentConfig, is_lower_better
from multitask_bert.errors import InputError
from multitask_bert.heads import check_heads, metric_for_best, window_strides
from multitask_bert.heads.scoring import check_custom_metrics
from multitask_bert.model.earlier_heads import keep_heads
from multitask_bert.model.encoder import describe_earlier_model
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import EncodedExample, TaskResult
from multitask_bert.saving.best_model import BestModel
from multitask_bert.saving.store import CheckpointStore
from multitask_bert.tracking.loggers import make_loggers
from multitask_bert.tracking.reporter import Reporter
from multitask_bert.train_state import TrainState
from multitask_bert.training.balancing import config_weights, head_weights, make_balancer
from multitask_bert.training.best_per_head import BestPerHead
from multitask_bert.training.evaluation import Evaluator
from multitask_bert.training.loop import Stopped, training_loop
from multitask_bert.training.metric_keys import as_test, gather_metrics
from multitask_bert.training.optimization import check_optimizer
from multitask_bert.training.output import RunOutput
from multitask_bert.training.preparation import prepare, resolve_precision, to_device
from multitask_bert.utils.ranks import this_run
from multitask_bert.utils.seeding import seed_everything, seed_rank

Datasets = dict[str, Dataset[EncodedExample]]  # by task


class Trainer:
    """Trains and evaluates one model on several tasks.

    `train_datasets`, `eval_datasets`, `test_datasets`: by task. `output`: the folder of the run, its loggers and so on;
    by default it writes nothing.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        model: MultiTaskModel,
        tokenizer: Any,
        train_datasets: Datasets,
        eval_datasets: Datasets,
        *,
        test_datasets: Datasets | None = None,
        output: RunOutput | None = None,
    ) -> None:
        # What is trained, by whom, and on what
        self.ranks = this_run()
        self.output = output = output or RunOutput()
        self.config = config = resolve_precision(config, output.console.say)
        self.model, self.tokenizer = model, tokenizer
        self.device = to_device(model, config)
        self.pad_id = int(tokenizer.pad_token_id or 0)
        self.train_datasets = dict(sorted(train_datasets.items()))
        self.eval_datasets = dict(sorted(eval_datasets.items()))
        self.test_datasets = dict(sorted((test_datasets or {}).items()))

        # How the losses become one, and the logits scores
        self.weights = head_weights(model)
        self.balancer = make_balancer(config.balancing, self.weights)
        myself = weakref.proxy(self)  # in a cycle, the weights would outlive the run until Python looks for cycles
        self.evaluator = Evaluator(
            model, config, pad_id=self.pad_id, device=self.device,
            before_batch=lambda: myself._stop_evaluation_if_asked(),
        )  # fmt: skip

        # Who is told
        self.folder, self.console, self.watcher = output.folder, output.console, output.watcher
        self.reporter = Reporter(output.loggers)

        # How far the run is, and what of it is saved
        self.state = TrainState()
        metric, higher = metric_for_best(config), config.trainer.higher_is_better
        higher = not is_lower_better(metric) if higher is None else higher
        self.best = BestModel(self.folder, metric=metric, is_higher_better=higher)
        self.best_per_head = BestPerHead(self.folder, self.state, keeps=config.trainer.keep_best_per_head)
        self._has_folder = self.ranks.of_first(self.folder is not None)  # rank 0 writes for all
        self.checkpoints = (
            None if self.folder is None else CheckpointStore(self.folder, num_kept=config.trainer.keep_last)
        )
        # By "eval" and "test", the newest, and "best", eval at the best step; then by task.
        self.results: dict[str, dict[str, TaskResult]] = {}
        self.stop_reason: str | None = None  # the signal by which the run was asked to end, once all processes know
        self._asked_to_stop: str | None = None  # the signal that this process got
        self._is_finished = False

    @classmethod
    def from_config(cls, config: ExperimentConfig, output: RunOutput | None = None) -> Trainer:
        """Make tokenizer, data, model and loggers (these only with a folder) as the config says.

        Raises:
            InputError: bad config or data; refused before anything slower is loaded.
        """
        check(config)
        check_heads(config)
        output = output or RunOutput()
        loggers = [] if output.folder is None else make_loggers(config.logger)
        make_balancer(config.balancing, config_weights(config))  # refused before anything slower is loaded
        check_optimizer(config.optimizer)
        seed_everything(config.seed)
        with this_run().one_per_machine_first():
            preparation = prepare(config)
        data, heads = preparation.data, preparation.heads
        check_custom_metrics(heads)
        output.console.show_data(data.reports)
        if (earlier := describe_earlier_model(config.model)) is not None:
            output.console.say(earlier)
        splits = {**data.test, **data.dev, **data.train}  # by task, one that it has
        model = MultiTaskModel(
            preparation.load_encoder(), heads, pooling=config.model.pooling, head_init=config.model.head_init,
            max_length=config.batching.max_length, window_strides=window_strides(config),
            input_types={task: splits[task][0].example.input_type for task in heads if task in splits},
        )  # fmt: skip
        for line in keep_heads(model, config.model) if config.model.keep_heads else ():
            output.console.say(line)
        return cls(
            config, model, preparation.tokenizer, dict(data.train), dict(data.dev), test_datasets=dict(data.test),
            output=replace(output, loggers=[*loggers, *output.loggers], data_reports=data.reports),
        )  # fmt: skip

    def train(self) -> TrainState:
        """Train to the end; the best weights are then in the model.

        Raises:
            Stopped: the run was asked to end (`ask_to_stop`), and its state is saved.
        """
        seed_everything(self.config.seed)
        seed_rank(self.config.seed, self.ranks.rank)
        with training_loop(self) as loop:
            loop.run()
        self.console.end_training()
        self.best.restore(self.model)
        self._is_finished = True
        return self.state

    def evaluate(self, test: bool = False) -> dict[str, float]:
        """Scores of the weights as they are, on the evaluation sets or on the test sets.

        Keys: `eval_<task>_<head>_<metric>`, `eval_<task>_loss`, `eval_loss`, `eval_mean_f1`, `eval_mean_score`; the
        same for both sets. In the logs, those of the test sets begin with `test_`.

        Raises:
            InputError: no task has such a set.
            Stopped: the run was asked to end meanwhile.
        """
        datasets = self.test_datasets if test else self.eval_datasets
        if not datasets:
            raise InputError(f"no {'test' if test else 'evaluation'} set: no task has one")
        self.log_steps()
        results = self.evaluator.evaluate_all(datasets, tune=not test, intervals=test, trained=self.train_datasets)
        self.results["test" if test else "eval"] = results
        metrics = gather_metrics(results, self.weights)
        self.reporter.log(as_test(metrics) if test else metrics, step=self.state.step)
        return metrics

    def evaluate_best_per_head(self) -> dict[str, dict[str, Any]]:
        """Test scores of each head with the weights of its own best step; see `BestPerHead.test`."""
        try:
            return self.best_per_head.test(self.model, self.evaluator, self.test_datasets)
        finally:
            self.best.restore(self.model)

    def log_steps(self) -> None:
        """Log the losses of the last steps; waits for the device."""
        losses = [metrics["train_loss"] for metrics in self.reporter.flush() if "train_loss" in metrics]
        if losses:
            self.reporter.log({"train_tokens_per_second": self.state.tokens_per_second}, step=self.state.step)
            self.console.show_step(self.state, sum(losses) / len(losses))

    def ask_to_stop(self, reason: str) -> None:
        """End after the current step, with a checkpoint to resume from; for signal handlers and other threads."""
        self._asked_to_stop = reason
        if self.ranks.size == 1:
            self.stop_reason = reason

    def agree_to_stop(self) -> None:
        """Between two steps: where one of several processes was asked to stop, let all of them know."""
        if self.ranks.size > 1 and self.ranks.largest(self._asked_to_stop is not None):
            self.stop_reason = next(reason for reason in self.ranks.gather(self._asked_to_stop) if reason is not None)

    @property
    def saves_checkpoints(self) -> bool:
        return self._has_folder and self.config.trainer.keep_last > 0

    def close(self) -> None:
        """End the loggers; safe to call twice."""
        self.console.close()
        unfinished = "FAILED" if self.stop_reason is None else "KILLED"
        self.reporter.close(("PRUNED" if self.state.pruned else "FINISHED") if self._is_finished else unfinished)

    def _stop_evaluation_if_asked(self) -> None:
        """Called before each batch of an evaluation.

        Raises:
            Stopped: the run was asked to end, and a checkpoint is there or can be saved.
        """
        if self.stop_reason is not None and self.saves_checkpoints:
            raise Stopped(self.stop_reason)

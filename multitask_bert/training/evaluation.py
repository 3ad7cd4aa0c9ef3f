"""Step 9 of the flow: logits become predictions, predictions become scores. One pass gives loss and scores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.data.batching import plan_evaluation
from multitask_bert.data.loading import Loader
from multitask_bert.data.splits import as_split, group_windows
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, is_f1
from multitask_bert.heads.scoring import naming
from multitask_bert.model.acceleration import empty_cache
from multitask_bert.model.devices import is_out_of_memory
from multitask_bert.model.multitask import MultiTaskModel, logits_by_example
from multitask_bert.records import EncodedExample, Example, Prediction, TaskResult
from multitask_bert.training.collapse import collapse_of
from multitask_bert.utils.bootstrap import interval_of_counts

log = logging.getLogger(__name__)


class Evaluator:
    """Evaluates data sets; once a batch did not fit into the device's memory, in smaller batches.

    `before_batch`: called before each batch; what it raises ends the evaluation.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        config: ExperimentConfig,
        *,
        pad_id: int,
        device: torch.device,
        before_batch: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self.pad_id, self.device, self.before_batch = model, pad_id, device, before_batch
        self.tasks = config.tasks
        self.batch_size, self.max_tokens = config.batching.eval_batch_size, config.batching.eval_max_tokens

    def evaluate_all(self, datasets: Mapping[str, Dataset[EncodedExample]], *, test: bool) -> dict[str, TaskResult]:
        """The results on the test sets, or on the dev sets, by task.

        Raises:
            InputError: one example alone does not fit into the device's memory.
        """
        return {
            task: self.evaluate(task, dataset, test=test, joint=self.tasks[task].joint_accuracy)
            for task, dataset in datasets.items()
        }

    def evaluate(self, task: str, dataset: Dataset[EncodedExample], *, test: bool, joint: bool) -> TaskResult:
        """The result on a test set, with intervals, or on a dev set, on which heads are tuned.

        `joint`: whether the result has the joint accuracy, too.

        Raises:
            InputError: one example alone does not fit into the device's memory.
        """
        while True:
            try:
                return evaluate_task(
                    self.model, task, dataset,
                    batch_size=self.batch_size, max_tokens=self.max_tokens, pad_id=self.pad_id, device=self.device,
                    tune=not test, intervals=test, joint_accuracy=joint,
                    before_batch=self.before_batch,
                )  # fmt: skip
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.max_tokens == 1:
                    raise InputError(
                        f"evaluating {task}: out of memory; one example does not fit into the device's memory; set "
                        f"trainer.precision=bf16 or a smaller batching.max_length"
                    ) from None
            self.max_tokens //= 2
            log.warning("evaluation: out of memory; from here on batching.eval_max_tokens=%d", self.max_tokens)
            empty_cache(self.device)


@torch.inference_mode()
def evaluate_task(
    model: MultiTaskModel,
    task: str,
    dataset: Dataset[EncodedExample],
    *,
    batch_size: int,
    max_tokens: int | None = None,
    pad_id: int,
    device: torch.device,
    tune: bool = False,
    joint_accuracy: bool = False,
    intervals: bool = False,
    before_batch: Callable[[], None] = lambda: None,
) -> TaskResult:
    """Predict and score one data set; the model is in eval mode meanwhile.

    `tune`: let heads choose what the config leaves open, such as thresholds, and look for heads that have learned
    nothing; for dev only, never for test. `intervals`: also the 95% bootstrap interval of each head's headline score.
    """
    heads = model.heads[task]
    batches = plan_evaluation(as_split(dataset).lengths(), batch_size, max_tokens)
    loss_sums: dict[str, float] = dict.fromkeys(heads, 0.0)
    counts: dict[str, int] = dict.fromkeys(heads, 0)
    frequencies = {name: _frequency_logits(head, device) for name, head in heads.items()} if tune else {}
    frequency_sums: dict[str, float] = {name: 0.0 for name, logits_1L in frequencies.items() if logits_1L is not None}
    found: dict[str, dict[int, Prediction]] = {name: {} for name in heads}
    loaded = Loader({task: dataset}, pad_id=pad_id).load([{task: batch} for batch in batches])
    with evaluating(model):
        for indices, (batch,) in zip(batches, loaded, strict=True):
            before_batch()
            moved = batch.to(device)
            outputs = model(moved)
            for name, head in heads.items():
                output, target = outputs[task, name], batch.targets[task, name]
                loss_sums[name] += float(output.loss_sum)
                counts[name] += output.count
                if (logits_1L := frequencies.get(name)) is not None:
                    of_frequencies = head.loss(logits_1L.expand(len(target.value_M), -1), moved.targets[task, name])
                    frequency_sums[name] += float(of_frequencies.loss_sum)
                for index, logits in zip(indices, logits_by_example(output, target, batch.num_examples), strict=True):
                    found[name][index] = head.decode(logits, dataset[index])
    result = TaskResult()
    windows: list[range] = []  # by example, the indices of its windows
    examples: list[Example] = []
    for group in group_windows(as_split(dataset)):
        first = windows[-1].stop if windows else 0
        windows.append(range(first, first + len(group)))
        examples.append(group[0].example)
    for name, head in heads.items():
        golds = [head.spelled(example.labels[name]) for example in examples]
        predictions = [head.join([found[name][index] for index in indices]) for indices in windows]
        result.predictions[name] = head.tune(golds, predictions) if tune else predictions
        if all(gold is None for gold in golds):
            continue  # there is nothing to score
        if counts[name]:  # else no label is in reach of the model: it is scored as wrong, and has no loss
            result.losses[name] = loss_sums[name] / counts[name]
        with naming(task, name):
            result.scores[name] = head.score(golds, result.predictions[name])
        if tune and counts[name]:
            frequency_loss = frequency_sums[name] / counts[name] if name in frequency_sums else None
            score = next(iter(result.scores[name].values()))
            how = collapse_of(
                head, golds, result.predictions[name],
                score=score, loss=result.losses[name], frequency_loss=frequency_loss,
            )  # fmt: skip
            result.collapsed |= {} if how is None else {name: how}
        if intervals and (interval := head.interval(golds, result.predictions[name])) is not None:
            result.intervals[name] = interval
    if joint_accuracy:
        are_right_N1 = np.array([[is_right] for is_right in all_right(heads, examples, result.predictions)], float)
        result.joint_accuracy = float(are_right_N1.mean()) if len(are_right_N1) else 0.0
        if intervals and len(are_right_N1):
            result.joint_interval = interval_of_counts(are_right_N1, lambda sums_R1: sums_R1[:, 0] / len(are_right_N1))
    return result


def _frequency_logits(head: Head, device: torch.device) -> torch.Tensor | None:
    """The logits_1L that predict the label frequencies in train; None if the head has none."""
    logits = head.frequency_logits()
    return None if logits is None else torch.tensor([logits], device=device)


@contextmanager
def evaluating(model: MultiTaskModel) -> Iterator[None]:
    """Switch to eval mode; restore the mode on exit, also after an error."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def all_right(
    heads: Mapping[str, Head], examples: Sequence[Example], predictions: Mapping[str, Sequence[Prediction]]
) -> list[bool]:
    """Whether every head is right, for each example that has a label for every head."""
    return [
        all(head.is_right(head.spelled(example.labels[name]), predictions[name][n]) for name, head in heads.items())
        for n, example in enumerate(examples)
        if all(example.labels[name] is not None for name in heads)
    ]


def gather_metrics(results: Mapping[str, TaskResult], weights: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """The scores by the keys of a run: `eval_<task>_<head>_<metric>`, `eval_<task>_loss`, `eval_loss`, the two means,
    and `eval_<task>_joint_accuracy` where the task asks for it (it counts in neither mean).

    A task's loss is the weighted sum of its heads' mean losses; `eval_loss` is the mean over tasks; `eval_mean_f1`
    the mean of the F1 of every head that has one (the first metric that is an F1); `eval_mean_score` the mean
    headline score.
    """
    metrics: dict[str, float] = {}
    f1s: list[float] = []
    headlines: list[float] = []
    task_losses: list[float] = []
    for task, result in results.items():
        for head, scores in result.scores.items():
            metrics |= {f"eval_{task}_{head}_{name}": score for name, score in scores.items()}
            f1s += [score for name, score in scores.items() if is_f1(name)][:1]
            headlines.append(next(iter(scores.values())))
        if result.joint_accuracy is not None:
            metrics[f"eval_{task}_joint_accuracy"] = result.joint_accuracy
        task_losses.append(sum(weights[task, head] * loss for head, loss in result.losses.items()))
        metrics[f"eval_{task}_loss"] = task_losses[-1]
    metrics["eval_loss"] = sum(task_losses) / len(task_losses)
    if f1s:
        metrics["eval_mean_f1"] = sum(f1s) / len(f1s)
    metrics["eval_mean_score"] = sum(headlines) / len(headlines)
    return metrics


def gather_intervals(results: Mapping[str, TaskResult]) -> dict[str, tuple[float, float]]:
    """The 95% intervals, by the keys of their scores."""
    intervals = {
        f"eval_{task}_{head}_{next(iter(result.scores[head]))}": interval
        for task, result in results.items()
        for head, interval in result.intervals.items()
    }
    joint = {f"eval_{task}_joint_accuracy": result.joint_interval for task, result in results.items()}
    return intervals | {key: interval for key, interval in joint.items() if interval is not None}


def as_test(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics of a test set with `test_…` keys instead of `eval_…`, for logs that hold both."""
    return {key.replace("eval_", "test_", 1): value for key, value in metrics.items()}

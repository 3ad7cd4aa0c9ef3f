"""Step 9 of the flow: logits become predictions, predictions become scores (named in metric_keys.py). One pass gives
loss and scores.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.data.batching import plan_evaluation
from multitask_bert.data.loading import Loader
from multitask_bert.data.splits import as_split, group_windows
from multitask_bert.errors import InputError
from multitask_bert.heads import Head
from multitask_bert.heads.scoring import naming
from multitask_bert.model.acceleration import empty_cache
from multitask_bert.model.devices import is_out_of_memory
from multitask_bert.model.multitask import MultiTaskModel, logits_by_example
from multitask_bert.records import POOLED, EncodedExample, Example, Prediction, TaskResult, task_of
from multitask_bert.training.collapse import collapse_of
from multitask_bert.utils.bootstrap import interval_of_counts
from multitask_bert.utils.ranks import this_run

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
        self.model, self.tasks = model, config.tasks
        self.options = PassOptions(
            config.batching.eval_batch_size, config.batching.eval_max_tokens, pad_id, device, before_batch
        )

    def evaluate_all(
        self, datasets: Mapping[str, Dataset[EncodedExample]], *, test: bool, trained: Collection[str] | None = None
    ) -> dict[str, TaskResult]:
        """The results on the test sets, or on the dev sets, by task; those of a named test set as `task.name`. The
        scores of shared heads over all their tasks follow, as `task.pooled`, by the task that has the weights.

        `trained`: the tasks that have training data; None: all. On the dev sets of these, heads are tuned, a shared one
        once, and then the others are evaluated.

        Raises:
            InputError: one example alone does not fit into the device's memory.
        """
        is_trained = {name: trained is None or task_of(name) in trained for name in datasets}
        found = {name: self._predict(name, datasets[name], tune=not test) for name in datasets if is_trained[name]}
        if not test:
            tune_heads(self.model, found)
        found |= {name: self._predict(name, datasets[name]) for name in datasets if not is_trained[name]}
        results = {
            name: score_task(
                self.model, found[name], tune=not test and is_trained[name], intervals=test,
                joint_accuracy=self.tasks[task_of(name)].joint_accuracy,
            )
            for name in datasets
        }  # fmt: skip
        return results | score_pooled(self.model, found, intervals=test)

    def _predict(self, name: str, dataset: Dataset[EncodedExample], *, tune: bool = False) -> Predicted:
        """What a task's heads predict for a split; in smaller batches where memory is short."""
        while True:
            try:
                return predict_task(self.model, task_of(name), dataset, self.options, tune=tune)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.options.max_tokens == 1:
                    raise InputError(
                        f"evaluating {name}: out of memory; one example does not fit into the device's memory; set "
                        f"trainer.precision=bf16 or a smaller batching.max_length"
                    ) from None
            assert self.options.max_tokens is not None
            self.options = replace(self.options, max_tokens=self.options.max_tokens // 2)
            log.warning("evaluation: out of memory; from here on batching.eval_max_tokens=%d", self.options.max_tokens)
            empty_cache(self.options.device)


@dataclass(frozen=True)
class PassOptions:
    """How a model passes over a data set."""

    batch_size: int  # examples
    max_tokens: int | None  # of a batch, padding included, that run at once; None: all
    pad_id: int
    device: torch.device
    before_batch: Callable[[], None]  # what it raises ends the pass


@dataclass(frozen=True)
class HeadResult:
    """What a head gives for a batch of an evaluation."""

    loss_sum: float
    count: int  # of known targets
    frequency_loss_sum: float  # of the label frequencies in train; 0.0 if it was not asked for
    predictions: list[Prediction]  # by example


@dataclass
class Predicted:
    """What a task's heads predict for a split, before it is scored."""

    task: str
    examples: list[Example]
    golds: dict[str, list[Any]]  # by head, in its spelling
    predictions: dict[str, list[Prediction]]  # by head
    losses: dict[str, float]  # by head, the mean; none where no label is in reach of the model
    frequency_losses: dict[str, float]  # by head, that of the label frequencies in train, if it was asked for


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
    options = PassOptions(batch_size, max_tokens, pad_id, device, before_batch)
    found = predict_task(model, task, dataset, options, tune=tune)
    if tune:
        tune_heads(model, {task: found})
    return score_task(model, found, tune=tune, intervals=intervals, joint_accuracy=joint_accuracy)


@torch.inference_mode()
def predict_task(
    model: MultiTaskModel, task: str, dataset: Dataset[EncodedExample], options: PassOptions, *, tune: bool
) -> Predicted:
    """Predict a data set in one pass; `tune` as in `evaluate_task`.

    Of several processes, each takes a share of the batches, and all get the result of the whole.
    """
    heads = model.heads[task]
    batches = plan_evaluation(as_split(dataset).lengths(), options.batch_size, options.max_tokens)
    loss_sums: dict[str, float] = dict.fromkeys(heads, 0.0)
    counts: dict[str, int] = dict.fromkeys(heads, 0)
    frequencies = {name: _frequency_logits(head, options.device) for name, head in heads.items()} if tune else {}
    frequency_sums: dict[str, float] = {name: 0.0 for name, logits_1L in frequencies.items() if logits_1L is not None}
    found: dict[str, dict[int, Prediction]] = {name: {} for name in heads}

    with evaluating(model):
        own = _run_batches(model, task, dataset, batches, frequencies, options)
        for number, results in _of_all_processes(own):
            for name, result in results.items():
                loss_sums[name] += result.loss_sum
                counts[name] += result.count
                if name in frequency_sums:
                    frequency_sums[name] += result.frequency_loss_sum
                found[name].update(zip(batches[number], result.predictions, strict=True))
    windows: list[range] = []  # by example, the indices of its windows
    examples: list[Example] = []
    for group in group_windows(as_split(dataset)):
        first = windows[-1].stop if windows else 0
        windows.append(range(first, first + len(group)))
        examples.append(group[0].example)
    return Predicted(
        task,
        examples,
        golds={name: [head.spelled(example.labels[name]) for example in examples] for name, head in heads.items()},
        predictions={
            name: [head.join([found[name][index] for index in indices]) for indices in windows]
            for name, head in heads.items()
        },
        losses={name: loss_sums[name] / count for name, count in counts.items() if count},
        frequency_losses={name: total / counts[name] for name, total in frequency_sums.items() if counts[name]},
    )


def _run_batches(
    model: MultiTaskModel,
    task: str,
    dataset: Dataset[EncodedExample],
    batches: Sequence[list[int]],
    frequencies: Mapping[str, torch.Tensor | None],
    options: PassOptions,
) -> Iterator[tuple[int, dict[str, HeadResult]]]:
    """The number of each batch, and what each head gives for it; of several processes, of this one's share.

    `frequencies`: by head, the logits_1L of the label frequencies in train, whose loss is asked for.
    """
    ranks = this_run()
    if ranks.size > 1:
        options.before_batch()  # also in a process without a batch
    own = range(ranks.rank, len(batches), ranks.size)
    loaded = Loader({task: dataset}, pad_id=options.pad_id).load([{task: batches[number]} for number in own])
    for number, (batch,) in zip(own, loaded, strict=True):
        options.before_batch()
        moved = batch.to(options.device)
        outputs = model(moved, max_tokens=options.max_tokens)
        results = {}
        for name, head in model.heads[task].items():
            output, target = outputs[task, name], batch.targets[task, name]
            frequency_loss_sum = 0.0
            if (logits_1L := frequencies.get(name)) is not None:
                of_frequencies = head.loss(logits_1L.expand(len(target.value_M), -1), moved.targets[task, name])
                frequency_loss_sum = float(of_frequencies.loss_sum)
            by_example = zip(batches[number], logits_by_example(output, target, batch.num_examples), strict=True)
            predictions = [head.decode(logits, dataset[index]) for index, logits in by_example]
            results[name] = HeadResult(float(output.loss_sum), output.count, frequency_loss_sum, predictions)
        yield number, results


def _of_all_processes(
    results: Iterator[tuple[int, dict[str, HeadResult]]],
) -> Iterable[tuple[int, dict[str, HeadResult]]]:
    """The results of all batches, in the order of their numbers, from those of this process.

    Raises:
        torch.OutOfMemoryError: a batch of any process did not fit.
    """
    ranks = this_run()
    if ranks.size == 1:
        return results
    own: list[tuple[int, dict[str, HeadResult]]] | None
    try:
        own = list(results)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        own = None
    shares = ranks.gather(own)
    if any(share is None for share in shares):
        raise torch.OutOfMemoryError("a batch does not fit")
    return sorted((result for share in shares if share is not None for result in share), key=lambda one: one[0])


@torch.inference_mode()
def tune_heads(model: MultiTaskModel, found: Mapping[str, Predicted]) -> None:
    """Let heads choose what the config leaves open, such as thresholds; a shared one once, on the dev sets of all its
    tasks together. Their predictions in `found` become those that follow.
    """
    for (task, name), members in _by_owner(model, found).items():
        golds = [gold for one, head in members for gold in one.golds[head]]
        tuned = iter(model.heads[task][name].tune(golds, [p for one, head in members for p in one.predictions[head]]))
        for one, head in members:
            one.predictions[head] = list(itertools.islice(tuned, len(one.examples)))


def score_task(
    model: MultiTaskModel, found: Predicted, *, tune: bool, intervals: bool, joint_accuracy: bool
) -> TaskResult:
    """Score the predictions of a task's heads; the options are those of `evaluate_task`."""
    heads, examples = model.heads[found.task], found.examples
    result = TaskResult(predictions=found.predictions)
    for name, head in heads.items():
        golds, predictions = found.golds[name], found.predictions[name]
        if all(gold is None for gold in golds):
            continue  # there is nothing to score
        if name in found.losses:  # else no label is in reach of the model: it is scored as wrong, and has no loss
            result.losses[name] = found.losses[name]
        with naming(found.task, name):
            result.scores[name] = head.score(golds, predictions)
        if tune and name in found.losses:
            score = next(iter(result.scores[name].values()))
            how = collapse_of(
                head, golds, predictions,
                score=score, loss=result.losses[name], frequency_loss=found.frequency_losses.get(name),
            )  # fmt: skip
            result.collapsed |= {} if how is None else {name: how}
        if intervals and (interval := head.interval(golds, predictions)) is not None:
            result.intervals[name] = interval
        if intervals and (counts := head.counts(golds, predictions)) is not None:
            result.counts[name] = counts
    if joint_accuracy:
        are_right_N1 = np.array([[is_right] for is_right in all_right(heads, examples, result.predictions)], float)
        result.joint_accuracy = float(are_right_N1.mean()) if len(are_right_N1) else 0.0
        if intervals and len(are_right_N1):
            result.joint_interval = interval_of_counts(are_right_N1, lambda sums_R1: sums_R1[:, 0] / len(are_right_N1))
    return result


def score_pooled(model: MultiTaskModel, found: Mapping[str, Predicted], *, intervals: bool) -> dict[str, TaskResult]:
    """The scores of each head that several tasks share, over the examples of all of them, as `task.pooled`; named test
    sets are not among these.
    """
    results: dict[str, TaskResult] = {}
    for (task, name), members in _by_owner(model, {key: one for key, one in found.items() if key == one.task}).items():
        golds = [gold for one, head in members for gold in one.golds[head]]
        if len(members) < 2 or all(gold is None for gold in golds):
            continue
        head = model.heads[task][name]
        predictions = [prediction for one, head_name in members for prediction in one.predictions[head_name]]
        result = results.setdefault(f"{task}.{POOLED}", TaskResult())
        with naming(task, name):
            result.scores[name] = head.score(golds, predictions)
        if intervals and (interval := head.interval(golds, predictions)) is not None:
            result.intervals[name] = interval
    return results


def _by_owner(
    model: MultiTaskModel, found: Mapping[str, Predicted]
) -> dict[tuple[str, str], list[tuple[Predicted, str]]]:
    """By head that has weights, as task and name: the predictions made with it, each with the head's name there."""
    members: dict[tuple[str, str], list[tuple[Predicted, str]]] = {}
    for one in found.values():
        for name in model.heads[one.task]:
            members.setdefault(model.owner_of(one.task, name), []).append((one, name))
    return members


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

"""From the predictions for a split to its scores: of each head, of all heads together, of a head over its tasks."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from multitask_bert.heads import Head
from multitask_bert.heads.scoring import naming
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import POOLED, Example, Prediction, TaskResult
from multitask_bert.training.collapse import collapse_of
from multitask_bert.training.evaluation_pass import Predicted
from multitask_bert.utils.bootstrap import interval_of_counts


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


def all_right(
    heads: Mapping[str, Head], examples: Sequence[Example], predictions: Mapping[str, Sequence[Prediction]]
) -> list[bool]:
    """Whether every head is right, for each example that has a label for every head."""
    return [
        all(head.is_right(head.spelled(example.labels[name]), predictions[name][n]) for name, head in heads.items())
        for n, example in enumerate(examples)
        if all(example.labels[name] is not None for name in heads)
    ]

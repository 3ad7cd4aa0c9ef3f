"""The keys of a run's scores: `eval_<task>_<head>_<metric>`, and those of means, losses and joint accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multitask_bert.heads import is_f1
from multitask_bert.records import TaskResult, task_of


def gather_metrics(results: Mapping[str, TaskResult], weights: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """The scores by the keys of a run: `eval_<task>_<head>_<metric>`, `eval_<task>_loss`, `eval_loss`, the two means,
    and `eval_<task>_joint_accuracy` where the task asks for it (it counts in neither mean).

    Named test sets and pooled scores (`task.name`, `task.pooled`) count in no mean and have no loss here.
    A task's loss is the weighted sum of its heads' mean losses; `eval_loss` is the mean over tasks; `eval_mean_f1`
    the mean of the F1 of every head that has one (the first metric that is an F1); `eval_mean_score` the mean
    headline score.
    """
    metrics: dict[str, float] = {}
    f1s: list[float] = []
    headlines: list[float] = []
    task_losses: list[float] = []
    for task, result in results.items():
        is_counted = task == task_of(task)
        for head, scores in result.scores.items():
            metrics |= {f"eval_{task}_{head}_{name}": score for name, score in scores.items()}
            if not is_counted:
                continue
            f1s += [score for name, score in scores.items() if is_f1(name)][:1]
            headlines.append(next(iter(scores.values())))
        if result.joint_accuracy is not None:
            metrics[f"eval_{task}_joint_accuracy"] = result.joint_accuracy
        if is_counted:
            task_losses.append(sum(weights[task, head] * loss for head, loss in result.losses.items()))
            metrics[f"eval_{task}_loss"] = task_losses[-1]
    if task_losses:
        metrics["eval_loss"] = sum(task_losses) / len(task_losses)
    if f1s:
        metrics["eval_mean_f1"] = sum(f1s) / len(f1s)
    if headlines:
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

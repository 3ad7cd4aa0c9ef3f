"""What the temperatures of a run's heads have changed: the expected calibration error on dev and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset

from multitask_bert.data.splits import as_split
from multitask_bert.heads.calibration import SoftmaxHead
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import EncodedExample, Prediction, TaskResult
from multitask_bert.utils.calibration import reliability

Datasets = Mapping[str, Dataset[EncodedExample]]  # by task, or `task.name`


def calibrated_heads(model: MultiTaskModel) -> dict[tuple[str, str], SoftmaxHead]:
    """The heads that have a temperature, by task and name."""
    return {
        (task, name): head
        for task, by_name in model.heads.items()
        for name, head in by_name.items()
        if isinstance(head, SoftmaxHead) and head.config.calibrate
    }


def describe_calibration(
    model: MultiTaskModel, splits: Mapping[str, tuple[Mapping[str, TaskResult], Datasets]]
) -> dict[str, dict[str, Any]]:
    """By `task.head` that calibrates: its temperature, and by split its expected calibration error without it
    (`before`) and with it (`after`); null without labelled examples. `splits`: the results, and what they are of.
    """
    return {
        f"{task}.{name}": {
            "temperature": head.temperature,
            **{
                split: _errors(head, name, results[task].predictions.get(name, ()), datasets[task])
                for split, (results, datasets) in splits.items()
                if task in results and task in datasets
            },
        }
        for (task, name), head in calibrated_heads(model).items()
    }


def _errors(
    head: SoftmaxHead, name: str, predictions: Sequence[Prediction], dataset: Dataset[EncodedExample]
) -> dict[str, float] | None:
    golds = [head.spelled(example.labels[name]) for example in as_split(dataset).examples()]
    pairs = zip(golds, predictions, strict=True)
    known = [(gold, one) for gold, one in pairs if gold is not None and one.uncalibrated]
    if not known:
        return None
    are_right = [head.is_right(gold, one) for gold, one in known]
    sides = {"before": [max(one.uncalibrated) for _, one in known], "after": [max(one.scores) for _, one in known]}
    return {side: reliability(shares, are_right).expected_calibration_error for side, shares in sides.items()}

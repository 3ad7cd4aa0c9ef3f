"""Begins heads with the weights of an earlier run's, by the names of task and head (`model.keep_heads`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from multitask_bert.config.schema import ModelConfig
from multitask_bert.errors import InputError
from multitask_bert.labels import LabelSet
from multitask_bert.model.location import ENCODER_CONFIG
from multitask_bert.model.multitask import DESCRIPTION, WEIGHTS, MultiTaskModel
from multitask_bert.utils.files import expand_user_path


def keep_heads(model: MultiTaskModel, config: ModelConfig) -> list[str]:
    """Give the model's heads the weights that heads of their names have in `config.pretrained`; say what was done.

    Where a head has other labels now, the outputs of the labels that it had keep their weights, and the others stay as
    they were drawn.

    Raises:
        InputError: the folder is not the model of a run, no head has a name of its heads, or one has another type or
            layers of other sizes, or is given texts that are pooled in another way.
    """
    folder = Path(expand_user_path(str(config.pretrained)))
    if config.pretrained is None or not (folder / ENCODER_CONFIG).is_file():
        raise InputError(
            f"model.keep_heads: model.pretrained={config.pretrained} is not the model of a run (RUN/model)"
        )
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    saved = description["heads"]
    weights = load_file(folder / WEIGHTS)
    for task, name in _common(model, saved):
        _check(model, task, name, saved[task][name]["config"], pooling=description["pooling"])
        _check_sizes(model, task, name, saved[task][name], weights)
    kept = list(_common(model, saved))
    told = [_keep(model, task, name, saved[task][name], weights) for task, name in kept]
    if not told:
        known = ", ".join(f"{task}.{name}" for task, by_name in saved.items() for name in by_name)
        raise InputError(f"model.keep_heads: the run's heads are {known}; no head of this run has one of these names")
    owners = [(task, name) for task, by_name in model.heads.items() for name in by_name]
    new = [owner for owner in owners if model.owner_of(*owner) == owner and owner not in kept]
    return [*told, *(f"{task}.{name}: begins anew" for task, name in new)]


def _common(model: MultiTaskModel, saved: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Task and name of the heads with weights of their own that both have."""
    for task, by_name in model.heads.items():
        for name in by_name:
            is_owner = model.owner_of(task, name) == (task, name)
            if is_owner and name in saved.get(task, {}) and saved[task][name]["config"].get("share") is None:
                yield task, name


def _check(model: MultiTaskModel, task: str, name: str, before: Mapping[str, Any], *, pooling: str) -> None:
    """Refuse a head whose weights mean something else now; `pooling`: that of the earlier run, where it had no own."""
    head = model.heads[task][name]
    if head.config.type != before["type"]:
        raise InputError(
            f"model.keep_heads: tasks.{task}.heads.{name} is a {head.config.type} head now, and was a "
            f"{before['type']} head; rename it to begin anew"
        )
    earlier = before.get("pooling") or pooling
    if head.pools_text and model.pooling_of(task, name) != earlier:
        own = f"tasks.{task}.heads.{name}.pooling"
        setting = "model.pooling" if head.config.pooling is None else own
        raise InputError(
            f"{setting}={model.pooling_of(task, name)}: tasks.{task}.heads.{name} learned from texts pooled by "
            f"{earlier}, so its weights do not fit; set {setting}={earlier}, or rename the head to begin anew"
        )


def _check_sizes(model: MultiTaskModel, task: str, name: str, saved: Any, weights: Mapping[str, Tensor]) -> None:
    """Refuse a head whose layers have other sizes now, apart from those that follow from its number of labels."""
    head, module = model.heads[task][name], model.head_modules[task][name]  # type: ignore[index]
    num_labels = (len(head.labels), len(saved["labels"]))
    for key, weight in module.named_parameters():
        earlier = weights.get(_prefix(task, name) + key)
        if earlier is None or not _fits(weight, earlier, num_labels):
            before = "null" if (size := saved["config"].get("hidden_size")) is None else size
            raise InputError(
                f"model.keep_heads: tasks.{task}.heads.{name} has layers of other sizes now than in the earlier run "
                f"(hidden_size there: {before}); set it as it was, or rename the head to begin anew"
            )


def _fits(weight: Tensor, earlier: Tensor, num_labels: tuple[int, int]) -> bool:
    """Whether both have one shape, or one row per label; `num_labels`: now and earlier."""
    has_rows = (*weight.shape[:1], *earlier.shape[:1]) == num_labels and weight.shape[1:] == earlier.shape[1:]
    return has_rows or weight.shape == earlier.shape


def _prefix(task: str, name: str) -> str:
    """What the names of a head's weights in the saved model begin with."""
    return f"head_modules.{task}.{name}."


def _keep(model: MultiTaskModel, task: str, name: str, saved: Any, weights: Mapping[str, Tensor]) -> str:
    """Take over one head's weights, and say so in a line."""
    head = model.heads[task][name]
    module: nn.Module = model.head_modules[task][name]  # type: ignore[index]
    labels, before = head.labels, LabelSet(tuple(saved["labels"]))
    with torch.no_grad():
        for key, weight in module.state_dict().items():
            earlier = weights.get(_prefix(task, name) + key)
            if earlier is not None:  # else what a new option tunes, such as a temperature
                _take_rows(weight, earlier, labels, before)
    new, lost = (
        [label for label in ones.names if label not in others.ids]
        for ones, others in ((labels, before), (before, labels))
    )
    changes = [
        f"{what}: {', '.join(names)}" for what, names in (("new labels", new), ("labels left out", lost)) if names
    ]
    return f"{task}.{name}: continues from the earlier run" + "".join(f"; {change}" for change in changes)


def _take_rows(weight: Tensor, earlier: Tensor, labels: LabelSet, before: LabelSet) -> None:
    """Copy a tensor whole, or, where its first dimension is that of the labels and these differ, row by row."""
    if labels.names == before.names:
        weight.copy_(earlier)
    elif len(weight) == len(labels) and len(earlier) == len(before):
        for label, row in before.ids.items():
            if label in labels.ids:
                weight[labels.ids[label]].copy_(earlier[row])
    elif weight.shape == earlier.shape:
        weight.copy_(earlier)

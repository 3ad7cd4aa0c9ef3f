"""`format=hf`: a folder per head that `transformers` loads, as a stock class where one computes the same logits.

Whether one does is tried with random ids, not read off names: a stock class that pools in another way answers wrongly
and without an error. Other heads over texts bring a small class of ours.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)
from transformers.utils import logging as transformers_logging

from multitask_bert.errors import InputError
from multitask_bert.export.logits import Logits, are_equal, random_inputs, temperature_of
from multitask_bert.export.templates.modeling_pooled_text import PooledTextClassifier, PooledTextConfig
from multitask_bert.heads import Head
from multitask_bert.model.families import num_positions
from multitask_bert.model.multitask import MultiTaskModel

CLASSES = {
    "classification": AutoModelForSequenceClassification,
    "multilabel": AutoModelForSequenceClassification,
    "regression": AutoModelForSequenceClassification,
    "tagging": AutoModelForTokenClassification,
    "span": AutoModelForQuestionAnswering,
    "choice": AutoModelForMultipleChoice,
}
PIPELINES = {
    "classification": "text-classification",
    "multilabel": "text-classification",
    "regression": "text-classification",
    "tagging": "token-classification",
    "span": "question-answering",  # transformers 5 has no pipeline for it
    "choice": "multiple-choice",  # nor for this
}
PROBLEMS = {
    "classification": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}
OWN_CODE = Path(__file__).parent / "templates" / "modeling_pooled_text.py"


def write_hf(model: MultiTaskModel, tokenizer: Any, folder: Path) -> dict[tuple[str, str], str]:
    """Write a folder for each head that has weights of its own; the name of its class, by task and head.

    Raises:
        InputError: a head that no class computes; names all of them.
    """
    transformers_logging.disable_progress_bar()
    made = {owner: model_of_head(model, *owner) for owner in model.owners}
    if lacking := [f"{task}.{name} ({why})" for (task, name), why in made.items() if isinstance(why, str)]:
        raise InputError(
            f"format=hf: no class of transformers computes {', '.join(lacking)}; format=onnx has every head"
        )
    own_tokenizer = deepcopy(tokenizer)
    own_tokenizer.model_max_length = model.max_length or num_positions(model.encoder.config) or 512
    classes = {}
    for (task, name), built in made.items():
        assert not isinstance(built, str)
        own = folder / folder_name(task, name)
        built.save_pretrained(own)
        own_tokenizer.save_pretrained(own)
        if isinstance(built, PooledTextClassifier):
            shutil.copy2(OWN_CODE, own / OWN_CODE.name)
        classes[task, name] = type(built).__name__
    return classes


def folder_name(task: str, name: str) -> str:
    """The folder of a head."""
    return f"{task}.{name}"


def model_of_head(model: MultiTaskModel, task: str, name: str) -> PreTrainedModel | str:
    """The encoder with one head as a model of `transformers`; where there is none, why."""
    head = model.heads[task][name]
    if head.config.type not in CLASSES:
        return f"type {head.config.type} is your own"
    linears = [one for one in model.head_modules[task][name].modules() if isinstance(one, nn.Linear)]  # type: ignore[index]
    stock = _stock(model, head, model.pooling_of(task, name), linears)
    if stock is not None and _is_equal(model, task, name, stock):
        return stock
    if head.config.type not in PROBLEMS:
        extra = "with hidden_size" if len(linears) > 1 else f"on {model.encoder.config.model_type}"
        return f"{head.config.type} {extra}, pooling {model.pooling_of(task, name)}"
    own = _own(model, head, model.pooling_of(task, name), linears)
    assert _is_equal(model, task, name, own), f"the exported {task}.{name} computes other logits"
    return own


def _stock(model: MultiTaskModel, head: Head, pooling: str, linears: Sequence[nn.Linear]) -> PreTrainedModel | None:
    """The stock class with our weights, as far as they have a place there."""
    try:
        built: PreTrainedModel = CLASSES[head.config.type].from_config(_config(model, head)).eval()
    except ValueError:  # the family has no such class
        return None
    found = built.base_model.load_state_dict(model.encoder.backbone.state_dict(), strict=False)
    last = getattr(built, "classifier", None) or getattr(built, "qa_outputs", None)
    if found.missing_keys or last is None:
        return None
    ours = list(linears)
    theirs = [last] if isinstance(last, nn.Linear) else [getattr(last, name, None) for name in ("dense", "out_proj")]
    pooler = getattr(getattr(model.encoder.backbone, "pooler", None), "dense", None)
    if len(theirs) == 2 and len(ours) == 1 and pooling == "pooler" and pooler is not None:
        ours = [pooler, *ours]  # RoBERTa's classes have the pooler's layer in the head
    if len(ours) != len(theirs) or not all(isinstance(one, nn.Linear) for one in theirs):
        return None
    if any(one.weight.shape != other.weight.shape for one, other in zip(ours, theirs, strict=True)):  # type: ignore[union-attr]
        return None
    for one, other in zip(ours, theirs, strict=True):
        other.load_state_dict(one.state_dict())  # type: ignore[union-attr]
    _to_units(theirs[-1], head)  # type: ignore[arg-type]
    return built


def _own(model: MultiTaskModel, head: Head, pooling: str, linears: Sequence[nn.Linear]) -> PooledTextClassifier:
    """Our own class (`templates/modeling_pooled_text.py`), which pools in every way."""
    stock = _config(model, head)
    config = PooledTextConfig(
        encoder=model.encoder.config.to_dict(), text_pooling=pooling, head_hidden_size=head.config.hidden_size,
        head_activation=head.config.activation, id2label=stock.id2label, label2id=stock.label2id,
        problem_type=stock.problem_type, thresholds=getattr(head, "thresholds", None),
    )  # fmt: skip
    config.auto_map = {
        "AutoConfig": f"{OWN_CODE.stem}.{PooledTextConfig.__name__}",
        "AutoModelForSequenceClassification": f"{OWN_CODE.stem}.{PooledTextClassifier.__name__}",
    }
    built: PooledTextClassifier = PooledTextClassifier(config).eval()
    built.encoder.load_state_dict(model.encoder.backbone.state_dict())
    theirs = [one for one in built.head if isinstance(one, nn.Linear)]
    for one, other in zip(linears, theirs, strict=True):
        other.load_state_dict(one.state_dict())
    _to_units(theirs[-1], head)
    return built


def _config(model: MultiTaskModel, head: Head) -> Any:
    shape = model.encoder.config.to_dict()
    shape = {key: value for key, value in shape.items() if key not in ("id2label", "label2id", "num_labels")}
    names = dict(enumerate(head.labels.names or ["value"]))
    if head.config.type in CLASSES and head.config.type not in ("span", "choice"):
        shape |= {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    config = AutoConfig.for_model(shape.pop("model_type"), **shape)
    config.problem_type = PROBLEMS.get(head.config.type)
    if (thresholds := getattr(head, "thresholds", None)) is not None:
        config.thresholds = thresholds
    return config


def _to_units(last: nn.Linear, head: Head) -> None:
    """Let the last layer give what a user reads: numbers in units of the data, logits at the head's temperature."""
    if (temperature := temperature_of(head)) != 1:
        with torch.no_grad():
            last.weight.div_(temperature)
            last.bias.div_(temperature)
    if head.config.type == "regression" and head.config.range is not None:
        low, high = head.config.range
        with torch.no_grad():
            last.weight.mul_(high - low)
            last.bias.mul_(high - low).add_(low)


@torch.no_grad()
def _is_equal(model: MultiTaskModel, task: str, name: str, other: PreTrainedModel) -> bool:
    """Whether both compute the same for random ids: single texts and pairs, padded and not."""
    config = model.heads[task][name].config
    inputs = random_inputs(model)
    mask_BS = inputs["attention_mask"]
    ours = Logits(model.eval())(*inputs.values())[model.owners.index((task, name))]
    if config.type == "choice":
        theirs = other(**{key: value[None] for key, value in inputs.items()}).logits.flatten()[:, None]
    else:
        found = other(**inputs)
        theirs = found.logits if "logits" in found else torch.stack([found.start_logits, found.end_logits], dim=-1)
    if config.type == "regression":
        low, high = config.range or (0.0, 1.0)
        theirs = (theirs - low) / (high - low)
    return are_equal(ours, theirs, mask_BS)

"""Options that several head types share: an extra layer, class weights; and which types have which option."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.labels import LabelSet, about_quotes
from multitask_bert.records import UNKNOWN

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

OF_ALL_TYPES = (
    "type", "column", "share", "weight", "lr_factor", "init", "metrics", "labels", "dropout", "hidden_size",
    "activation",
)  # fmt: skip
BALANCED = "balanced"


def problems(config: HeadConfig, of_type: Collection[str], *, pools_text: bool) -> Iterator[str]:
    """Shared options that cannot work, and options that this head type does not have."""
    allowed = {*OF_ALL_TYPES, *of_type, *(["pooling"] if pools_text else [])}
    plain = HeadConfig(config.type)
    for option in fields(HeadConfig):
        value = getattr(config, option.name)
        if option.name not in allowed and value != getattr(plain, option.name):
            yield f"{option.name}={value}: {config.type} has no such option; remove it"
    if config.hidden_size is None and config.activation != plain.activation:
        yield f"activation={config.activation}: has no effect without hidden_size; name the extra layer's width"
    if config.names is not None and not isinstance(config.names, str) and not _are_names(config.names):
        yield f"names={config.names}: must be a list of different strings (in quotes), or a file with one per line"
    if config.class_weights not in (None, BALANCED) and not _are_weights(config.class_weights):
        yield (
            f"class_weights={config.class_weights}: must be {BALANCED}, or a number of 0 or more for each label, "
            f"as in {{rare: 5, common: 1}}"
        )


def class_weights(given: Any, labels: LabelSet) -> dict[str, float]:
    """A factor of the loss for each label, in the order of the labels; a label that a dict leaves out has 1.

    `balanced`: n / (number of labels that occur * n of the label), as scikit-learn's `compute_class_weight`, so that
    every label weighs the same in train and the mean weight there is 1; 1 for a label that does not occur there.

    Raises:
        InputError: there is no such label.
    """
    if given == BALANCED:
        assert labels.counts, "balanced class weights need the counts of the labels in train; collect() gives them"
        num_labels = sum(count > 0 for count in labels.counts)
        return {
            name: sum(labels.counts) / (num_labels * count) if count else 1.0
            for name, count in zip(labels.names, labels.counts, strict=True)
        }
    given = {labels.spelled(str(name)): weight for name, weight in given.items()}  # YAML reads 1: as a number
    if strangers := [name for name in given if name not in labels]:
        raise InputError(
            f"class_weights: there is no label {', '.join(strangers)} (known: {', '.join(labels.names)})"
            f"{about_quotes(strangers, labels.names)}"
        )
    return {name: float(given.get(name, 1.0)) for name in labels.names}


def frequency_logits(config: HeadConfig, labels: LabelSet) -> tuple[float, ...] | None:
    """The constant logits_L with the least cross-entropy on train: the log of the labels' shares, times their class
    weights; None: the counts are not known. Labels that do not occur count as half an example.
    """
    if not labels.counts or not sum(labels.counts):
        return None
    weights = config.class_weights or {}
    weighted = [
        max(count, 0.5) * max(weights.get(name, 1.0), 1e-9)
        for name, count in zip(labels.names, labels.counts, strict=True)
    ]
    smoothing = config.label_smoothing
    return tuple(math.log((1 - smoothing) * one / sum(weighted) + smoothing / len(weighted)) for one in weighted)


def build(config: HeadConfig, num_features: int, num_outputs: int, dropout_rate: float) -> nn.Module:
    """Dropout and a linear layer; with `hidden_size`, before them dropout, a layer of that width and its activation.

    With an extra layer this is `RobertaClassificationHead` (tanh). Weights are normal with standard deviation 0.02, as
    in the encoder.
    """
    from torch import nn

    layers: list[nn.Module] = []
    if config.hidden_size is not None:
        activation = {"tanh": nn.Tanh, "gelu": nn.GELU}[config.activation]()
        layers += [nn.Dropout(dropout_rate), nn.Linear(num_features, config.hidden_size), activation]
        num_features = config.hidden_size
    layers += [nn.Dropout(dropout_rate), nn.Linear(num_features, num_outputs)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, in float64."""
    import numpy as np

    logits = logits.astype(np.float64)
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def probabilities_of(ids: Sequence[int], logits_ML: np.ndarray) -> np.ndarray:
    """The probability of each id, one per row of logits; NaN where it is UNKNOWN."""
    import numpy as np

    known_M = np.array([given != UNKNOWN for given in ids], dtype=bool)
    safe_M = np.where(known_M, np.array(ids, dtype=np.int64), 0)
    found_M = softmax(logits_ML)[np.arange(len(safe_M)), safe_M]
    return np.where(known_M, found_M, np.nan)


def _are_names(given: Any) -> bool:
    return (
        isinstance(given, list)
        and bool(given)
        and all(isinstance(name, str) and given.count(name) == 1 for name in given)
    )


def _are_weights(given: Any) -> bool:
    return isinstance(given, dict) and all(
        isinstance(weight, int | float) and not isinstance(weight, bool) and 0 <= weight < math.inf
        for weight in given.values()
    )

"""Options of several head types beside torch, scikit-learn and Hugging Face: weights, smoothing, an extra layer."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import RobertaConfig
from transformers.models.roberta.modeling_roberta import RobertaClassificationHead

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import HEAD_TYPES, make_head
from multitask_bert.heads.segments import segment_log_softmax, segment_sizes
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, TargetBatch

LABELS = LabelSet(("bad", "good", "so-so"))
VALUES = [0, 1, 1, UNKNOWN, 2, 1]


def loss_of(config: HeadConfig, logits_ML: torch.Tensor, labels: LabelSet = LABELS) -> torch.Tensor:
    index = torch.arange(len(VALUES))
    num_known = sum(value != UNKNOWN for value in VALUES)
    output = make_head(config, labels).loss(
        logits_ML, TargetBatch(index, index, index, torch.tensor(VALUES), num_known)
    )
    assert output.count == num_known
    return output.loss_sum


@pytest.mark.parametrize("kind", ["classification", "tagging"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("weights", [None, {"bad": 3.0, "good": 0.5, "so-so": 0.0}])
def test_the_loss_equals_torchs_sum_with_the_same_weights_and_smoothing(
    kind: str, smoothing: float, weights: dict[str, float] | None
) -> None:
    torch.manual_seed(0)
    logits_ML = torch.randn(len(VALUES), 3)
    config = HeadConfig(kind, scheme="plain", class_weights=weights, label_smoothing=smoothing)
    expected = cross_entropy(
        logits_ML, torch.tensor(VALUES), weight=torch.tensor(list(weights.values())) if weights else None,
        label_smoothing=smoothing, ignore_index=UNKNOWN, reduction="sum",
    )  # fmt: skip
    torch.testing.assert_close(loss_of(config, logits_ML), expected)


def test_balanced_weights_equal_those_of_scikit_learn() -> None:
    found = ["bad"] * 7 + ["good"] * 2 + ["so-so"]
    head = make_head(HeadConfig("classification", class_weights="balanced"), LABELS.counted(found))
    expected = compute_class_weight("balanced", classes=np.array(LABELS.names), y=found)
    assert list(head.config.class_weights.values()) == pytest.approx(expected.tolist())


def test_with_balanced_weights_our_mean_and_torchs_are_one_over_the_training_set() -> None:
    """Torch divides by the weights of the labels, we by their number; the mean balanced weight is 1."""
    torch.manual_seed(0)
    logits_ML = torch.randn(len(VALUES), 3)
    names = [LABELS.names[value] for value in VALUES if value != UNKNOWN]
    config = HeadConfig("classification", class_weights="balanced")
    found = loss_of(config, logits_ML, LABELS.counted(names)) / len(names)
    weights = compute_class_weight("balanced", classes=np.array(LABELS.names), y=names)
    weight_L = torch.tensor(weights, dtype=torch.float32)
    expected = cross_entropy(logits_ML, torch.tensor(VALUES), weight=weight_L, ignore_index=UNKNOWN)
    torch.testing.assert_close(found, expected)


def test_balanced_weights_of_tags_count_words() -> None:
    config = HeadConfig("tagging", class_weights="balanced")
    labels = HEAD_TYPES["tagging"].collect(config, [("O", "O", "B-PER"), None, ("O", "O")])
    assert labels.counts == (4, 1, 0)
    assert make_head(config, labels).config.class_weights == {"O": 5 / 8, "B-PER": 5 / 2, "I-PER": 1.0}


def test_balanced_weights_are_saved_as_numbers_and_need_no_counts_again() -> None:
    head = make_head(HeadConfig("classification", class_weights="balanced"), LABELS.counted(["bad", "bad", "good"]))
    saved = json.loads(json.dumps(asdict(head.config), sort_keys=True))
    loaded = make_head(HeadConfig(**saved), LabelSet(LABELS.names))
    assert loaded.config.class_weights == head.config.class_weights == {"bad": 0.75, "good": 1.5, "so-so": 1.0}


def test_labels_that_the_weights_leave_out_weigh_1() -> None:
    head = make_head(HeadConfig("classification", class_weights={"good": 5}), LABELS)
    assert head.config.class_weights == {"bad": 1.0, "good": 5.0, "so-so": 1.0}


def test_labels_that_look_like_numbers_have_weights_too() -> None:
    head = make_head(HeadConfig("classification", class_weights={1: 5}), LabelSet(("0", "1")))
    assert head.config.class_weights == {"0": 1.0, "1": 5.0}


def test_a_weight_for_a_label_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match=re.escape("class_weights: there is no label fine (known: bad, good, so-so)")):
        make_head(HeadConfig("classification", class_weights={"fine": 2.0}), LABELS)


def test_an_extra_layer_equals_the_head_of_roberta() -> None:
    torch.manual_seed(0)
    theirs = RobertaClassificationHead(RobertaConfig(hidden_size=8, num_labels=3)).eval()
    ours = make_head(HeadConfig("classification", hidden_size=8), LABELS).build(8, 0.1).eval()
    layers = [layer for layer in ours if isinstance(layer, nn.Linear)]  # type: ignore[attr-defined]
    layers[0].load_state_dict(theirs.dense.state_dict())
    layers[1].load_state_dict(theirs.out_proj.state_dict())
    features_NSH = torch.randn(4, 2, 8)
    torch.testing.assert_close(ours(features_NSH[:, 0]), theirs(features_NSH))


def test_the_extra_layer_has_its_own_width_and_activation() -> None:
    module = make_head(HeadConfig("classification", hidden_size=5, activation="gelu"), LABELS).build(8, 0.3)
    assert [type(layer) for layer in module] == [nn.Dropout, nn.Linear, nn.GELU, nn.Dropout, nn.Linear]  # type: ignore[attr-defined]
    assert [tuple(weight.shape) for weight in module.parameters()] == [(5, 8), (5,), (3, 5), (3,)]
    assert [layer.p for layer in module if isinstance(layer, nn.Dropout)] == [0.3, 0.3]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", HEAD_TYPES)
def test_every_type_takes_an_extra_layer_and_draws_like_the_encoder(kind: str) -> None:
    torch.manual_seed(0)
    head = make_head(HeadConfig(kind, hidden_size=64), LABELS)
    module = head.build(64, 0.1)
    assert module(torch.zeros(2, 64)).shape == (2, head.num_outputs)
    first = next(layer for layer in module if isinstance(layer, nn.Linear))  # type: ignore[attr-defined]
    assert first.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not first.bias.any()


@pytest.mark.parametrize("kind", HEAD_TYPES)
def test_defaults_are_a_config_without_problems(kind: str) -> None:
    assert list(HEAD_TYPES[kind].problems(HeadConfig(kind))) == []


@pytest.mark.parametrize("kind", HEAD_TYPES)
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"activation": "gelu"}, "activation=gelu: has no effect without hidden_size"),
        ({"metrics": ["bleu"]}, "does not report bleu; choose from"),
        ({"metrics": ["owner/mine", "other/mine"]}, "metrics: mine would be reported twice"),
        ({"metrics": ["./no_such_folder"]}, "metrics: there is no folder ./no_such_folder"),
    ],
)
def test_every_type_names_shared_settings_that_cannot_work(
    kind: str, options: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTITASK_BERT_ALLOW", "owner,other")
    (found,) = HEAD_TYPES[kind].problems(HeadConfig(kind, **options))
    assert problem in found


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"class_weights": "equal"}, "class_weights=equal: must be balanced, or a number of 0 or more for each label"),
        ({"class_weights": {"bad": -1}}, "must be balanced"),
        ({"class_weights": {"bad": "much"}}, "must be balanced"),
        ({"threshold": 0.3}, "threshold=0.3: classification has no such option"),
        ({"stride": 32}, "stride=32: classification has no such option"),
    ],
)
def test_settings_of_a_classification_that_cannot_work_are_named(options: dict[str, Any], problem: str) -> None:
    (found,) = HEAD_TYPES["classification"].problems(HeadConfig("classification", **options))
    assert problem in found


def test_softmax_over_segments_equals_softmax_of_each_alone() -> None:
    torch.manual_seed(0)
    logits_ML = (50 * torch.randn(10, 2)).requires_grad_()
    segment_M = torch.tensor([2, 2, 2, 7, 8, 8, 8, 8, 30, 30])  # other heads' examples stand between
    found = segment_log_softmax(logits_ML, segment_M)
    parts = logits_ML.split([3, 1, 4, 2])
    torch.testing.assert_close(found, torch.cat([part.log_softmax(0) for part in parts]))
    (found * torch.arange(20.0).reshape(10, 2)).sum().backward()
    gradient = logits_ML.grad
    logits_ML.grad = None
    (torch.cat([part.log_softmax(0) for part in parts]) * torch.arange(20.0).reshape(10, 2)).sum().backward()
    torch.testing.assert_close(gradient, logits_ML.grad)
    assert segment_sizes(segment_M).tolist() == [3, 3, 3, 1, 4, 4, 4, 4, 2, 2]

"""One label per text: its labels, its targets, its predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads.classification import ClassificationHead
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, EncodedExample, Example, Prediction, Target, TargetBatch, Tokens

TOKENS = Tokens((101, 7592, 102), (0, 0, 0), ((-1, -1), (0, 5), (-1, -1)), (False, False, False))
ENCODED = EncodedExample(Example("here", "hello", {}), TOKENS.input_ids, TOKENS.token_type_ids, (), {})
HEAD = ClassificationHead(HeadConfig("classification"), LabelSet(("bad", "good")))


def predictions(*values: str) -> Sequence[Prediction]:
    return [Prediction(value) for value in values]


def test_labels_come_sorted_from_train_without_the_missing_ones() -> None:
    found = ClassificationHead.collect(HeadConfig("classification"), ["good", None, "bad", "good"])
    assert found.names == ("bad", "good")


def test_labels_named_in_the_config_keep_their_order() -> None:
    config = HeadConfig("classification", labels=["good", "bad", "unseen"])
    assert ClassificationHead.collect(config, ["bad"]).names == ("good", "bad", "unseen")


def test_an_unseen_label_names_its_line_and_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"dev\.tsv:7: label 'fine' does not occur.*known: bad, good.*`labels:`"):
        HEAD.check_label("fine", Example("dev.tsv:7", "text", {}))


def test_a_label_becomes_one_target_at_the_first_token() -> None:
    assert HEAD.encode("good", TOKENS) == Target(token_indices=(0,), values=(1,), num_known=1)


def test_a_missing_label_is_not_a_class() -> None:
    HEAD.check_label(None, Example("dev.tsv:7", "text", {}))
    assert HEAD.encode(None, TOKENS) == Target(token_indices=(0,), values=(UNKNOWN,), num_known=0)


def test_the_loss_is_the_sum_over_known_labels() -> None:
    logits_ML = torch.tensor([[1.0, 2.0], [0.5, -1.0], [3.0, 0.0]])
    target = TargetBatch(*[torch.arange(3)] * 3, torch.tensor([1, UNKNOWN, 0]), num_known=2)
    expected = cross_entropy(logits_ML[[0, 2]], torch.tensor([1, 0]), reduction="sum")
    torch.testing.assert_close(HEAD.loss(logits_ML, target).loss_sum, expected)


def test_a_batch_without_any_known_label_has_no_loss() -> None:
    target = TargetBatch(*[torch.arange(1)] * 3, torch.tensor([UNKNOWN]), num_known=0)
    output = HEAD.loss(torch.ones(1, 2), target)
    assert (output.loss_sum.item(), output.count) == (0.0, 0)


def test_a_prediction_is_the_likeliest_label_with_probabilities_like_softmax() -> None:
    logits = np.array([[1.0, 3.0]], dtype=np.float32)
    found = HEAD.decode(logits, ENCODED)
    assert found.value == "good"
    assert found.scores == pytest.approx(torch.tensor(logits[0]).softmax(0).tolist())


def test_huge_logits_give_probabilities_and_no_overflow() -> None:
    assert HEAD.decode(np.array([[1e4, -1e4]]), ENCODED).scores == (1.0, 0.0)


def test_examples_without_a_label_do_not_count_in_the_score() -> None:
    scores = HEAD.score(["good", None, "bad"], predictions("good", "good", "good"))
    assert scores["accuracy"] == 0.5
    assert list(scores) == ["f1", "accuracy"]


def test_metrics_of_the_config_come_in_its_order() -> None:
    head = ClassificationHead(HeadConfig("classification", metrics=["accuracy", "f1_weighted"]), HEAD.labels)
    assert list(head.score(["good"], predictions("good"))) == ["accuracy", "f1_weighted"]


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (
            HeadConfig("classification", metrics=["bleu"]),
            "metrics: classification does not report bleu; choose from",
        ),
        (HeadConfig("classification", metrics=["f1_strict"]), "does not report f1_strict"),
        (HeadConfig("classification", labels=["a", "b", "a"]), "labels: a is named more than once"),
        (HeadConfig("classification", labels=["a"]), "labels: a leaves nothing to choose between"),
    ],
)
def test_settings_that_cannot_work_are_named(config: HeadConfig, problem: str) -> None:
    (found,) = ClassificationHead.problems(config)
    assert problem in found


def test_f1_by_label_is_reported_under_flat_keys() -> None:
    head = ClassificationHead(HeadConfig("classification", metrics=["accuracy", "f1_per_label"]), HEAD.labels)
    found = head.score(["good", "bad", None], predictions("good", "good", "bad"))
    assert found == {"accuracy": 0.5, "f1_of_bad": 0.0, "f1_of_good": pytest.approx(2 / 3)}


def test_scores_about_one_label_are_reported_under_their_names() -> None:
    config = HeadConfig("classification", metrics=["accuracy_without_bad", "recall_of_bad", "f1_of_king_of_good"])
    labels = LabelSet(("bad", "good", "king_of_good"))
    assert list(ClassificationHead.problems(config)) == []
    golds = ["bad", "bad", "good", None]
    found = ClassificationHead(config, labels).score(golds, predictions("bad", "good", "good", "bad"))
    assert found == {"accuracy_without_bad": 1.0, "recall_of_bad": 0.5, "f1_of_king_of_good": 0.0}
    assert ClassificationHead.keys_of(config) == ("accuracy_without_bad", "recall_of_bad", "f1_of_king_of_good")


def test_a_score_about_a_label_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match=r"metrics: there is no label oos \(known: bad, good\)"):
        ClassificationHead(HeadConfig("classification", metrics=["f1", "recall_of_oos"]), HEAD.labels)


@pytest.mark.parametrize("metric", ["recall_of_", "kappa_of_bad", "accuracy_without_", "recall_off_bad"])
def test_a_name_that_only_looks_like_a_score_about_a_label_is_refused(metric: str) -> None:
    (problem,) = ClassificationHead.problems(HeadConfig("classification", metrics=[metric]))
    assert f"does not report {metric}; choose from f1, " in problem
    assert problem.endswith("f1_of_<label>, precision_of_<label>, recall_of_<label>, accuracy_without_<label>")


def test_keys_by_label_are_announced_where_the_config_names_the_labels() -> None:
    config = HeadConfig("classification", metrics=["f1", "f1_per_label"])
    assert ClassificationHead.keys_of(config) == ("f1",)
    config.labels = ["good", "bad"]
    assert ClassificationHead.keys_of(config) == ("f1", "f1_of_good", "f1_of_bad")


def test_a_custom_metric_gets_class_ids_and_is_reported_under_its_own_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, object] = {}

    def compute_module(place: str, inputs: dict[str, object]) -> float:
        given.update(inputs, place=place)
        return 0.25

    monkeypatch.setattr("multitask_bert.utils.metrics.compute_module", compute_module)
    monkeypatch.setenv("MULTITASK_BERT_ALLOW", "owner/agreement")
    head = ClassificationHead(HeadConfig("classification", metrics=["owner/agreement", "accuracy"]), HEAD.labels)
    scores = head.score(["good", None, "bad"], predictions("good", "good", "good"))
    assert scores == {"agreement": 0.25, "accuracy": 0.5}
    assert given == {"place": "owner/agreement", "references": [1, 0], "predictions": [1, 1]}
    assert ClassificationHead.keys_of(head.config) == ("agreement", "accuracy")


def test_a_label_that_the_config_leaves_out_is_not_said_to_be_missing_in_train() -> None:
    example = Example(where="train.csv:3", text="a", labels={})
    named = ClassificationHead(HeadConfig("classification", labels=["chanya", "hasi"]), LabelSet(("chanya", "hasi")))
    with pytest.raises(InputError) as refusal:
        named.check_label("wastani", example)
    assert str(refusal.value) == (
        "train.csv:3: label 'wastani' is not among the head's `labels:` (chanya, hasi); add it there, or correct it"
    )
    found = ClassificationHead(HeadConfig("classification"), LabelSet(("chanya", "hasi")))
    with pytest.raises(InputError, match="label 'wastani' does not occur in the training data"):
        found.check_label("wastani", example)

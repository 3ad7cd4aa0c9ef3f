"""Any number of labels per text: cells that are 1, 0 or unknown, thresholds, and the loss beside Hugging Face's."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from transformers import BertConfig, BertForSequenceClassification

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.errors import InputError
from multitask_bert.heads.multilabel import MultilabelHead
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample, Example, Prediction, TargetBatch, Tokens
from tests.tiny_bert import SIZES, assert_same_loss_and_gradients, batch_of, inputs_of, same_model

TOKENS = Tokens((101, 7592, 102), (0, 0, 0), ((-1, -1), (0, 5), (-1, -1)), (False, False, False))
ENCODED = EncodedExample(Example("here", "hello", {}), TOKENS.input_ids, TOKENS.token_type_ids, (), {})
LABELS = LabelSet(("anger", "fear", "joy"))


def head_with(**options: Any) -> MultilabelHead:
    return MultilabelHead(HeadConfig("multilabel", **options), LABELS)


HEAD = head_with()
COLUMNS = HeadConfig("multilabel", columns=["anger", "fear", "joy"])


def logit(*probabilities: float) -> np.ndarray:
    return np.array([[math.log(p / (1 - p)) for p in probabilities]], dtype=np.float32)


def test_columns_of_0_and_1_become_cells_and_an_empty_one_is_unknown() -> None:
    found = MultilabelHead.parse(COLUMNS, {"anger": "1", "fear": "0", "joy": ""}, "train.csv:2")
    assert found == {"anger": True, "fear": False, "joy": None}


@pytest.mark.parametrize("cells", [{"anger": "", "fear": " "}, {"anger": None, "fear": None}])
def test_a_row_of_empty_cells_is_a_missing_label(cells: dict[str, Any]) -> None:
    assert MultilabelHead.parse(COLUMNS, cells, "train.csv:2") is None


@pytest.mark.parametrize("cell", ["1", "1.0", "true", "True", 1, 1.0, True])
def test_every_spelling_of_one_is_a_yes(cell: Any) -> None:
    assert MultilabelHead.parse(COLUMNS, {"anger": cell}, "here") == {"anger": True}


@pytest.mark.parametrize("cell", ["2", "-1", "yes", "0.5"])
def test_a_cell_that_is_neither_0_nor_1_names_line_and_column(cell: str) -> None:
    with pytest.raises(InputError, match=rf"train\.csv:2: column 'fear' holds '{cell}', but a cell is 0, 1 or empty"):
        MultilabelHead.parse(COLUMNS, {"anger": "1", "fear": cell}, "train.csv:2")


@pytest.mark.parametrize(
    ("separator", "raw"),
    [(",", "joy, fear"), ("|", "joy|fear"), (",", '["joy", "fear"]'), (",", ["joy", "fear"]), (" ", "joy  fear")],
)
def test_labels_in_one_field_come_with_a_separator_or_as_a_json_list(separator: str, raw: Any) -> None:
    config = HeadConfig("multilabel", separator=separator)
    assert MultilabelHead.parse(config, raw, "here") == {"joy": True, "fear": True}


@pytest.mark.parametrize("raw", [None, "", "  "])
def test_an_empty_field_is_a_missing_label(raw: str | None) -> None:
    assert MultilabelHead.parse(HEAD.config, raw, "here") is None


@pytest.mark.parametrize("raw", ["[]", []])
def test_an_empty_list_says_that_no_label_holds(raw: Any) -> None:
    value = MultilabelHead.parse(HEAD.config, raw, "here")
    assert HEAD.encode(value, TOKENS).values == ((0.0, 0.0, 0.0),)


@pytest.mark.parametrize(
    "raw", ['["joy"', 3.5, [["joy"]], pytest.param(f"[{'7' * 5000}]", id="digits"), pytest.param("[" * 9999, id="deep")]
)
def test_a_field_that_is_not_a_list_of_labels_is_refused_with_its_line(raw: Any) -> None:
    with pytest.raises(InputError, match=r"train\.csv:2: "):
        MultilabelHead.parse(HEAD.config, raw, "train.csv:2")


def test_labels_come_sorted_from_train_with_their_counts() -> None:
    found = MultilabelHead.collect(HEAD.config, [{"joy": True}, None, {"fear": True, "joy": True}])
    assert (found.names, found.counts) == (("fear", "joy"), (1, 2))


def test_columns_keep_their_order_and_need_no_occurrence() -> None:
    found = MultilabelHead.collect(HeadConfig("multilabel", columns=["joy", "anger"]), [{"joy": False, "anger": None}])
    assert (found.names, found.counts) == (("joy", "anger"), (0, 0))


def test_an_unseen_label_names_its_line_and_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"dev\.csv:7: label 'love' does not occur.*known: anger, fear, joy"):
        HEAD.check_label({"joy": True, "love": True}, Example("dev.csv:7", "text", {}))


def test_an_unknown_cell_is_not_a_zero_and_is_not_counted() -> None:
    target = HEAD.encode({"anger": True, "fear": None}, TOKENS)
    assert (target.token_indices, target.num_known) == ((0,), 2)
    np.testing.assert_equal(target.values, ((1.0, math.nan, 0.0),))


def test_a_missing_label_has_only_unknown_cells() -> None:
    target = HEAD.encode(None, TOKENS)
    assert target.num_known == 0
    np.testing.assert_equal(target.values, ((math.nan,) * 3,))


def test_unknown_cells_change_neither_loss_nor_gradient() -> None:
    logits_ML = torch.tensor([[0.5, -1.0, 2.0]], requires_grad=True)
    index = torch.zeros(1, dtype=torch.long)
    HEAD.loss(logits_ML, TargetBatch(index, index, index, torch.tensor([[1.0, math.nan, 0.0]]), 2)).loss_sum.backward()
    assert logits_ML.grad is not None
    expected = logits_ML.detach().sigmoid() - torch.tensor([[1.0, 0.0, 0.0]])
    expected[0, 1] = 0.0
    torch.testing.assert_close(logits_ML.grad, expected)


def test_loss_and_gradients_equal_bert_for_multi_label_classification(tokenizer: Any) -> None:
    torch.manual_seed(0)
    theirs = BertForSequenceClassification(BertConfig(**SIZES, num_labels=3, problem_type="multi_label_classification"))
    ours = same_model(theirs, HEAD, theirs.classifier)
    labels = [{"anger": True, "joy": True}, {}, {"fear": True}]
    texts = ["siku njema", "hapana", "habari za leo asubuhi"]
    examples = [Example("here", text, {"h": label}) for text, label in zip(texts, labels, strict=True)]
    batch = batch_of(encode_examples(examples, {"h": HEAD}, tokenizer, max_length=16))
    expected = theirs(**inputs_of(batch), labels=torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0]]))
    assert_same_loss_and_gradients(ours, batch, theirs, expected.loss)


def test_labels_from_the_threshold_upwards_are_predicted() -> None:
    found = head_with(threshold=0.3).decode(logit(0.31, 0.29, 0.9), ENCODED)
    assert found.value == ("anger", "joy")
    assert found.scores == pytest.approx((0.31, 0.29, 0.9))


def test_huge_logits_give_probabilities_and_no_overflow() -> None:
    assert HEAD.decode(np.array([[1e4, -1e4, 0.0]]), ENCODED).scores == (1.0, 0.0, 0.5)


def tuned(option: str, **options: Any) -> MultilabelHead:
    head = head_with(threshold=option, **options)
    head.build(8, 0.1)
    return head


GOLDS = [{"anger": True}, {"anger": True, "joy": True}, {}, {"joy": True}, None]
SCORES = [(0.30, 0.1, 0.70), (0.25, 0.1, 0.95), (0.05, 0.1, 0.75), (0.05, 0.1, 0.85), (0.9, 0.9, 0.9)]


def test_thresholds_tuned_per_label_make_separable_labels_right() -> None:
    head = tuned("tuned_per_label")
    found = head.tune(GOLDS, [Prediction((), scores) for scores in SCORES])
    assert [prediction.value for prediction in found[:4]] == [("anger",), ("anger", "joy"), (), ("joy",)]
    assert 0.05 < head.thresholds[0] <= 0.25
    assert 0.75 < head.thresholds[2] <= 0.85
    assert head.thresholds[1] == 0.5  # no gold at all: every threshold is equally good, so the middle one


@pytest.mark.parametrize("metric", ["f1", "f1_micro", "f1_weighted", "f1_samples"])
@pytest.mark.parametrize("seed", range(3))
def test_no_threshold_of_the_grid_beats_the_tuned_one(metric: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    gold = generator.random((40, 3)) < 0.4
    scores = np.clip(0.3 * gold + 0.7 * generator.random((40, 3)), 0, 1)
    head = tuned("tuned", metrics=["exact_match", metric])
    golds = [dict(zip(LABELS.names, row, strict=True)) for row in gold.tolist()]
    found = head.tune(golds, [Prediction((), tuple(row)) for row in scores.tolist()])
    average = metric.partition("_")[2] or "macro"

    def score(threshold: float) -> float:
        return float(sklearn.metrics.f1_score(gold, scores >= threshold, average=average, zero_division=0))

    best = max(score(step / 100) for step in range(1, 100))
    assert len(set(head.thresholds)) == 1
    assert head.score(golds, found)[metric] == pytest.approx(best)


def test_a_fixed_threshold_is_not_tuned() -> None:
    predictions = [Prediction((), scores) for scores in SCORES]
    assert HEAD.tune(GOLDS, predictions) == predictions
    assert HEAD.thresholds == [0.5] * 3


def test_tuning_without_any_known_label_changes_nothing() -> None:
    head = tuned("tuned")
    head.tune([None], [Prediction((), (0.9, 0.9, 0.9))])
    assert head.thresholds == [0.5] * 3


def test_a_tuned_threshold_is_saved_with_the_weights() -> None:
    head = tuned("tuned_per_label")
    assert head._module is not None
    head.tune(GOLDS, [Prediction((), scores) for scores in SCORES])
    other = MultilabelHead(HeadConfig(**json.loads(json.dumps(asdict(head.config)))), head.labels)
    other.build(8, 0.1).load_state_dict(head._module.state_dict())
    assert other.thresholds == head.thresholds != [0.5] * 3


def test_scores_count_known_cells_only() -> None:
    golds = [{"anger": True, "fear": None}, {"joy": None}, None]
    found = [Prediction(("anger", "fear")), Prediction(("joy",)), Prediction(("fear",))]
    head = head_with(metrics=["exact_match", "f1_micro", "f1_per_label"])
    assert head.score(golds, found) == {
        "exact_match": 1.0, "f1_micro": 1.0, "f1_of_anger": 1.0, "f1_of_fear": 0.0, "f1_of_joy": 0.0,
    }  # fmt: skip


def test_an_example_is_right_if_every_known_cell_is() -> None:
    assert HEAD.is_right({"anger": True, "fear": None}, Prediction(("anger", "fear")))
    assert not HEAD.is_right({"anger": True}, Prediction(("anger", "fear")))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"threshold": 1.5}, "threshold=1.5: must be between 0 and 1, tuned or tuned_per_label"),
        ({"threshold": "dev"}, "threshold=dev: must be between"),
        ({"threshold": True}, "threshold=True: must be between"),
        ({"column": "a", "columns": ["b"]}, "columns: has no effect beside `column`"),
        ({"columns": ["a"], "labels": ["a"]}, "labels: the labels are the names of `columns`"),
        ({"columns": ["a", "a"]}, "columns=['a', 'a']: needs at least one name, and each only once"),
        ({"columns": []}, "columns=[]: needs at least one name"),
        ({"separator": ""}, "separator: must not be empty"),
        ({"metrics": ["accuracy"]}, "multilabel does not report accuracy"),
        ({"scheme": "plain"}, "scheme=plain: multilabel has no such option"),
        ({"metrics": ["f1_per_label"]}, "f1_per_label is several scores; name the headline before it"),
    ],
)
def test_settings_that_cannot_work_are_named(options: dict[str, Any], problem: str) -> None:
    (found,) = MultilabelHead.problems(HeadConfig("multilabel", **options))
    assert problem in found


@pytest.mark.parametrize("threshold", [0, 0.3, 1, "tuned", "tuned_per_label"])
def test_thresholds_that_work_are_accepted(threshold: Any) -> None:
    assert list(MultilabelHead.problems(HeadConfig("multilabel", threshold=threshold))) == []

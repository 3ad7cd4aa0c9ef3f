"""One number per text: parsing, scaling and its inverse, and the loss beside Hugging Face's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.errors import InputError
from multitask_bert.heads.regression import RegressionHead
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample, Example, Prediction, Target, TargetBatch, Tokens
from tests.tiny_bert import SIZES, assert_same_loss_and_gradients, batch_of, inputs_of, same_model

TOKENS = Tokens((101, 102), (0, 0), ((-1, -1), (-1, -1)), (False, False))
ENCODED = EncodedExample(Example("here", "", {}), TOKENS.input_ids, TOKENS.token_type_ids, (), {})


def head_with(**options: Any) -> RegressionHead:
    return RegressionHead(HeadConfig("regression", **options), LabelSet(()))


PLAIN, SCALED = head_with(), head_with(range=[1.0, 5.0])


@pytest.mark.parametrize(
    ("raw", "value"), [("3.5", 3.5), (" -2 ", -2.0), (4, 4.0), ("1e-3", 0.001), ("", None), (None, None)]
)
def test_a_field_is_a_number_or_missing(raw: Any, value: float | None) -> None:
    assert RegressionHead.parse(PLAIN.config, raw, "here") == value


@pytest.mark.parametrize("raw", ["high", "nan", "inf", "1,5", True])
def test_a_label_that_is_not_a_number_is_refused_with_its_line(raw: Any) -> None:
    with pytest.raises(InputError, match=r"sick\.tsv:3: regression needs a number, but found"):
        RegressionHead.parse(PLAIN.config, raw, "sick.tsv:3")


def test_a_label_that_is_not_a_number_is_refused_with_its_column_where_the_head_names_one() -> None:
    with pytest.raises(InputError, match=r"jl:1: regression needs a number, but column 'score' has 'five'"):
        RegressionHead.parse(head_with(column="score").config, "five", "jl:1")


def test_a_number_outside_the_range_names_its_line() -> None:
    with pytest.raises(InputError, match=r"sick\.tsv:3: 5.5 is outside `range: \[1, 5\]`"):
        RegressionHead.parse(SCALED.config, "5.5", "sick.tsv:3")


@pytest.mark.parametrize(("value", "scaled"), [(1.0, 0.0), (5.0, 1.0), (2.0, 0.25)])
def test_the_range_is_learned_as_0_to_1_and_scaled_back(value: float, scaled: float) -> None:
    assert SCALED.encode(value, TOKENS) == Target((0,), (scaled,), 1)
    assert SCALED.decode(np.array([[scaled]]), ENCODED).value == value


def test_without_a_range_numbers_stay_as_they_are() -> None:
    assert PLAIN.encode(3.5, TOKENS).values == (3.5,)
    assert PLAIN.decode(np.array([[3.5]]), ENCODED).value == 3.5


def test_predictions_leave_the_range_unless_they_are_clipped() -> None:
    above = np.array([[1.5]])
    assert SCALED.decode(above, ENCODED).value == 7.0
    assert head_with(range=[1.0, 5.0], clip=True).decode(above, ENCODED).value == 5.0
    assert head_with(range=[1.0, 5.0], clip=True).decode(-above, ENCODED).value == 1.0


def test_a_missing_number_changes_neither_loss_nor_gradient() -> None:
    target = PLAIN.encode(None, TOKENS)
    assert target.num_known == 0
    assert math.isnan(target.values[0])
    logits_ML = torch.tensor([[1.0], [2.0]], requires_grad=True)
    index = torch.arange(2)
    output = PLAIN.loss(logits_ML, TargetBatch(index, index, index, torch.tensor([3.0, math.nan]), 1))
    output.loss_sum.backward()
    assert output.loss_sum.item() == 4.0
    assert logits_ML.grad is not None
    assert logits_ML.grad.tolist() == [[-4.0], [0.0]]


def test_loss_and_gradients_equal_bert_for_regression(tokenizer: Any) -> None:
    torch.manual_seed(0)
    theirs = BertForSequenceClassification(BertConfig(**SIZES, num_labels=1, problem_type="regression"))
    ours = same_model(theirs, PLAIN, theirs.classifier)
    pairs = [("siku njema", "habari", 3.5), ("hapana", "ndiyo bwana mkubwa", -1.0), ("leo", "kesho", 0.25)]
    examples = [Example("here", text, {"h": value}, text_pair=pair) for text, pair, value in pairs]
    batch = batch_of(encode_examples(examples, {"h": PLAIN}, tokenizer, max_length=16))
    expected = theirs(**inputs_of(batch), labels=torch.tensor([value for *_, value in pairs]))
    assert_same_loss_and_gradients(ours, batch, theirs, expected.loss)


def test_scores_are_on_the_scale_of_the_file_and_leave_out_missing_numbers() -> None:
    scores = head_with(range=[0.0, 5.0], metrics=["pearson", "mse", "mae"]).score(
        [1.0, 2.0, None, 4.0], [Prediction(value) for value in (2.0, 3.0, 9.0, 5.0)]
    )
    assert scores == {"pearson": pytest.approx(1.0), "mse": 1.0, "mae": 1.0}


def test_there_are_no_labels_to_collect() -> None:
    assert len(RegressionHead.collect(PLAIN.config, [1.0, None, 2.0])) == RegressionHead.fewest_labels == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"range": [5, 1]}, "range=[5, 1]: must be the lowest and the highest value"),
        ({"range": [0, 1, 2]}, "range=[0, 1, 2]: must be"),
        ({"range": [0, math.inf]}, "must be the lowest and the highest"),
        ({"clip": True}, "clip=True: has no effect without range"),
        ({"labels": ["a"]}, "labels: regression has none"),
        ({"metrics": ["mse", "pearson"]}, "put pearson or spearman before mse"),
        ({"metrics": ["f1"]}, "regression does not report f1"),
        ({"class_weights": "balanced"}, "class_weights=balanced: regression has no such option"),
    ],
)
def test_settings_that_cannot_work_are_named(options: dict[str, Any], problem: str) -> None:
    (found,) = RegressionHead.problems(HeadConfig("regression", **options))
    assert problem in found

"""One of several second texts: the number of the right one, softmax over each example's own choices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForMultipleChoice

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.errors import InputError
from multitask_bert.heads.choice import ChoiceHead
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, EncodedExample, Example, Prediction, Target, TargetBatch, Tokens
from tests.tiny_bert import SIZES, assert_same_loss_and_gradients, batch_of, inputs_of, same_model

HEAD = ChoiceHead(HeadConfig("choice"), LabelSet(()))
LETTERS = HeadConfig("choice", labels=["A", "B", "C"])
THREE = Tokens((101, 102, 101, 102, 101, 102), (0,) * 6, ((-1, -1),) * 6, (False,) * 6, sequence_starts=(0, 2, 4))
EXAMPLE = Example("quiz.jsonl:4", "Which?", {}, choices=("red", "green", "blue"))


@pytest.mark.parametrize(("raw", "value"), [("2", 2), (2, 2), (" 0 ", 0), ("", None), (None, None)])
def test_a_label_is_a_number_from_0_or_missing(raw: Any, value: int | None) -> None:
    assert ChoiceHead.parse(HEAD.config, raw, "here") == value


def test_choices_that_have_names_are_found_by_them() -> None:
    assert ChoiceHead.parse(LETTERS, "B", "here") == 1


@pytest.mark.parametrize("raw", ["B", "-1", "1.5", 1.5])
def test_a_choice_that_is_not_a_number_is_refused_with_its_line_and_the_way_out(raw: Any) -> None:
    with pytest.raises(InputError, match=r"quiz\.jsonl:4: choice needs the number .*`labels: \[A, B, …\]`"):
        ChoiceHead.parse(HEAD.config, raw, "quiz.jsonl:4")


def test_a_name_that_no_choice_has_names_its_line() -> None:
    with pytest.raises(InputError, match=r"quiz\.jsonl:4: 'D' is none of the choices' names \(A, B, C\)"):
        ChoiceHead.parse(LETTERS, "D", "quiz.jsonl:4")


def test_a_number_beyond_the_choices_names_its_line() -> None:
    HEAD.check_label(2, EXAMPLE)
    with pytest.raises(InputError, match=r"quiz\.jsonl:4: choice 3 is right, but there are only 3, counted from 0"):
        HEAD.check_label(3, EXAMPLE)


def test_a_text_without_choices_is_refused() -> None:
    with pytest.raises(InputError, match=r"here: choice needs several texts"):
        HEAD.check_label(0, Example("here", "text", {}))


def test_each_choice_is_a_target_and_the_example_counts_once() -> None:
    assert HEAD.encode(1, THREE) == Target((0, 2, 4), (0, 1, 0), num_known=1)


def test_a_missing_label_is_unknown_for_every_choice() -> None:
    assert HEAD.encode(None, THREE) == Target((0, 2, 4), (UNKNOWN,) * 3, num_known=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_equals_cross_entropy_of_each_example_alone(smoothing: float) -> None:
    """Three examples of 2, 4 and 3 choices, the second without a label, numbered as in a batch with others."""
    torch.manual_seed(0)
    logits_ML = torch.randn(9, 1)
    values = [0, 1, *[UNKNOWN] * 4, 1, 0, 0]
    number = torch.tensor([3, 3, 5, 5, 5, 5, 12, 12, 12])
    head = ChoiceHead(HeadConfig("choice", label_smoothing=smoothing), LabelSet(()))
    found = head.loss(logits_ML, TargetBatch(torch.arange(9), torch.arange(9), number, torch.tensor(values), 2))
    options: dict[str, Any] = {"reduction": "sum", "label_smoothing": smoothing}
    expected = cross_entropy(logits_ML[:2].T, torch.tensor([1]), **options)
    expected = expected + cross_entropy(logits_ML[6:].T, torch.tensor([0]), **options)
    torch.testing.assert_close(found.loss_sum, expected)
    assert found.count == 2


def test_loss_and_gradients_equal_bert_for_multiple_choice(tokenizer: Any) -> None:
    torch.manual_seed(0)
    theirs = BertForMultipleChoice(BertConfig(**SIZES))
    ours = same_model(theirs, HEAD, theirs.classifier)
    examples = [
        Example("here", "Nani?", {"h": 1}, choices=("Amina", "Juma mkubwa wa shule")),
        Example("here", "Wapi pale?", {"h": 0}, choices=("Arusha", "Dar")),
    ]
    batch = batch_of(encode_examples(examples, {"h": HEAD}, tokenizer, max_length=24))
    inputs = {name: tensor.reshape(2, 2, -1) for name, tensor in inputs_of(batch).items()}
    expected = theirs(**inputs, labels=torch.tensor([1, 0]))
    torch.testing.assert_close(ours(batch)["t", "h"].logits_ML.reshape(2, 2), expected.logits, atol=1e-6, rtol=1e-5)
    assert_same_loss_and_gradients(ours, batch, theirs, expected.loss)


def test_the_best_choice_is_predicted_with_probabilities_like_softmax() -> None:
    logits_ML = np.array([[1.0], [3.0], [2.0]])
    encoded = EncodedExample(EXAMPLE, THREE.input_ids, THREE.token_type_ids, (), {}, sequence_starts=(0, 2, 4))
    found = HEAD.decode(logits_ML, encoded)
    assert found.value == 1
    assert found.scores == pytest.approx(torch.tensor(logits_ML[:, 0]).softmax(0).tolist())
    assert HEAD.present(found, encoded)["text"] == "green"


def test_choices_with_names_are_presented_by_them() -> None:
    encoded = EncodedExample(EXAMPLE, (), (), (), {})
    head = ChoiceHead(LETTERS, ChoiceHead.collect(LETTERS, []))
    assert head.present(Prediction(2, (0.1, 0.2, 0.7)), encoded) == {
        "choice": 2, "label": "C", "text": "blue", "probabilities": [0.1, 0.2, 0.7],
    }  # fmt: skip


def test_accuracy_leaves_out_examples_without_a_label() -> None:
    assert HEAD.score([1, 0, None], [Prediction(1), Prediction(2), Prediction(0)]) == {"accuracy": 0.5}


def test_repeated_names_of_choices_are_refused() -> None:
    (found,) = ChoiceHead.problems(HeadConfig("choice", labels=["A", "A"]))
    assert "A is named more than once" in found

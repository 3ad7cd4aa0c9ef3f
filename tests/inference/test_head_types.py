"""Every head type: what the Predictor says equals what evaluation decodes, shown as JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.data.splits import InMemorySplit
from multitask_bert.heads import HEAD_TYPES, Head, make_head
from multitask_bert.inference.inputs import read_input
from multitask_bert.inference.predictor import Predictor
from multitask_bert.labels import LabelSet
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import UNKNOWN, TargetBatch
from multitask_bert.training.evaluation import evaluate_task
from tests.conftest import TINY
from tests.waiting import CountReads

MAX_LENGTH = 24
MOODS = LabelSet(("bad", "good", "so-so"))
TAGS = LabelSet(("O", "B-PER", "I-PER"))
HEADS: dict[str, dict[str, Head]] = {
    "answers": {"answer": make_head(HeadConfig("span", stride=4), LabelSet(("answer",)))},
    "causes": {"cause": make_head(HeadConfig("choice"), LabelSet(()))},
    "feelings": {"feelings": make_head(HeadConfig("multilabel"), LabelSet(("anger", "joy")))},
    "moods": {"mood": make_head(HeadConfig("classification"), MOODS)},
    "people": {"entities": make_head(HeadConfig("tagging", constrained=True), TAGS)},
    "likeness": {"likeness": make_head(HeadConfig("regression", range=[0, 5]), LabelSet(()))},
}
TEXT = "Amina anaishi Arusha na Juma"
INPUTS: dict[str, list[Any]] = {
    "answers": [{"question": "nani?", "context": "na Amina " * n + "Juma"} for n in (1, 2, 9, 14)],
    "causes": [{"text": TEXT, "choices": ["Amina", "Juma na Amina", TEXT][: n + 1]} for n in (1, 2)],
    "feelings": [TEXT, "na " * 40],
    "moods": [TEXT, "siku"],
    "people": [{"words": TEXT.split()}, TEXT],
    "likeness": [(TEXT, "Amina"), ("Juma", TEXT)],
}


@pytest.fixture(scope="module")
def predictor(tokenizer: Any) -> Predictor:
    torch.manual_seed(5)
    shape = {key: value for key, value in TINY.items() if key != "model_type"}
    kinds = {"answers": "pair", "causes": "choices", "likeness": "pair"}
    kinds |= dict.fromkeys(("feelings", "moods", "people"), "text")
    encoder = Encoder(AutoModel.from_config(BertConfig(**shape)))
    model = MultiTaskModel(encoder, HEADS, pooling="mean", max_length=MAX_LENGTH, input_types=kinds)
    with torch.no_grad():
        for weight in model.head_modules.parameters():
            weight.normal_(std=2.0)
    return Predictor(model, tokenizer, device="cpu", batch_size=3)


@pytest.fixture(scope="module")
def records(predictor: Predictor) -> dict[str, list[dict[str, Any]]]:
    """What comes out for `INPUTS`, by task; all kinds of input in one go, mixed."""
    mixed = [(task, given[place]) for place in range(4) for task, given in INPUTS.items() if place < len(given)]
    found: dict[str, list[dict[str, Any]]] = {}
    for (task, _), record in zip(mixed, predictor.predict(given for _, given in mixed), strict=True):
        found.setdefault(task, []).append(record)
    return found


def test_every_head_type_is_tried_here() -> None:
    assert {head.config.type for by_name in HEADS.values() for head in by_name.values()} == HEAD_TYPES.keys()


@pytest.mark.parametrize("task", HEADS)
def test_predictions_shown_equal_those_that_evaluation_decodes(
    predictor: Predictor, records: dict[str, list[dict[str, Any]]], task: str, tokenizer: Any
) -> None:
    ((name, head),) = HEADS[task].items()
    examples = [read_input(given, "here").example for given in INPUTS[task]]
    if task == "people":  # evaluation needs words
        examples = [examples[0], read_input({"words": TEXT.split()}, "here").example]
    examples = [
        type(one)(one.where, one.text, {name: None}, one.text_pair, one.words, None, one.choices) for one in examples
    ]
    encoded = encode_examples(examples, HEADS[task], tokenizer, max_length=MAX_LENGTH)
    result = evaluate_task(
        predictor.model, task, InMemorySplit(encoded), batch_size=2, pad_id=0, device=torch.device("cpu")
    )
    first_windows = [next(one for one in encoded if one.example is example) for example in examples]
    for prediction, window, record in zip(result.predictions[name], first_windows, records[task], strict=True):
        assert near(record["predictions"][task][name], head.present(prediction, window))


def near(found: Any, expected: Any) -> bool:
    """Equal, numbers but for what another batch adds."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(near(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(near, found, expected))
    return bool(found == (pytest.approx(expected, abs=1e-4) if isinstance(expected, float) else expected))


def test_heads_that_read_another_type_of_input_predict_nothing(records: dict[str, list[dict[str, Any]]]) -> None:
    speaking = {task: set(found[0]["predictions"]) for task, found in records.items()}
    of_texts = {"feelings", "moods", "people"}
    assert speaking == {task: of_texts if task in of_texts else {task} for task in HEADS}


@pytest.mark.parametrize("choices", [[], ["a", ""]])
def test_an_input_without_choices_has_no_prediction(predictor: Predictor, choices: list[str]) -> None:
    records = list(predictor.predict([INPUTS["causes"][0], {"text": TEXT, "choices": choices}, INPUTS["causes"][1]]))
    assert [list(record["predictions"]) for record in records] == [["causes"], [], ["causes"]]
    assert records[1]["choices"] == choices


def test_every_line_is_json(records: dict[str, list[dict[str, Any]]]) -> None:
    for found in records.values():
        for record in found:
            assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_number_has_no_probabilities(records: dict[str, list[dict[str, Any]]]) -> None:
    assert list(records["likeness"][0]["predictions"]["likeness"]["likeness"]) == ["value"]


def test_a_number_is_shown_with_six_decimal_places(records: dict[str, list[dict[str, Any]]]) -> None:
    values = [record["predictions"]["likeness"]["likeness"]["value"] for record in records["likeness"]]
    assert values == [round(value, 6) for value in values]


def test_an_answer_has_its_offsets_in_the_context_also_in_a_later_window(
    records: dict[str, list[dict[str, Any]]],
) -> None:
    for record in records["answers"]:
        found = record["predictions"]["answers"]["answer"]
        assert record["context"][found["start"] : found["end"]] == found["answer"] != ""
        assert "truncated" not in record


VALUES = {
    "answers": [[1.0, 0.0], [0.0, 1.0], [math.nan, math.nan]],
    "causes": [0, 1, UNKNOWN],
    "feelings": [[1.0, 0.0], [math.nan, 1.0], [math.nan, math.nan]],
    "moods": [0, 2, UNKNOWN],
    "people": [0, 1, UNKNOWN],
    "likeness": [0.5, 0.1, math.nan],
}


@pytest.mark.parametrize("options", [{}, {"class_weights": {"bad": 1, "good": 2, "so-so": 3}}], ids=["", "weighted"])
@pytest.mark.parametrize("task", HEADS)
def test_no_loss_asks_for_a_value(task: str, options: dict[str, Any]) -> None:
    ((_, head),) = HEADS[task].items()
    if options:
        if task != "moods":
            pytest.skip("has no class weights")
        head = make_head(HeadConfig("classification", **options), MOODS)
    places = torch.arange(3)
    target = TargetBatch(places, places, torch.tensor([0, 0, 1]), torch.tensor(VALUES[task]), num_known=2)
    logits_ML = torch.randn(3, head.num_outputs, requires_grad=True)
    head.loss(logits_ML, target)  # the first time, weights go to the device
    with CountReads() as counter:
        head.loss(logits_ML, target).loss_sum.backward()
    assert counter.num_reads == 0
    assert logits_ML.grad is not None
    assert bool(logits_ML.grad.isfinite().all())
    assert bool((logits_ML.grad[2] == 0).all())

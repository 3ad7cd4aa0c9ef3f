"""Predicting beside evaluating: the same from the same model, in the order given, and no more work than needed."""

from __future__ import annotations

import itertools
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.encoding import ExampleTokenizer, encode_examples
from multitask_bert.data.splits import InMemorySplit
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, make_head
from multitask_bert.inference.inputs import Input, read_input
from multitask_bert.inference.predictor import Predictor
from multitask_bert.labels import LabelSet
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.multitask import DESCRIPTION, MultiTaskModel
from multitask_bert.records import EncodedExample, Example, Prediction, TaskResult
from multitask_bert.training.evaluation import evaluate_task
from multitask_bert.utils.files import CHECKSUMS
from tests.conftest import TINY

HEADS: dict[str, dict[str, Head]] = {
    "mood": {"polarity": make_head(HeadConfig("classification"), LabelSet(("bad", "good", "so-so")))},
    "people": {
        "entities": make_head(HeadConfig("tagging"), LabelSet(("O", "B-PER", "I-PER"))),
        "kinds": make_head(HeadConfig("tagging", scheme="plain"), LabelSet(("NOUN", "VERB"))),
    },
    "same": {"same": make_head(HeadConfig("classification"), LabelSet(("no", "yes")))},
}
KINDS = {"mood": "text", "people": "text", "same": "pair"}
WORDS = ("Amina", "anaishi", "Arusha", "na", "Juma", "alisema", "kwamba", "siku", "moja", "tulienda", "sokoni")
TEXTS = [" ".join(itertools.islice(itertools.cycle(WORDS), i, i + 1 + (7 * i) % 11)) for i in range(23)]


@pytest.fixture(scope="module")
def model() -> MultiTaskModel:
    torch.manual_seed(5)
    shape = {key: value for key, value in TINY.items() if key != "model_type"}
    model = MultiTaskModel(
        Encoder(AutoModel.from_config(BertConfig(**shape))), HEADS, pooling="mean", max_length=48, input_types=KINDS
    )
    with torch.no_grad():
        for weight in model.head_modules.parameters():
            weight.normal_(std=2.0)  # so that predictions differ from text to text
        model.encoder.backbone.embeddings.word_embeddings.weight.mul_(20.0)
    return model


@pytest.fixture
def predictor(model: MultiTaskModel, tokenizer: Any) -> Predictor:
    return Predictor(model, tokenizer, device="cpu", batch_size=4)


def evaluated(model: MultiTaskModel, tokenizer: Any, task: str, examples: list[Example]) -> TaskResult:
    encoded = InMemorySplit(encode_examples(examples, HEADS[task], tokenizer, max_length=48))
    return evaluate_task(model, task, encoded, batch_size=5, pad_id=0, device=torch.device("cpu"))


def predictions_of(predictor: Predictor, text: Any, task: str, head: str) -> dict[str, Any]:
    (record,) = predictor.predict([text])
    found: dict[str, Any] = record["predictions"][task][head]
    return found


# The same as evaluating


def test_classes_and_probabilities_equal_those_of_evaluation(predictor: Predictor, tokenizer: Any) -> None:
    examples = [Example(f"here:{i}", text, {"polarity": None}) for i, text in enumerate(TEXTS)]
    expected = evaluated(predictor.model, tokenizer, "mood", examples).predictions["polarity"]
    records = list(predictor.predict(TEXTS))
    for record, prediction in zip(records, expected, strict=True):
        found = record["predictions"]["mood"]["polarity"]
        assert found["label"] == prediction.value
        assert list(found["probabilities"]) == ["bad", "good", "so-so"]
        assert list(found["probabilities"].values()) == pytest.approx(prediction.scores, abs=2e-6)
    assert len({record["predictions"]["mood"]["polarity"]["label"] for record in records}) > 1


@pytest.mark.parametrize("as_words", [True, False])
def test_tags_equal_those_of_evaluation(predictor: Predictor, tokenizer: Any, as_words: bool) -> None:
    labels = dict.fromkeys(HEADS["people"])
    examples = [Example(f"here:{i}", text, labels, words=tuple(text.split())) for i, text in enumerate(TEXTS)]
    expected = evaluated(predictor.model, tokenizer, "people", examples).predictions
    inputs: list[Any] = [{"words": text.split()} for text in TEXTS] if as_words else TEXTS
    for number, (text, record) in enumerate(zip(TEXTS, predictor.predict(inputs), strict=True)):
        assert record["text"] == text
        for head in ("entities", "kinds"):
            found = record["predictions"]["people"][head]
            assert tuple(found["words"]) == examples[number].words
            assert tuple(found["tags"]) == expected[head][number].value


def test_pairs_equal_those_of_evaluation(predictor: Predictor, tokenizer: Any) -> None:
    pairs = list(zip(TEXTS, reversed(TEXTS), strict=True))
    examples = [Example("here", first, {"same": None}, text_pair=second) for first, second in pairs]
    expected = evaluated(predictor.model, tokenizer, "same", examples).predictions["same"]
    for pair, record, prediction in zip(pairs, predictor.predict(pairs), expected, strict=True):
        assert (record["text"], record["text_pair"]) == pair
        assert list(record["predictions"]) == ["same"]
        found = record["predictions"]["same"]["same"]
        assert found["label"] == prediction.value
        assert list(found["probabilities"].values()) == pytest.approx(prediction.scores, abs=2e-6)


def test_white_space_around_a_text_changes_no_prediction(predictor: Predictor) -> None:
    bare, wide = predictor.predict(["Amina anaishi Arusha", "  Amina anaishi Arusha\t"])
    assert wide["predictions"]["mood"] == bare["predictions"]["mood"]
    assert wide["predictions"]["people"]["kinds"] == bare["predictions"]["people"]["kinds"]


# Order, passes and memory


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_order_of_the_input_is_kept_under_any_batch_size(model: Any, tokenizer: Any, batch_size: int) -> None:
    predictor = Predictor(model, tokenizer, device="cpu", batch_size=batch_size)
    inputs: list[Any] = [item for text in TEXTS for item in (text, (text, text), {"words": text.split()})]
    records = list(predictor.predict(inputs))
    assert [record["text"] for record in records] == [text for text in TEXTS for _ in range(3)]
    alone = [next(predictor.predict([item])) for item in inputs[:6]]
    for record, single in zip(records, alone, strict=False):
        assert record["predictions"].keys() == single["predictions"].keys()
        for task in record["predictions"].keys() & {"mood", "same"}:
            for head, found in record["predictions"][task].items():
                other = single["predictions"][task][head]["probabilities"]
                assert found["probabilities"] == pytest.approx(other, abs=2e-6)


def test_a_text_goes_through_the_encoder_once_for_all_heads(predictor: Predictor) -> None:
    rows: list[int] = []
    hook = predictor.model.encoder.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0].input_ids_BS)))
    records = list(predictor.predict(TEXTS))
    hook.remove()
    assert all({len(heads) for heads in record["predictions"].values()} == {1, 2} for record in records)
    assert sum(rows) == len(TEXTS)


def test_a_text_is_tokenized_once_for_all_heads(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    tokenize, call = ExampleTokenizer._tokenize, type(predictor.tokenizer).__call__

    def counting(self: ExampleTokenizer, texts: list[str], pairs: Any) -> Any:
        seen.extend(texts)
        return tokenize(self, texts, pairs)

    def counting_calls(self: Any, texts: list[str], *rest: Any, **options: Any) -> Any:
        seen.extend(texts)
        return call(self, texts, *rest, **options)

    monkeypatch.setattr(ExampleTokenizer, "_tokenize", counting)
    monkeypatch.setattr(type(predictor.tokenizer), "__call__", counting_calls)
    list(predictor.predict(TEXTS))
    assert sorted(seen) == sorted(TEXTS)


def test_inputs_are_read_ahead_by_64_batches_at_most(predictor: Predictor) -> None:
    num_read = 0

    def endless() -> Iterator[str]:
        nonlocal num_read
        while True:
            num_read += 1
            yield "Amina"

    predictor.batch_size = 2
    records = predictor.predict(endless(), tasks=["mood"])
    ahead = []
    for count in range(1, 400):
        next(records)
        ahead.append(num_read - count)
    assert ahead[0] == 1
    assert max(ahead) == 2 * 64 - 1


def test_a_failing_source_loses_nothing_that_came_before(predictor: Predictor) -> None:
    def failing() -> Iterator[str]:
        yield from TEXTS[:6]
        raise OSError("the disk is gone")

    records = predictor.predict(failing())
    assert [record["text"] for record in itertools.islice(records, 6)] == TEXTS[:6]
    with pytest.raises(OSError, match="the disk is gone"):
        next(records)


# Entities and their places


@pytest.mark.parametrize(
    "text",
    [
        "Amina anaishi Arusha.",
        unicodedata.normalize("NFD", "Zoé vit à Orléans, près de Gisèle"),
        "😀 Amina 👍🏽 Juma 👩‍💻!",
        "Amina    anaishi\t\tArusha  ",
        "  Amina\u00a0Juma",
        "(Amina,Juma)a,b",
        "نور  हिन्दी 東京",
    ],
)
def test_offsets_of_each_entity_refer_to_the_text_as_it_was_given(predictor: Predictor, text: str) -> None:
    bias = predictor.model.head_modules["people"]["entities"][-1].bias  # type: ignore[index]
    before = bias.detach().clone()
    with torch.no_grad():
        bias += torch.tensor([-1e4, 1e4, 0.0])  # every word a person
    found = predictions_of(predictor, text, "people", "entities")
    with torch.no_grad():
        bias.copy_(before)
    read = [word for word, tag in zip(found["words"], found["tags"], strict=True) if tag is not None]
    assert [entity["text"] for entity in found["entities"]] == read
    assert [text[entity["start"] : entity["end"]] for entity in found["entities"]] == read
    assert "".join(found["words"]) == "".join(text.split())
    assert {entity["label"] for entity in found["entities"]} == {"PER"}


def test_an_entity_of_several_words_spans_what_stands_between_them() -> None:
    places = ((0, 2), (4, 9), (9, 10), (10, 13))
    example = Example("here", "Bi  Neema-Ann", {}, words=("Bi", "Neema", "-", "Ann"), word_offsets=places)
    encoded = EncodedExample(example, (), (), word_starts=(1, 2, 3, 4), targets={})
    shown = HEADS["people"]["entities"].present(Prediction(("O", "I-PER", "I-PER", "B-PER")), encoded)
    assert shown["entities"] == [
        {"label": "PER", "text": "Neema-", "start": 4, "end": 10},
        {"label": "PER", "text": "Ann", "start": 10, "end": 13},
    ]


def test_plain_tags_make_no_entities(predictor: Predictor) -> None:
    assert predictions_of(predictor, "Amina anaishi", "people", "kinds").keys() == {"words", "tags"}


def test_a_long_text_is_truncated_and_marked_and_unread_words_have_no_tag(predictor: Predictor) -> None:
    short, long = predictor.predict(["Amina anaishi", " ".join(["na"] * 60)])
    assert "truncated" not in short
    assert long["truncated"] is True
    tags = long["predictions"]["people"]["entities"]["tags"]
    assert [tag is None for tag in tags] == [False] * 46 + [True] * 14


# What fits what


def test_heads_of_the_named_tasks_only_predict(predictor: Predictor) -> None:
    (record,) = predictor.predict(["Amina"], tasks=["mood"])
    assert list(record["predictions"]) == ["mood"]
    with pytest.raises(InputError, match=r"task moood: the model has none of that name; it has mood, people, same"):
        predictor.predict(["Amina"], tasks=["moood"])


def test_one_task_may_be_named_without_a_list(predictor: Predictor) -> None:
    assert list(predictor.predict(["Amina"], tasks="mood")) == list(predictor.predict(["Amina"], tasks=["mood"]))


def test_a_list_without_tasks_is_refused(predictor: Predictor) -> None:
    with pytest.raises(
        InputError, match=r"tasks=\[\]: names no task; name some of mood, people, same, or leave it out"
    ):
        predictor.predict(["Amina"], tasks=[])


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("Amina", "one str"),
        (b"Amina", "one bytes"),
        ({"text": "Amina"}, "a dict"),
        (read_input("Amina", "here"), "one Input"),
    ],
)
def test_one_input_without_a_list_is_refused(predictor: Predictor, given: Any, what: str) -> None:
    with pytest.raises(InputError, match=rf"several inputs, but was given {what}; give a list: predict\(\[\.\.\.\]\)"):
        predictor.predict(given)


def test_an_input_that_no_head_fits_is_named_with_what_would_fit(predictor: Predictor) -> None:
    records = predictor.predict(["Amina", {"question": "nani?", "context": "Amina"}])
    assert next(records)["text"] == "Amina"
    with pytest.raises(
        InputError, match=r"input 2: no head of mood, people, same .* \(question\); give one of: words, pair, text"
    ):
        next(records)


def test_an_empty_text_has_no_predictions(predictor: Predictor) -> None:
    records = list(predictor.predict(["", "Amina", "  ", ("Amina", ""), {"words": []}]))
    assert [bool(record["predictions"]) for record in records] == [False, True, False, False, False]


def test_a_missing_text_has_no_predictions(predictor: Predictor) -> None:
    given: list[Any] = [{"text": None}, {"text": "Amina"}, {"text": None, "text_pair": "Amina"}, {"words": None}]
    records = list(predictor.predict(given))
    assert [bool(record["predictions"]) for record in records] == [False, True, False, False]
    assert records[0] == {"text": None, "predictions": {}}


def test_half_a_pair_is_no_pair_for_a_task_over_pairs_and_a_text_for_others(predictor: Predictor) -> None:
    pair = {"text": "Amina", "text_pair": None}
    assert [record["predictions"] for record in predictor.predict([pair], tasks="same")] == [{}]
    assert [list(record["predictions"]) for record in predictor.predict([pair])] == [["mood", "people"]]


def test_other_keys_are_returned_unchanged(predictor: Predictor) -> None:
    (record,) = predictor.predict([{"id": 7, "text": "Amina", "text_pair": None}], tasks=["mood"])
    assert (record["id"], list(record)[-1]) == (7, "predictions")


def test_an_input_given_twice_is_predicted_for_twice(predictor: Predictor) -> None:
    item: Input = read_input({"words": ["Amina"]}, "here")
    first, second = predictor.predict([item, item])
    assert first == second


def test_a_model_folder_without_input_types_can_be_read(predictor: Predictor, tmp_path: Path) -> None:
    predictor.model.save(tmp_path / "model", predictor.tokenizer)
    path = tmp_path / "model" / DESCRIPTION
    description = json.loads(path.read_text(encoding="utf-8"))
    assert (description.pop("max_length"), description.pop("kinds")) == (48, KINDS)
    new = Predictor.load(tmp_path, device="cpu")
    assert (new.max_length, new.tasks) == (48, ("mood", "people", "same"))
    path.write_text(json.dumps(description), encoding="utf-8")
    (tmp_path / "model" / CHECKSUMS).unlink()  # older than these, too
    old = Predictor.load(tmp_path / "model", device="cpu")
    assert old.max_length == TINY["max_position_embeddings"]
    text, pair = old.predict(["Amina", ("Amina", "Juma")])
    assert list(text["predictions"]) == ["mood", "people", "same"]
    assert list(pair["predictions"]) == ["mood", "same"]
    assert next(new.predict(["Amina"]))["predictions"]["mood"] == text["predictions"]["mood"]


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither a run's folder with a model in it, nor a model's folder"):
        Predictor.load(tmp_path)


def test_an_unknown_precision_is_refused_with_the_known_ones(model: MultiTaskModel, tokenizer: Any) -> None:
    with pytest.raises(InputError, match="precision=auto: choose one of fp32, bf16, fp16"):
        Predictor(model, tokenizer, device="cpu", precision="auto")

"""The files that a run was trained on can be predicted for, under the names that its tasks give their columns."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig, HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import make_head
from multitask_bert.inference.columns import Columns, columns_of_task
from multitask_bert.inference.inputs import Input
from multitask_bert.inference.lines import read_inputs
from multitask_bert.labels import LabelSet
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.multitask import MultiTaskModel
from tests.conftest import TINY

THREE = {"text": "premise", "choices": ("c1", "c2", "c3")}
ONE = {"text": "premise", "choices": ("options",)}


def first_input(content: str, name: str, *columns: Columns) -> Input:
    return next(read_inputs(io.BytesIO(content.encode()), name, columns=columns))


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ({"source": {"word_column": 0}}, None),
        ({"source": {"text": "review"}}, {"text": "review"}),
        ({"source": {"text": "a", "text_pair": "b"}}, {"text": "a", "text_pair": "b"}),
        ({"source": {"text": None, "words": "tokens"}}, {"words": "tokens"}),
        ({"source": {"text": "premise", "choices": ["c1", "c2", "c3"]}}, THREE),
        ({"source": {"text": "q", "text_pair": "c"}, "heads": {"h": {"type": "span"}}},
         {"question": "q", "context": "c"}),
    ],
)  # fmt: skip
def test_a_task_of_a_config_names_its_columns(task: dict[str, Any], expected: Columns | None) -> None:
    assert columns_of_task(task) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "id,premise,c1,c2,c3\n7,Juma,a,b,\n"),
        ("a.jsonl", '{"id": "7", "premise": "Juma", "c1": "a", "c2": "b", "c3": ""}\n'),
    ],
)
def test_choices_may_have_a_column_each(name: str, content: str) -> None:
    item = first_input(content, name, THREE)
    assert (item.input_type, item.shown) == ("choices", {"text": "Juma", "choices": ["a", "b", ""], "id": "7"})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'premise,options\nJuma,"[""a"", ""b""]"\n'),
        ("a.csv", 'text,choices\nJuma,"[""a"", ""b""]"\n'),
        ("a.jsonl", '{"premise": "Juma", "options": ["a", "b"]}\n'),
    ],
)
def test_choices_may_be_a_list_in_one_column(name: str, content: str) -> None:
    item = first_input(content, name, ONE)
    assert (item.input_type, item.shown) == ("choices", {"text": "Juma", "choices": ["a", "b"]})


@pytest.mark.parametrize("field", ["", "[]"])
def test_an_empty_field_holds_no_choices(field: str) -> None:
    assert first_input(f"premise,options\nJuma,{field}\n", "a.csv", ONE).example.choices == ()


def test_a_number_of_thousands_of_digits_is_no_list_of_choices() -> None:
    with pytest.raises(InputError, match=r"a\.csv:2: `choices` must be a list of strings, but is str '\[777"):
        first_input(f"premise,options\nJuma,[{'7' * 5000}]\n", "a.csv", ONE)


def test_a_column_of_choices_that_is_no_list_is_named_with_its_line() -> None:
    with pytest.raises(InputError, match=r"a\.csv:2: `choices` must be a list of strings, but is str 'a; b'"):
        first_input("premise,options\nJuma,a; b\n", "a.csv", ONE)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "tokens,tags\nJuma\u00a0K yuko  Tanga,A B C\n"),
        ("a.jsonl", '{"tokens": ["Juma\u00a0K", "yuko", "Tanga"], "tags": "A B C"}\n'),
        ("a.jsonl", '{"tokens": "Juma\u00a0K yuko Tanga", "tags": "A B C"}\n'),
    ],
)
def test_words_of_inputs_are_split_as_those_of_training_data(name: str, content: str) -> None:
    item = first_input(content, name, {"words": "tokens"})
    assert (item.input_type, item.example.words) == ("words", ("Juma\u00a0K", "yuko", "Tanga"))
    assert item.shown == {"text": "Juma\u00a0K yuko Tanga", "words": list(item.example.words or ()), "tags": "A B C"}


@pytest.mark.parametrize(
    ("content", "columns", "shown"),
    [
        ('{"review": "Juma", "id": 7}', {"text": "review"}, {"text": "Juma", "id": 7}),
        (
            '{"message": {"body": "Juma", "from": "me"}}',
            {"text": "message.body"},
            {"text": "Juma", "message": {"body": "Juma", "from": "me"}},
        ),
        ('{"a": "Juma", "b": "yuko"}', {"text": "a", "text_pair": "b"}, {"text": "Juma", "text_pair": "yuko"}),
        ('{"text": "Juma", "review": "x"}', {"text": "review"}, {"text": "Juma", "review": "x"}),
        ('{"a": "Juma", "b": "yuko", "text": "x"}', {"text": "a", "text_pair": "b"},
         {"text": "Juma", "text_pair": "yuko"}),
        ('{"q": "nani?", "c": "Juma"}', {"question": "q", "context": "c"}, {"question": "nani?", "context": "Juma"}),
        ('{"question": "nani?", "context": "Juma"}', {"text": "question", "text_pair": "context"},
         {"text": "nani?", "text_pair": "Juma"}),
        ('{"question": "nani?", "context": "Juma"}', {"text": "a"}, {"question": "nani?", "context": "Juma"}),
    ],
)  # fmt: skip
def test_objects_have_the_fields_of_the_task(content: str, columns: Columns, shown: dict[str, Any]) -> None:
    assert first_input(content, "a.jsonl", columns).shown == shown
    assert first_input(content, "-", columns).shown == shown


def test_an_output_can_be_given_as_input_again_under_the_same_columns() -> None:
    shown = first_input('{"message": {"body": "Juma"}}', "a.jsonl", {"text": "message.body"}).shown
    again = first_input(json.dumps({**shown, "predictions": {}}), "a.jsonl", {"text": "message.body"})
    assert again.shown == shown


RUN = """
tasks:
  causes:
    source: {format: csv, text: premise, choices: [c1, c2], quoted: true}
    heads: {cause: {type: choice, column: label}}
  mood:
    source: {format: jsonl, text: message.body}
    heads: {mood: {type: classification, column: mood}}
  people:
    source: {format: csv, words: tokens}
    heads: {entities: {type: tagging, column: tags}}
"""


@pytest.fixture(scope="module")
def run_dir(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with a model that knows nothing."""
    folder = tmp_path_factory.mktemp("run")
    heads = {
        "causes": {"cause": make_head(HeadConfig("choice"), LabelSet(()))},
        "mood": {"mood": make_head(HeadConfig("classification"), LabelSet(("bad", "good")))},
        "people": {"entities": make_head(HeadConfig("tagging"), LabelSet(("O", "B-PER", "I-PER")))},
    }
    torch.manual_seed(5)
    encoder = Encoder(
        AutoModel.from_config(BertConfig(**{key: value for key, value in TINY.items() if key != "model_type"}))
    )
    kinds = {"causes": "choices", "mood": "text", "people": "text"}
    MultiTaskModel(encoder, heads, pooling="mean", max_length=32, input_types=kinds).save(folder / "model", tokenizer)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text(RUN, encoding="utf-8")
    return folder


def predicted(run_dir: Path, folder: Path, content: str, name: str) -> list[dict[str, Any]]:
    """What `action=predict` writes for a file."""
    (folder / name).write_text(content, encoding="utf-8")
    out = folder / "out.jsonl"
    config = ExperimentConfig(action="predict", run_dir=str(run_dir), input=str(folder / name), output=str(out))
    config.trainer.device = "cpu"
    actions.predict(config, folder)
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("name", "content", "tasks"),
    [
        ("a.csv", "premise,c1,c2,label\nJuma,a,b,0\n", ["causes"]),
        ("a.jsonl", '{"message": {"body": "Juma"}, "mood": "good"}\n', ["mood", "people"]),
        ("a.csv", "tokens,tags\nJuma yuko,B-PER O\n", ["mood", "people"]),
    ],
)
def test_a_file_of_the_run_can_be_predicted_for(
    run_dir: Path, tmp_path: Path, name: str, content: str, tasks: list[str]
) -> None:
    (record,) = predicted(run_dir, tmp_path, content, name)
    assert list(record["predictions"]) == tasks


@pytest.mark.parametrize(("num_texts", "said"), [(1, "1 prediction written"), (2, "2 predictions written")])
def test_write_lines_returns_the_number_of_lines(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], num_texts: int, said: str
) -> None:
    predicted(run_dir, tmp_path, "Juma\n" * num_texts, "a.txt")
    assert capsys.readouterr().err.startswith(said)

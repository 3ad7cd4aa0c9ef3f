"""`format=hf`: stock classes of transformers give our predictions on a whole dev set, without our code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from multitask_bert.config.schema import ExperimentConfig, HeadConfig, TaskConfig
from multitask_bert.errors import InputError
from multitask_bert.export.exporting import export_run
from multitask_bert.export.hf import write_hf
from multitask_bert.inference.predictor import Predictor
from tests.export.run_of_all_heads import MAX_LENGTH, NAMES, TEXTS, TOWNS, make_model, make_run, tasks
from tests.model.tiny_encoders import SHAPES

pytestmark = pytest.mark.slow

PAIRS = [(text, TEXTS[-index]) for index, text in enumerate(TEXTS)]
FAMILIES = [*SHAPES, "deberta-v2"]


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    return export_run(ExperimentConfig(action="export", run_dir=str(run), format="hf"))


@pytest.fixture(scope="module")
def predictor(run: Path) -> Predictor:
    return Predictor.load(run, device="cpu")


def ours(predictor: Predictor, inputs: list[Any], task: str) -> list[dict[str, Any]]:
    return [found["predictions"][task]["head"] for found in predictor.predict(inputs, task)]


def test_pipeline_gives_our_classes_on_the_whole_dev_set(exported: Path, predictor: Predictor) -> None:
    found = transformers.pipeline("text-classification", model=str(exported / "moods.head"), truncation=True)(TEXTS)
    expected = ours(predictor, TEXTS, "moods")
    assert [one["label"] for one in found] == [one["label"] for one in expected]
    assert len({one["label"] for one in found}) > 1
    for one, own in zip(found, expected, strict=True):
        assert one["score"] == pytest.approx(own["probabilities"][own["label"]], abs=1e-4)


def test_pipeline_with_the_saved_thresholds_gives_our_label_sets(exported: Path, predictor: Predictor) -> None:
    pipe = transformers.pipeline(
        "text-classification", model=str(exported / "feelings.head"), top_k=None, truncation=True
    )
    least = dict(zip(pipe.model.config.id2label.values(), pipe.model.config.thresholds, strict=True))
    found = [{one["label"] for one in of_text if one["score"] >= least[one["label"]]} for of_text in pipe(TEXTS)]
    assert found == [set(one["labels"]) for one in ours(predictor, TEXTS, "feelings")]
    assert len(set(map(frozenset, found))) > 2


def test_pipeline_gives_our_numbers_in_units_of_the_data(exported: Path, predictor: Predictor) -> None:
    pipe = transformers.pipeline("text-classification", model=str(exported / "likeness.head"), truncation=True)
    found = [pipe({"text": first, "text_pair": second}) for first, second in PAIRS]
    expected = [one["value"] for one in ours(predictor, PAIRS, "likeness")]
    assert [one["score"] for one in found] == pytest.approx(expected, abs=1e-3)
    assert max(expected) - min(expected) > 0.1


def test_pipeline_gives_our_entities_where_words_have_no_hyphens(exported: Path, predictor: Predictor) -> None:
    pipe = transformers.pipeline(
        "token-classification", model=str(exported / "people.head"), aggregation_strategy="first"
    )
    texts = [text for text in TEXTS if not re.search(r"['-]", text)]
    found = [{(one["start"], one["end"], one["entity_group"]) for one in pipe(text)} for text in texts]
    expected = [
        {(one["start"], one["end"], one["label"]) for one in own["entities"]}
        for own in ours(predictor, texts, "people")
    ]
    assert found == expected
    assert sum(map(len, expected)) > len(texts)


def test_card_counts_the_entities_that_hyphens_and_apostrophes_change(exported: Path) -> None:
    card = (exported / "people.head" / "README.md").read_text(encoding="utf-8")
    counted = re.search(r"Entities: on (\d+) dev texts with \d+ entities, the pipeline lacks (\d+)", card)
    assert counted is not None
    assert int(counted[1]) == len(NAMES) * len(TOWNS)
    assert int(counted[2]) > 0


def test_stock_class_finds_our_answers(exported: Path, predictor: Predictor) -> None:
    folder = exported / "answers.head"
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = [{"question": "anaishi wapi?", "context": text} for text in TEXTS]
    for given, own in zip(inputs, ours(predictor, inputs, "answers"), strict=True):
        encoded = tokenizer(given["question"], given["context"], return_tensors="pt", return_offsets_mapping=True)
        offsets = encoded.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            output = model(**encoded)
        inside = [index for index, side in enumerate(encoded.sequence_ids(0)) if side == 1]
        begin, end = output.start_logits[0], output.end_logits[0]
        first, last = max(
            ((i, j) for i in inside for j in inside if i <= j), key=lambda ij: float(begin[ij[0]] + end[ij[1]])
        )
        assert given["context"][offsets[first][0] : offsets[last][1]] == own["answer"]


def test_stock_class_makes_our_choices(exported: Path, predictor: Predictor) -> None:
    folder = exported / "causes.head"
    model = transformers.AutoModelForMultipleChoice.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = [{"text": text, "choices": [TEXTS[-i], TEXTS[i // 2]]} for i, text in enumerate(TEXTS)]
    made = []
    for given in inputs:
        encoded = tokenizer([given["text"]] * 2, given["choices"], return_tensors="pt", padding=True, truncation=True)
        with torch.no_grad():
            made.append(int(model(**{key: value[None] for key, value in encoded.items()}).logits.argmax()))
    assert made == [one["choice"] for one in ours(predictor, inputs, "causes")]
    assert set(made) == {0, 1}


@pytest.mark.parametrize("pooling", ["mean", "max", "cls"])
def test_head_without_a_stock_class_brings_a_class_that_gives_our_labels(
    tmp_path: Path, tokenizer: Any, pooling: str
) -> None:
    make_run(tmp_path / "run", tokenizer, pooling=pooling, names=("moods",))
    target = export_run(ExperimentConfig(action="export", run_dir=str(tmp_path / "run"), format="hf"))
    folder = target / "moods.head"
    assert "trust_remote_code=True" in (folder / "README.md").read_text(encoding="utf-8")
    pipe = transformers.pipeline("text-classification", model=str(folder), truncation=True, trust_remote_code=True)
    expected = ours(Predictor.load(tmp_path / "run", device="cpu"), TEXTS, "moods")
    assert [one["label"] for one in pipe(TEXTS)] == [one["label"] for one in expected]
    with pytest.raises(ValueError, match="trust_remote_code"):
        transformers.AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False)


def test_long_text_is_truncated_as_ours_is(exported: Path, predictor: Predictor) -> None:
    text = " ".join(TEXTS)
    pipe = transformers.pipeline("text-classification", model=str(exported / "moods.head"), truncation=True)
    assert pipe.tokenizer.model_max_length == MAX_LENGTH
    (expected,) = ours(predictor, [text], "moods")
    assert pipe(text)[0]["score"] == pytest.approx(expected["probabilities"][expected["label"]], abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_class_for_each_text_head_or_is_refused_by_name(
    tmp_path: Path, tokenizer: Any, family: str
) -> None:
    """What is written has been compared with our logits; DeBERTa and the like get our own class for whole texts."""
    configs = {name: task for name, task in tasks().items() if name in ("moods", "feelings", "people")}
    shape = {"model_type": family, "vocab_size": 30522, **SHAPES.get(family, SHAPES["bert"])}
    if family == "modernbert":  # its classes have a layer of their own before the tags
        with pytest.raises(InputError, match=r"no class of transformers computes people\.head .*format=onnx"):
            write_hf(make_model(configs, shape=shape), tokenizer, tmp_path)
        configs.pop("people")
    classes = write_hf(make_model(configs, shape=shape), tokenizer, tmp_path)
    assert classes.keys() == {(task, "head") for task in configs}
    written = [json.loads((tmp_path / f"{task}.head" / "config.json").read_text()) for task in configs]
    assert {config.get("encoder", config)["model_type"] for config in written} == {family}


def test_extra_layer_before_tags_is_refused_with_the_way_out(tmp_path: Path, tokenizer: Any) -> None:
    people = tasks()["people"]
    configs = {"people": TaskConfig(people.source, {"head": HeadConfig("tagging", column="1", hidden_size=8)})}
    with pytest.raises(InputError, match=r"people\.head \(tagging with hidden_size.*format=onnx"):
        write_hf(make_model(configs), tokenizer, tmp_path)
    assert not any(tmp_path.iterdir())

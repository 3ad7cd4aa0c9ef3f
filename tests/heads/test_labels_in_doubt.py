"""Labels that are accepted, but look as if something else was meant: told, once, with the way out."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.processor import DataProcessor
from multitask_bert.errors import InputError
from multitask_bert.heads import parse_label
from multitask_bert.heads.multilabel import MultilabelHead
from multitask_bert.heads.tagging import TaggingHead
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, Prediction
from tests.data.task_files import make_task


@pytest.mark.parametrize("labels", [{}, {"labels": ["joy|fear", "joy"]}, {"separator": "|"}])
def test_another_separator_in_labels_gives_a_warning(
    labels: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    config = HeadConfig("multilabel", column="felt", **labels)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        MultilabelHead.collect(config, [MultilabelHead.parse(config, raw, "f:1") for raw in ("joy|fear", "joy")])
    assert ("the label 'joy|fear' holds a '|'" in caplog.text and "set `separator: '|'`" in caplog.text) == (not labels)


@pytest.mark.parametrize(("tags", "is_told"), [
    (("I-PER", "O", "I-LOC", "I-LOC", "O", "I-PER"), True),
    (("B-PER", "O", "B-LOC", "I-LOC", "O", "I-PER"), False),
    (("O",), False),
])  # fmt: skip
def test_a_file_that_looks_like_iob1_gives_a_warning(
    tags: tuple[str, ...], is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        TaggingHead.collect(HeadConfig("tagging"), [tags])
    assert ("3 of 3 entities in train begin with I-: if the file is IOB1, set `scheme: iob1`" in caplog.text) == is_told


@pytest.mark.parametrize("raw", ["ma\u0301s", ("ma\u0301s", "no")])
def test_labels_that_look_the_same_are_the_same(raw: object) -> None:
    kind = "tagging" if isinstance(raw, tuple) else "classification"
    config = HeadConfig(kind, scheme="plain") if kind == "tagging" else HeadConfig(kind)
    assert parse_label(config, raw, "f:1") == ("m\u00e1s" if kind == "classification" else ("m\u00e1s", "no"))


# The number that a label is.


@pytest.mark.parametrize(
    "raw", ["1_0", "\u0661", "\uff11", "0x1", "infinity", "nan", "1e999", "1,5", "1" * 5000, "", True]
)
def test_only_plain_numbers_are_numbers(raw: object) -> None:
    for kind in ("regression", "choice"):
        if raw == "":
            assert parse_label(HeadConfig(kind), raw, "f:1") is None
            continue
        with pytest.raises(InputError, match=f"f:1: {kind} needs"):
            parse_label(HeadConfig(kind), raw, "f:1")


@pytest.mark.parametrize("raw", ["10", "-2.5", "+3", ".5", "1.", "1e-3", "1E5", 7, 2.5, 10**20])
def test_plain_numbers_have_their_value(raw: Any) -> None:
    assert parse_label(HeadConfig("regression"), raw, "f:1") == float(raw)


def process(folder: Path, heads: dict[str, HeadConfig], tokenizer: Any, files: dict[str, str], **options: Any) -> Any:
    task = make_task(folder, options.pop("kind", "csv"), files, heads=heads, test_fraction=0, **options)
    return DataProcessor({"mine": task}, data_root="unused", seed=1).process(tokenizer, max_length=16)


def test_a_whole_number_is_one_label_however_it_is_written(tmp_path: Path, tokenizer: Any) -> None:
    rows = [1, "1", 1.0, 0, "0.0", None]
    train = "".join(json.dumps({"text": f"t{n}", "label": label}) + "\n" for n, label in enumerate(rows))
    heads = {"mood": HeadConfig("classification", column="label", class_weights={1: 3, 0.0: 2})}
    files = {"train": train, "dev": '{"text": "d", "label": 1.0}\n'}
    data = process(tmp_path, heads, tokenizer, files, kind="jsonl", text="text")
    head = data.heads["mine"]["mood"]
    assert (head.labels.names, head.labels.counts) == (("0", "1"), (2, 3))
    assert head.config.class_weights == {"0": 2.0, "1": 3.0}
    values = [one.targets["mood"].values[0] for one in data.train["mine"]]
    assert values == [1, 1, 1, 0, 0, UNKNOWN]
    assert data.dev["mine"][0].targets["mood"].values == (1,)


def test_labels_are_spelled_as_train_spells_them_where_it_does_so_in_one_way(tmp_path: Path, tokenizer: Any) -> None:
    files = {"train": "text,label\na,0.0\nb,1.0\nc,\n", "dev": "text,label\nd,0\ne,1\n"}
    data = process(tmp_path, {"mood": HeadConfig("classification", column="label")}, tokenizer, files)
    head = data.heads["mine"]["mood"]
    assert head.labels.names == ("0.0", "1.0")
    dev = [head.spelled(one.example.labels["mood"]) for one in data.dev["mine"]]
    scores = head.score(dev, [Prediction("0.0"), Prediction("0.0")])
    assert (dev, scores["accuracy"]) == (["0.0", "1.0"], 0.5)
    assert LabelSet.from_names(["007", "7", "1.10", "1.1", "v1.0"]).names == ("007", "1.1", "1.10", "7", "v1.0")


def test_whole_numbers_of_several_labels_and_tags_are_one_label(tmp_path: Path, tokenizer: Any) -> None:
    many = MultilabelHead(HeadConfig("multilabel", column="x"), LabelSet(("1", "2")))
    assert many.spelled({"1.0": True, "2": True}) == {"1": True, "2": True}
    pos = TaggingHead(HeadConfig("tagging", scheme="plain"), LabelSet(("1", "2")))
    assert pos.spelled(("2.0", "1")) == ("2", "1")


@pytest.mark.parametrize(("labels", "pair"), [
    (["Good", "good"], "'Good' and 'good'"), (["very good", "verygood "], "'very good' and 'verygood'"),
    (["a\u00a0b", "a b"], "'a b' and"), (["true", "1"], "'1' and 'true'"), (["good", "goods"], None),
])  # fmt: skip
def test_labels_that_are_probably_one_are_told(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture, labels: list[str], pair: str | None
) -> None:
    rows = "text,label\n" + "".join(f"t{n},{label}\n" for n, label in enumerate(labels))
    process(tmp_path, {"mood": HeadConfig("classification", column="label")}, tokenizer, {"train": rows, "dev": rows})
    assert ("differ only in how they are written" in caplog.text) == (pair is not None)
    assert pair is None or pair in caplog.text


def test_a_label_that_is_probably_a_known_one_is_asked_about(tmp_path: Path, tokenizer: Any) -> None:
    files = {"train": "text,label\na,good\nb,bad\n", "dev": "text,label\nc,Good\nd,Good\ne,meh\n"}
    with pytest.raises(
        InputError, match=r"(?s)dev.txt:2: label 'Good' .*Is it 'good'\? \(2 examples\)\n.*:4: label 'meh'"
    ):
        process(tmp_path, {"mood": HeadConfig("classification", column="label")}, tokenizer, files)


# Labels that train does not have.


def test_a_class_that_only_dev_has_counts_as_wrong(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"train": "text,label\na,good\nb,bad\n", "dev": "text,label\nc,good\nd,meh\ne,bad\nf,meh\n"}
    heads = {"mood": HeadConfig("classification", column="label", unknown_labels="wrong")}
    data = process(tmp_path, heads, tokenizer, files)
    assert "2 dev example(s) have a label that heads.mood does not know, which counts as wrong: meh (2)" in caplog.text
    head = data.heads["mine"]["mood"]
    targets = [one.targets["mood"] for one in data.dev["mine"]]
    assert [target.num_known for target in targets] == [1, 0, 1, 0]
    golds = [one.example.labels["mood"] for one in data.dev["mine"]]
    scores = head.score(golds, [Prediction(name) for name in ("good", "good", "bad", "bad")])
    assert scores["accuracy"] == 0.5
    assert scores["f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)  # of good, bad and meh
    assert head.for_module(golds, [Prediction("good")] * 4)["references"] == [1, 2, 0, 2]
    named = {"mood": HeadConfig("classification", column="label", unknown_labels="wrong", labels=["good", "meh"])}
    with pytest.raises(InputError, match=r"train.txt:3: label 'bad' is not among"):  # train is to be learned
        process(tmp_path, named, tokenizer, files)


def test_several_labels_with_one_that_only_dev_has_count_as_wrong(tmp_path: Path, tokenizer: Any) -> None:
    files = {"train": "text,label\na,joy\nb,fear\n", "dev": 'text,label\nc,"joy,envy"\nd,fear\n'}
    heads = {"felt": HeadConfig("multilabel", column="label", unknown_labels="wrong")}
    data = process(tmp_path, heads, tokenizer, files)
    head = data.heads["mine"]["felt"]
    golds = [one.example.labels["felt"] for one in data.dev["mine"]]
    found = [Prediction(("joy",), (0.1, 0.9)), Prediction(("fear",), (0.9, 0.1))]
    scores = head.score(golds, found)
    assert (scores["f1"], scores["exact_match"]) == (pytest.approx(2 / 3), 0.5)  # of fear, joy and envy
    assert scores["f1_micro"] == pytest.approx(2 * 2 / (3 + 2))
    assert [head.is_right(gold, one) for gold, one in zip(golds, found, strict=True)] == [False, True]


@pytest.mark.parametrize("scheme", ["iob2", "plain"])
def test_tags_that_only_dev_has_count_as_wrong(tmp_path: Path, tokenizer: Any, scheme: str) -> None:
    files = {"train": "Asha\tB-PER\nleo\tO\n", "dev": "Asha\tB-PER\nMoshi\tB-LOC\nleo\tO\n"}
    heads = {"tags": HeadConfig("tagging", scheme=scheme, unknown_labels="wrong", metrics=["accuracy", "f1"])}
    data = process(tmp_path, heads, tokenizer, files, kind="conll")
    head, encoded = data.heads["mine"]["tags"], data.dev["mine"][0]
    assert (encoded.targets["tags"].num_known, encoded.targets["tags"].values[1]) == (2, UNKNOWN)
    scores = head.score([encoded.example.labels["tags"]], [Prediction(("B-PER", "O", "O"))])
    assert scores["accuracy"] == pytest.approx(2 / 3)
    f1_of_tags = (1 + 2 / 3 + 0) / 3  # B-PER, O, B-LOC
    assert scores["f1"] == pytest.approx(2 / 3 if scheme == "iob2" else f1_of_tags)


def test_a_dev_set_of_unknown_labels_only_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    files = {"train": "text,label\na,good\nb,bad\n", "dev": "text,label\nc,meh\n"}
    heads = {"mood": HeadConfig("classification", column="label", unknown_labels="wrong")}
    with pytest.raises(InputError, match=r"heads.mood knows none of the labels that dev has \(meh \(1\)\)"):
        process(tmp_path, heads, tokenizer, files)


# What YAML makes of names.


def test_names_that_yaml_changes_are_explained(tmp_path: Path, tokenizer: Any) -> None:
    files = {"train": "text,label,on\na,no,1\nb,007,0\n", "dev": "text,label,on\nc,no,1\n"}
    for head, place in (
        (
            HeadConfig("classification", column="label", class_weights={False: 2}),
            "class_weights: there is no label False",
        ),
        (HeadConfig("classification", column="label", labels=["False", "7"]), "label 'no' is not among"),
        (HeadConfig("multilabel", columns=["True"]), "lacks the column 'True'"),
    ):
        with pytest.raises(
            InputError, match=rf"{place}.*yes, no, on and off stand for True and False unless .* quoted"
        ):
            process(tmp_path, {"kind": head}, tokenizer, files)
    head = HeadConfig("classification", column="label", labels=["no", "7"])
    with pytest.raises(InputError, match=r"label '007' .*numbers that begin with 0 .* unless they are quoted"):
        process(tmp_path, {"kind": head}, tokenizer, files)

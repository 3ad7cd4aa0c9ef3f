"""CoNLL-U, JSON lines, SQuAD, parallel files, Parquet and `datasets`: what each format's records become."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data import readers
from multitask_bert.data.downloads import locate
from multitask_bert.data.readers import READERS
from multitask_bert.errors import InputError
from multitask_bert.heads import HEAD_TYPES
from multitask_bert.heads.base import Head
from multitask_bert.records import Example
from tests.data.task_files import PARALLEL, QUESTION, conllu_word, parquet_file, squad_file, write

TAGS = {"tags": HeadConfig(type="tagging", scheme="plain", column="tags")}
LABEL = {"label": HeadConfig(type="classification", column="label")}


class AsRead(HEAD_TYPES["classification"]):  # type: ignore[misc]
    """A head whose label is what the reader gave."""

    @classmethod
    def parse(cls, config: HeadConfig, raw: Any, where: str) -> Any:
        return raw


@pytest.fixture
def as_read(monkeypatch: pytest.MonkeyPatch) -> dict[str, HeadConfig]:
    """A head on the field `label` that shows what readers hand to heads."""
    as_read: type[Head] = AsRead
    monkeypatch.setitem(HEAD_TYPES, "as_read", as_read)
    return {"label": HeadConfig(type="as_read", column="label")}


def read(
    folder: Path, content: str | bytes, heads: Mapping[str, HeadConfig], *, file_format: str, **source: Any
) -> list[Example]:
    write(folder, "train", content)
    return list(READERS[file_format](folder / "train.txt", SourceConfig(format=file_format, **source), heads))


def jsonl(folder: Path, *records: Any, heads: Mapping[str, HeadConfig], **source: Any) -> list[Example]:
    lines = "\n".join(json.dumps(record) for record in records)
    return read(folder, lines, heads, file_format="jsonl", **source)


def test_conllu_comments_ranges_and_empty_nodes_are_skipped(tmp_path: Path) -> None:
    content = (
        "# text = #si kwao\n" + conllu_word("1", "#si", "VERB") + conllu_word("2-3", "kwao", "_")
        + conllu_word("2", "kwa", "ADP") + "# a comment between words\n" + conllu_word("3", "ao", "PRON")
        + conllu_word("3.1", "hidden", "VERB") + " \t\n" + conllu_word("1", "Dar es Salaam", "PROPN")
    )  # fmt: skip
    heads = {"pos": HeadConfig(type="tagging", scheme="plain", column="UPOS")}
    for text in (content, content.replace("\n", "\r\n")):
        first, second = read(tmp_path, text, heads, file_format="conllu")
        assert (first.words, first.labels["pos"]) == (("#si", "kwa", "ao"), ("VERB", "ADP", "PRON"))
        assert (second.words, second.labels["pos"]) == (("Dar es Salaam",), ("PROPN",))
        assert (first.where, second.where) == (f"{tmp_path}/train.txt:2:1", f"{tmp_path}/train.txt:9:1")


def test_conllu_columns_and_features_go_by_name(tmp_path: Path) -> None:
    content = "1\tmice\tmouse\tNOUN\tNNS\tCase=Nom|Number=Plur\t0\troot\t_\t_\n2\tran\trun\tVERB\t_\t_\t1\tdep\t_\t_\n"
    columns = {"lemma": "lemma", "number": "feats.Number", "deprel": "deprel", "xpos": "xpos"}
    heads = {name: HeadConfig(type="tagging", scheme="plain", column=column) for name, column in columns.items()}
    (example,) = read(tmp_path, content, heads, file_format="conllu")
    assert example.labels == {
        "lemma": ("mouse", "run"), "number": ("Plur", "_"), "deprel": ("root", "dep"), "xpos": ("NNS", "_"),
    }  # fmt: skip
    (example,) = read(tmp_path, content, heads, file_format="conllu", words="lemma")
    assert example.words == ("mouse", "run")


def test_a_conllu_column_without_any_value_in_a_sentence_is_a_missing_label(tmp_path: Path) -> None:
    content = conllu_word("1", "a", "_") + conllu_word("2", "b", "_") + "\n" + conllu_word("1", "c", "X")
    heads = {"pos": HeadConfig(type="tagging", scheme="plain", column="upos")}
    assert [e.labels["pos"] for e in read(tmp_path, content, heads, file_format="conllu")] == [None, ("X",)]


def test_json_lines_hold_texts_with_labels_of_any_kind(tmp_path: Path, as_read: dict[str, HeadConfig]) -> None:
    labels = ["good", 3, 2.5, True, None, ["a", "b"], {"a": [1]}, ""]
    records = [{"id": n, "text": f"t{n}", "label": label} for n, label in enumerate(labels)]
    examples = jsonl(tmp_path, *records, {"text": "none"}, heads=as_read, text="text")
    assert [example.labels["label"] for example in examples] == [*labels, None]
    assert [example.text for example in examples] == [*(f"t{n}" for n in range(len(labels))), "none"]
    assert examples[2].where == f"{tmp_path}/train.txt:3"


def test_fields_inside_of_fields_are_named_with_dots(tmp_path: Path) -> None:
    heads = {"label": HeadConfig(type="classification", column="meta.label")}
    record = {"data": {"body": "sawa", "title": "x"}, "meta": {"label": "good"}}
    with_dots = {"data.body": "dots", "data": {"title": "y"}, "meta.label": "bad"}  # a name that itself has dots
    first, second = jsonl(tmp_path, record, with_dots, heads=heads, text="data.body", text_pair="data.title")
    assert (first.text, first.text_pair, first.labels["label"]) == ("sawa", "x", "good")
    assert (second.text, second.text_pair, second.labels["label"]) == ("dots", "y", "bad")


def test_line_breaks_that_are_only_pythons_do_not_end_a_json_line(tmp_path: Path) -> None:
    content = '{"text": "a\u2028b\u0085c", "label": "good"}\r\n\r\n{"text": "d", "label": "bad"}'
    examples = read(tmp_path, content, LABEL, file_format="jsonl", text="text")
    assert [(e.text, e.where[-2:]) for e in examples] == [("a\u2028b\u0085c", ":1"), ("d", ":3")]


def test_several_labels_may_come_from_several_fields(tmp_path: Path, as_read: dict[str, HeadConfig]) -> None:
    heads = {"label": HeadConfig(type="as_read", columns=["joy", "fear"])}
    first, second = jsonl(
        tmp_path, {"text": "a", "joy": 1, "fear": 0}, {"text": "b", "joy": 0}, heads=heads, text="text"
    )
    assert (first.labels["label"], second.labels["label"]) == ({"joy": 1, "fear": 0}, {"joy": 0, "fear": None})


def test_json_lines_hold_words_with_tags_and_a_label_beside(tmp_path: Path) -> None:
    first, second, third = jsonl(
        tmp_path,
        {"words": ["Dar es Salaam", "!"], "tags": ["X", "Y"], "label": "mji"},
        {"words": "a  b\u00a0c", "tags": "X Y"},
        {"words": ["z"], "tags": None, "label": "mtu"},
        heads={**TAGS, **LABEL},
        words="words",
    )
    assert (first.words, first.text) == (("Dar es Salaam", "!"), "Dar es Salaam !")
    assert first.labels == {"tags": ("X", "Y"), "label": "mji"}
    assert (second.words, second.labels) == (("a", "b\u00a0c"), {"tags": ("X", "Y"), "label": None})
    assert third.labels == {"tags": None, "label": "mtu"}


def test_entities_by_characters_become_words_with_tags_and_offsets(tmp_path: Path) -> None:
    heads = {"entities": HeadConfig(type="tagging", column="spans"), **LABEL}
    text = " Dr. Asha-Juma aliondoka  Dodoma."
    spans = [{"label": "LOC", "start": 26, "end": 32, "score": 1}, [5, 14, "PER"]]
    example, empty, unknown = jsonl(
        tmp_path, {"text": text, "spans": spans, "label": "x"}, {"text": "a", "spans": []}, {"text": "b"},
        heads=heads, text="text",
    )  # fmt: skip
    assert example.text == text
    assert example.words == ("Dr", ".", "Asha-Juma", "aliondoka", "Dodoma", ".")
    assert example.labels == {"entities": ("O", "O", "B-PER", "O", "B-LOC", "O"), "label": "x"}
    assert tuple(text[begin:end] for begin, end in example.word_offsets or ()) == example.words
    assert (empty.labels["entities"], unknown.labels["entities"]) == (("O",), None)


def test_words_are_split_where_entities_begin_and_end(tmp_path: Path) -> None:
    heads = {"first": HeadConfig(type="tagging", column="a"), "second": HeadConfig(type="tagging", column="b")}
    record = {"text": "mDodomani leo", "a": [[1, 7, "LOC"]], "b": [[7, 13, "X"]]}
    (example,) = jsonl(tmp_path, record, heads=heads, text="text")
    assert example.words == ("m", "Dodoma", "ni", "leo")
    assert example.labels == {"first": ("O", "B-LOC", "O", "O"), "second": ("O", "O", "B-X", "I-X")}


def test_squad_questions_come_with_context_and_answers(tmp_path: Path, as_read: dict[str, HeadConfig]) -> None:
    heads = {"answer": HeadConfig(type="as_read"), "topic": HeadConfig(type="classification", column="title")}
    impossible = {"id": "q2", "question": "Wapi?", "is_impossible": True, "plausible_answers": [{"text": "leo"}]}
    file = json.dumps(json.loads(squad_file(QUESTION, impossible, {"id": 3, "question": "Lini?"})), indent=1)
    first, second, third, *_ = read(tmp_path, file, heads, file_format="squad")
    assert (first.text, first.text_pair) == ("Nani alikuja?", "Asha alikuja leo.")
    assert first.labels == {"answer": QUESTION["answers"], "topic": "watu"}
    assert (second.labels["answer"], third.labels["answer"]) == ([], None)
    lines = file.split("\n")
    for example, identity in ((first, "q1"), (second, "q2"), (third, "3")):
        place, _, question = example.where.partition(" ")
        assert question == f"(question {identity})"
        assert f'"id": {json.dumps(identity)}' in lines[int(place.rpartition(":")[2]) - 1].replace("3,", '"3"')


def test_contexts_keep_the_spaces_that_answers_are_counted_over(tmp_path: Path, as_read: dict[str, HeadConfig]) -> None:
    file = squad_file({"question": "a?", "answers": [{"text": "b", "answer_start": 2}]}, context="  b\n ")
    example, _ = read(tmp_path, file, {"answer": HeadConfig(type="as_read")}, file_format="squad")
    assert example.text_pair == "  b\n "


@pytest.mark.parametrize("name", ["train", "train/*", "train.*"])
def test_parallel_files_lie_in_a_folder_or_share_a_name(tmp_path: Path, name: str) -> None:
    for file, content in PARALLEL.items():
        path = tmp_path / (file.replace("/", ".") if name == "train.*" else file)
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    source = SourceConfig(format="parallel", folder=str(tmp_path), train=name, words="seq.in")
    heads = {
        "slots": HeadConfig(type="tagging", column="seq.out"),
        "intent": HeadConfig(type="classification", column="label"),
    }
    path = locate(source, "train", data_root="unused", parts=readers.files_of_a_split(source, heads))
    assert path is not None
    first, second = READERS["parallel"](path, source, heads)
    assert (first.words, first.labels) == (("Asha", "alikuja"), {"slots": ("B-PER", "O"), "intent": "mtu"})
    assert (second.words, second.labels) == (("Dodoma",), {"slots": ("B-LOC",), "intent": "mji"})


def test_choices_come_from_columns_or_from_one_list(tmp_path: Path) -> None:
    record = {"text": "a", "one": "b", "two": "c", "ends": ["d", "e", "f"], "label": "x"}
    (example,) = jsonl(tmp_path, record, heads=LABEL, text="text", choices=["one", "two"])
    assert example.choices == ("b", "c")
    (example,) = jsonl(tmp_path, record, heads=LABEL, text="text", choices=["ends"])
    assert example.choices == ("d", "e", "f")


def test_csv_may_hold_words_and_tags_with_spaces_between(tmp_path: Path) -> None:
    (example,) = read(tmp_path, "words,tags\n Asha  alikuja ,X Y\n", TAGS, file_format="csv", words="words")
    assert (example.words, example.labels["tags"]) == (("Asha", "alikuja"), ("X", "Y"))


def test_two_columns_of_one_name_are_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    content = "id,id,text,label\n1,2,a,good\n"
    assert len(read(tmp_path, content, LABEL, file_format="csv", text="text")) == 1
    with pytest.raises(InputError, match=r"train.txt:1: two columns have the name 'text'"):
        read(tmp_path, content.replace("id,id", "id,text"), LABEL, file_format="csv", text="text")


def test_parquet_rows_hold_texts_words_and_missing_labels(tmp_path: Path) -> None:
    file = parquet_file({
        "w": [["a", "b"], ["c"], ["d"]], "tags": [["X", "Y"], None, ["X"]], "label": [1.5, float("nan"), None],
        "unused": [b"", b"", b""],
    })  # fmt: skip
    examples = read(tmp_path, file, {**TAGS, **LABEL}, file_format="parquet", words="w")
    assert [e.words for e in examples] == [("a", "b"), ("c",), ("d",)]
    assert [e.labels["tags"] for e in examples] == [("X", "Y"), None, ("X",)]
    assert [e.labels["label"] for e in examples] == ["1.5", None, None]
    assert examples[1].where == f"{tmp_path}/train.txt:2:1"

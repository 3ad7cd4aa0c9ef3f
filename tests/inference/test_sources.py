"""What a file is: one of the run's own, one of their kind, or a text per line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.errors import InputError
from multitask_bert.heads import Head, make_head
from multitask_bert.inference.files import open_inputs
from multitask_bert.inference.inputs import Input
from multitask_bert.inference.sources import task_sources
from multitask_bert.labels import LabelSet

CONLL = "Asha B-PER\nalifika O\n\nDodoma B-LOC\n"
CONLLU = "# text = x\n" + "".join(f"{n}\t{word}\t_\tX\t_\t_\t_\t_\t_\t_\n" for n, word in ((1, "Asha"), (2, "alifika")))
NER = {"type": "tagging"}
TAGS = LabelSet(("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))


def inputs(
    place: Path, content: str | bytes, source: Mapping[str, Any], head: Mapping[str, Any], labels: LabelSet = TAGS
) -> list[Input]:
    """What a file gives to a run with one task `t` of this source, whose head `h` knows these labels."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content.encode() if isinstance(content, str) else content)
    tree = {
        "data_root": str(place.parents[1]),
        "tasks": {"t": {"source": {"train": "train.txt", **source}, "heads": {"h": head}}},
    }
    (own,) = task_sources(tree)
    heads: dict[str, Mapping[str, Head]] = {"t": {"h": make_head(own.heads["h"], labels)}}
    with open_inputs(str(place), [own]) as read:
        return list(read(heads))


def words(found: Sequence[Input]) -> list[tuple[str, ...] | None]:
    return [item.example.words for item in found]


@pytest.mark.parametrize("name", ["a.conll", "a.CONLL", "a.bio", "a.txt", "train.txt", "a"])
def test_words_in_columns_are_read_as_words(tmp_path: Path, name: str) -> None:
    source = {"format": "conll", "dev": "dev.bio", "test": "test"}
    assert words(inputs(tmp_path / "f" / name, CONLL, source, NER)) == [("Asha", "alifika"), ("Dodoma",)]


def test_words_in_columns_need_no_labels(tmp_path: Path) -> None:
    found = inputs(tmp_path / "f" / "a.conll", "Asha\nalifika\n", {"format": "conll"}, NER)
    assert words(found) == [("Asha", "alifika")]


def test_the_column_of_the_words_is_that_of_the_run(tmp_path: Path) -> None:
    source = {"format": "conll", "word_column": 1}
    assert words(inputs(tmp_path / "f" / "a.conll", "1 Asha O\n2 alifika O\n", source, NER)) == [("Asha", "alifika")]


@pytest.mark.parametrize("content", [
    "Asha alifika\nDodoma leo\n",  # two columns, and no tags
    "Asha B-PER\nalifika O leo\n",
    "Asha\nalifika\n",
    "Asha B-ORG\nleo O\n",  # a type that the model does not know
])  # fmt: skip
def test_texts_that_are_not_in_columns_stay_texts(tmp_path: Path, content: str) -> None:
    found = inputs(tmp_path / "f" / "a.txt", content, {"format": "conll"}, NER)
    assert [item.example.text for item in found] == content.splitlines()


def test_two_words_per_line_are_texts_where_the_second_is_not_a_tag_of_the_model(tmp_path: Path) -> None:
    plain = {"type": "tagging", "scheme": "plain"}
    labels = LabelSet(("NOUN", "VERB"))
    source = {"format": "conll"}
    assert words(inputs(tmp_path / "f" / "a.txt", "Asha NOUN\n", source, plain, labels)) == [("Asha",)]
    assert words(inputs(tmp_path / "f" / "a.txt", "Asha alifika\n", source, plain, labels)) == [None]


def test_words_in_columns_are_refused_where_the_run_has_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"input=.*a\.conll: no task of the run has files in columns .*\.jsonl file"):
        inputs(tmp_path / "f" / "a.conll", CONLL, {"format": "csv", "text": "text"}, {"type": "classification"})


@pytest.mark.parametrize("source", [{"format": "conllu"}, {"format": "csv", "text": "text"}])
def test_universal_dependencies_are_read_as_words_by_any_run(tmp_path: Path, source: Mapping[str, Any]) -> None:
    assert words(inputs(tmp_path / "f" / "a.conllu", CONLLU, source, NER)) == [("Asha", "alifika")]


def test_columns_of_words_that_are_damaged_are_named_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.conll:4: 3 columns where the lines before have 2"):
        inputs(tmp_path / "f" / "a.conll", "Asha O\n\nleo O\nna O O\n", {"format": "conll"}, NER)


PARALLEL = {"format": "parallel", "words": "seq.in", "train": "train"}
SLOTS = {"type": "tagging", "column": "seq.out"}


@pytest.mark.parametrize(("name", "source"), [
    ("new/seq.in", PARALLEL), ("f/new.in", {**PARALLEL, "train": "train.*", "words": "in"}),
])  # fmt: skip
def test_a_parallel_file_of_words_is_split_at_its_spaces(tmp_path: Path, name: str, source: Mapping[str, Any]) -> None:
    found = inputs(tmp_path / name, "Asha can't  .b\nDodoma\n", source, SLOTS)
    assert words(found) == [("Asha", "can't", ".b"), ("Dodoma",)]


def test_a_folder_is_read_where_the_run_has_parallel_files_and_refused_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "seq.in").write_text("Asha leo\n", encoding="utf-8")
    tree = {"tasks": {"t": {"source": dict(PARALLEL), "heads": {}}}}
    with open_inputs(str(tmp_path / "new"), task_sources(tree)) as read:
        assert words(list(read({}))) == [("Asha", "leo")]
    with (
        pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"),
        open_inputs(str(tmp_path / "new"), []),
    ):
        pass


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8"])
@pytest.mark.parametrize("name", ["train.txt", "other.csv", "other.tsv", "other.jsonl"])
def test_a_file_that_is_not_utf_8_is_read_in_the_encoding_of_the_run(tmp_path: Path, name: str, encoding: str) -> None:
    content = '{"text": "é"}\n{"text": "b"}\n' if name.endswith("jsonl") else "text\né\nb\n"
    source = {"format": "csv", "text": "text", "encoding": encoding}
    found = inputs(
        tmp_path / "f" / name, content.encode(encoding), {**source, "folder": "f"}, {"type": "classification"},
        LabelSet(("a", "b")),
    )  # fmt: skip
    assert [item.example.text for item in found] == ["é", "b"]


def test_a_file_in_neither_encoding_is_refused(tmp_path: Path) -> None:
    source = {"format": "csv", "text": "text", "encoding": "utf-16"}
    with pytest.raises(InputError, match=r"a\.csv: is neither UTF-8 nor utf-16"):
        inputs(tmp_path / "f" / "a.csv", b"text\n\xe9a\xff\n", source, {"type": "classification"}, LabelSet(("a", "b")))


def test_a_file_of_the_run_is_read_by_its_own_columns_only(tmp_path: Path) -> None:
    head = {"type": "classification"}
    source = {"format": "csv", "text": "tweet", "train": "train.csv", "folder": "f"}
    labels = LabelSet(("a", "b"))
    (own,) = inputs(tmp_path / "f" / "train.csv", "text,tweet\nx,y\n", source, head, labels)
    (other,) = inputs(tmp_path / "f" / "other.csv", "text,tweet\nx,y\n", source, head, labels)
    assert (own.example.text, other.example.text) == ("y", "x")

"""Forms of files that are common, and options for files that are not as they should be."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.processor import DataProcessor
from multitask_bert.errors import InputError
from multitask_bert.records import Example
from tests.data.task_files import (
    CONLL,
    CONLLU,
    CSV,
    ENTITIES,
    JSONL,
    MOOD,
    NER,
    TOKENS,
    TSV,
    conllu_word,
    make_task,
    parquet_file,
)  # fmt: skip

LABEL = {"mood": HeadConfig(type="classification", column="label")}
PLAIN = {"pos": HeadConfig(type="tagging", scheme="plain", column="tags")}


def read(folder: Path, kind: str, train: str | bytes, *, good: Mapping[str, Any], **options: Any) -> list[Example]:
    """The examples of train."""
    task = make_task(folder, kind, {**good, "train": train}, test_fraction=0, **options)
    return list(DataProcessor({"mine": task}, data_root="unused", seed=1).read("mine")["train"])


def moods(examples: list[Example]) -> list[tuple[str, Any]]:
    return [(example.text, example.labels["mood"]) for example in examples]


# What quotes are.


@pytest.mark.parametrize(
    "row", ['1\t"Alisema ""ndiyo"""\tgood\n', '1\t"""Ndiyo"""\tgood\n', '1\t""\tgood\n2\t"a"""\tgood\n']
)
def test_a_file_in_quotes_is_not_read_as_plain(tmp_path: Path, row: str) -> None:
    with pytest.raises(InputError, match=r"train.txt:\d: the field .* is quoted like CSV.*`quoted: true`"):
        read(tmp_path, "tsv", f"id\ttext\tlabel\n{row}", good=TSV, quoted=False)


@pytest.mark.parametrize("other", ['"Sawa" alisema', 'alisema "sawa"', '"Sawa'])
def test_a_plain_file_with_doubled_quotes_is_read_as_plain(tmp_path: Path, other: str) -> None:
    content = f'id\ttext\tlabel\n1\t"alisema ""ndiyo"""\tgood\n2\t{other}\tbad\n'
    assert [e.text for e in read(tmp_path, "tsv", content, good=TSV, quoted=False)] == ['"alisema ""ndiyo"""', other]


def test_a_plain_file_is_not_read_as_quoted(tmp_path: Path) -> None:
    content = 'id\ttext\tlabel\n1\talisema "ndiyo" leo\tgood\n2\t"Sawa sana"\tbad\n'
    assert [e.text for e in read(tmp_path, "tsv", content, good=TSV, quoted=False)][1] == '"Sawa sana"'
    with pytest.raises(InputError, match=r"train.txt:3: the field .*Sawa sana.* seem to be data.*`quoted: false`"):
        read(tmp_path, "tsv", content, good=TSV, quoted=True)


def test_quoted_names_of_columns_tell_that_a_file_is_quoted(tmp_path: Path) -> None:
    content = '"id"\t"text"\t"label"\n1\ta\tgood\n'
    with pytest.raises(InputError, match=r"lacks the column 'text'.*quoted like CSV.*`quoted: true`"):
        read(tmp_path, "tsv", content, good=TSV, quoted=False)


# Tables.


def test_columns_of_a_table_without_a_header_go_by_number(tmp_path: Path) -> None:
    rows = {split: content.split("\n", 1)[1] for split, content in CSV.items()}
    with_header = make_task(tmp_path, "csv")
    expected = DataProcessor({"mine": with_header}, data_root="unused", seed=1).read("mine")
    heads = {"mood": HeadConfig(type="classification", column="-1")}
    task = make_task(tmp_path, "csv", rows, heads=heads, header=False, text="1")
    found = DataProcessor({"mine": task}, data_root="unused", seed=1).read("mine")
    assert {s: moods(list(e)) for s, e in found.items()} == {s: moods(list(e)) for s, e in expected.items()}


def test_a_table_read_with_a_header_that_it_lacks_says_how_to_read_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lacks the column 'text' .*`header: false`"):
        read(tmp_path, "csv", "1,sawa,good\n", good=CSV)


def test_another_delimiter_is_named_and_can_be_set(tmp_path: Path) -> None:
    files = {split: content.replace(",", ";") for split, content in CSV.items()}
    with pytest.raises(InputError, match=r"seem to be separated by ';', for which set .*`delimiter: .;.`"):
        read(tmp_path, "csv", files["train"], good=files)
    found = read(tmp_path, "csv", files["train"], good=files, delimiter=";")
    assert moods(found) == [("sawa", "good"), ("vibaya", "bad"), ("sijui", None)]


# JSON.

RECORDS = [{"text": "sawa", "label": "good"}, {"text": "mbaya, [sana]", "label": "bad"}]


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("by_key", [False, True])
def test_an_array_or_an_object_by_key_holds_the_records_of_json_lines(
    tmp_path: Path, indent: int | None, by_key: bool
) -> None:
    value = dict(zip(["k:1", "k\n2"], RECORDS, strict=True)) if by_key else RECORDS
    content = "\n " + json.dumps(value, indent=indent) + "\n"
    examples = read(tmp_path, "jsonl", content, good=JSONL)
    assert moods(examples) == [("sawa", "good"), ("mbaya, [sana]", "bad")]
    lines = content.split("\n")
    for example, record in zip(examples, RECORDS, strict=True):
        line = int(example.where.rpartition(":")[2])
        assert json.dumps(record["text"]) in "".join(lines[line - 1 : line + 1])


def test_a_json_line_whose_fields_are_all_objects_is_one_record(tmp_path: Path) -> None:
    content = '{"m": {"text": "sawa", "label": "good"}}\n{"m": {"text": "mbaya", "label": "bad"}}\n'
    heads = {"mood": HeadConfig(type="classification", column="m.label")}
    files = dict.fromkeys(JSONL, content)
    assert moods(read(tmp_path, "jsonl", content, good=files, heads=heads, text="m.text")) == [
        ("sawa", "good"), ("mbaya", "bad"),
    ]  # fmt: skip


# CoNLL.

COMMENTED = "# id 1\nAsha B-PER\n#Simba O\n\n# id 2\n#Simba B-ORG\n# O\n"


def test_comments_before_a_sentence_are_skipped_and_hashtags_are_not(tmp_path: Path) -> None:
    first, second = read(tmp_path, "conll", COMMENTED, good=CONLL, comments="# ")
    assert (first.words, second.words) == (("Asha", "#Simba"), ("#Simba", "#"))
    assert (first.where[-2:], second.where[-2:]) == (":2", ":6")


def test_comments_that_are_read_as_words_give_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match=r"train.txt:2: 2 columns .* correct the line"):
        read(tmp_path, "conll", COMMENTED, good=CONLL)
    with pytest.raises(InputError, match=r"train.txt:4: 4 columns .*set `comments`"):
        read(tmp_path, "conll", "Asha O\nleo O\n\n# sent id 2\nAsha O\n", good=CONLL)
    caplog.clear()
    as_wide = COMMENTED.replace("# id ", "# ")
    read(tmp_path, "conll", as_wide, good=CONLL, heads={"entities": HeadConfig(type="tagging", scheme="plain")})
    assert "every sentence begins with the word '#'" in caplog.text


def test_tags_without_a_type_and_with_blanks_around_them_are_read(tmp_path: Path) -> None:
    bare = read(tmp_path, "conll", "Asha\tB\nJuma\tI\nleo\tO\n", good=CONLL)
    assert bare[0].labels["entities"] == ("B-ENTITY", "I-ENTITY", "O")
    tags = [" B-art work ", "I-art work", "O "]
    heads = {"entities": HeadConfig(type="tagging", column="tags")}
    line = json.dumps({"tokens": ["a", "b", "c"], "tags": tags})
    (example,) = read(tmp_path, "tokens", line, good=TOKENS, heads=heads)
    assert example.labels["entities"] == ("B-art work", "I-art work", "O")


@pytest.mark.parametrize("word", ["\u00a0", "\u3000", "\u200b", "\u0301", "\ufe0f"])
def test_every_format_takes_the_same_words(tmp_path: Path, word: str) -> None:
    words, tags = (word, "Asha", word), ("X", "Y", "X")
    joined = " ".join(words), " ".join(tags)
    plain = {"entities": HeadConfig(type="tagging", scheme="plain")}
    contents: list[tuple[str, str | bytes, dict[str, Any]]] = [
        ("conll", "".join(f"{w}\t{t}\n" for w, t in zip(words, tags, strict=True)), {"heads": plain}),
        ("conllu", "".join(conllu_word(f"{n}", w, t) for n, (w, t) in enumerate(zip(words, tags, strict=True), 1)), {}),
        ("jsonl", json.dumps({"tokens": words, "tags": tags}), {"heads": PLAIN}),
        ("jsonl", json.dumps({"tokens": joined[0], "tags": joined[1]}), {"heads": PLAIN}),
        ("csv", f"tokens,tags\n{joined[0]},{joined[1]}\n", {"heads": PLAIN}),
        ("tsv", f"tokens\ttags\n{joined[0]}\t{joined[1]}\n", {"heads": PLAIN, "quoted": False}),
        ("parquet", parquet_file({"tokens": [list(words)], "tags": [list(tags)]}), {"heads": PLAIN}),
    ]
    for kind, content, options in contents:
        place = {} if kind in ("conll", "conllu") else {"words": "tokens", "text": None}
        (example,) = read(tmp_path, kind, content, good={"dev": content}, **place, **options)
        assert (example.words, *example.labels.values()) == (words, tags)


# Universal Dependencies.


def test_a_sentence_without_a_feature_is_missing_or_has_a_label_of_its_own(tmp_path: Path) -> None:
    number = conllu_word("1", "watu", "NOUN").replace("NOUN\t_\t_", "NOUN\t_\tNumber=Plur")
    content = f"{number}{conllu_word('2', 'kwa', 'ADP')}\n{conllu_word('1', 'leo', 'ADV')}"
    heads = {"number": HeadConfig(type="tagging", scheme="plain", column="feats.Number")}
    for unspecified, expected in (("missing", None), ("label", ("_",))):
        first, second = read(tmp_path, "conllu", content, good=CONLLU, heads=heads, unspecified=unspecified)
        assert (first.labels["number"], second.labels["number"]) == (("Plur", "_"), expected)


# Typed columns.


def test_typed_columns_hold_what_json_and_csv_would(tmp_path: Path) -> None:
    import pyarrow

    file = parquet_file({
        "text": ["a", "b"],
        "decimal": [Decimal("0.50"), Decimal("3.00")],
        "big": [2**60, 7],
        "day": [date(2020, 1, 2), None],
        "at": [datetime(2020, 1, 2, 3), None],
        "coded": pyarrow.array(["x", "y"]).dictionary_encode(),
        "many": [[Decimal("1.0")], [Decimal("2.5")]],
    })  # fmt: skip
    names = ("decimal", "big", "day", "at", "coded")
    heads = {name: HeadConfig(type="classification", column=name) for name in names}
    heads |= {"score": HeadConfig(type="regression", column="decimal")}
    heads |= {"many": HeadConfig(type="multilabel", column="many")}
    first, second = read(tmp_path, "parquet", file, good={"dev": file}, heads=heads)
    assert first.labels == {
        "decimal": "0.5", "big": str(2**60), "day": "2020-01-02", "at": "2020-01-02T03:00:00", "coded": "x",
        "score": 0.5, "many": {"1": True},
    }  # fmt: skip
    assert second.labels == {
        "decimal": "3", "big": "7", "day": None, "at": None, "coded": "y", "score": 3.0, "many": {"2.5": True},
    }  # fmt: skip


def test_decimals_of_a_saved_data_set_are_numbers(tmp_path: Path) -> None:
    rows = {"text": ["a", "b"], "label": [Decimal("1.0"), Decimal("2.5")]}
    DatasetDict(train=Dataset.from_dict(rows), dev=Dataset.from_dict(rows)).save_to_disk(str(tmp_path / "saved"))
    task = make_task(tmp_path, "datasets", {}, heads=LABEL, path="saved", train="train", dev="dev", test_fraction=0)
    found = DataProcessor({"mine": task}, data_root="unused", seed=1).read("mine")["train"]
    assert moods(list(found)) == [("a", "1"), ("b", "2.5")]


@pytest.mark.parametrize(("value", "kind"), [(b"good", "bytes"), (timedelta(1), "timedelta")])
def test_a_column_of_another_type_is_refused_with_its_type(tmp_path: Path, value: Any, kind: str) -> None:
    file = parquet_file({"text": ["a"], "label": [value]})
    with pytest.raises(InputError, match=rf"train.txt:1: classification needs one label .* found {kind} "):
        read(tmp_path, "parquet", file, good={"dev": file}, heads=LABEL)


# Bad records.

BAD = {
    "csv": "id,text,label\n1,sawa,good\n2,\n3,,bad\n4,mbaya,bad\n",
    "tsv": "id\ttext\tlabel\n1\tsawa\tgood\n2\n3\t\tbad\n4\tmbaya\tbad\n",
    "jsonl": '{"text": "sawa", "label": "good"}\n{"text": \n{"text": "", "label": 1}\n'
    '{"text": "mbaya", "label": "bad"}\n',
    "conll": "Asha B-PER\n\nleo\n\n\nsana B_X\n\nDodoma B-LOC\n",
    "conllu": f"{conllu_word('1', 'a', 'X')}\n{conllu_word('2', 'b', 'X')}\n1\tx\n\n{conllu_word('1', 'c', 'Y')}",
    "parquet": parquet_file({"text": ["sawa", None, " ", "mbaya"], "label": ["good", "x", "y", "bad"]}),
    "entities": '{"text": "Asha", "entities": [[0, 4, "PER"]]}\n{"text": "a"\n'
    '{"text": "a", "entities": [[0, 9, "X"]]}\n{"text": "Moshi", "entities": [[0, 5, "LOC"]]}\n',
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_records_are_refused_together_or_skipped_and_counted(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = {"jsonl": JSONL, "entities": ENTITIES, "conll": CONLL, "conllu": CONLLU}.get(
        kind, CSV if kind == "csv" else TSV
    )
    good = {"dev": BAD["parquet"]} if kind == "parquet" else {"dev": good["dev"]}
    options: dict[str, Any] = {"good": good, **({"heads": NER} if kind == "conll" else {})}
    with pytest.raises(InputError) as caught:
        read(tmp_path, kind, BAD[kind], **options)
    lines = str(caught.value).split("\n")
    assert len(lines) == 3
    assert all("train.txt:" in line for line in lines[:2])
    assert lines[2].startswith("2 errors; `source.on_bad_record: skip` of a task")
    places = [line.removeprefix("task mine: ").split(": ")[0] for line in lines[:2]]
    caplog.clear()
    examples = read(tmp_path, kind, BAD[kind], **options, on_bad_record="skip")
    assert len(examples) == 2
    said = next(record.getMessage() for record in caplog.records if "train.txt: 2 of 4 records" in record.getMessage())
    assert all(place in said for place in places)


def test_bad_questions_and_parallel_lines_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    question = {"id": "q1", "question": "Nani?", "answers": [{"text": "Asha", "answer_start": 0}]}
    file = json.dumps({"data": [{"title": "t", "paragraphs": [
        {"context": "Asha alikuja.", "qas": [question, {"id": "q2"}, {**question, "id": "q3"}]}]}]})  # fmt: skip
    heads = {"answer": HeadConfig(type="span")}
    found = read(tmp_path, "squad", file, good={"dev": file}, heads=heads, on_bad_record="skip")
    assert [example.where.partition(" ")[2] for example in found] == ["(question q1)", "(question q3)"]
    assert "1 of 3 records" in caplog.text
    files = {"train/seq.in": "Asha\nleo sana\n", "train/seq.out": "O\nO\n", "train/label": "a\nb\n"}
    files |= {"dev/seq.in": "Asha\n", "dev/seq.out": "O\n", "dev/label": "a\n"}
    task = make_task(tmp_path, "parallel", files, test_fraction=0, on_bad_record="skip")
    splits = DataProcessor({"mine": task}, data_root="unused", seed=1).read("mine")
    assert [example.text for example in splits["train"]] == ["Asha"]


def test_no_more_than_ten_errors_come_together(tmp_path: Path) -> None:
    content = "id,text,label\n" + "1,,good\n" * 30
    with pytest.raises(InputError) as caught:
        read(tmp_path, "csv", content, good=CSV)
    assert str(caught.value).count("train.txt:") == 10
    assert "10 errors, and the rest of the file was not read" in str(caught.value)


def test_a_file_without_a_good_record_is_refused_also_where_bad_ones_are_skipped(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train.txt:2: the text is empty"):
        read(tmp_path, "csv", "id,text,label\n1,,good\n", good=CSV, on_bad_record="skip")


def test_an_error_that_ends_the_reading_comes_after_those_before_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(?s)train.txt:2: the text is empty.*train.txt:3: unexpected end of data"):
        read(tmp_path, "csv", 'id,text,label\n1,,good\n2,"a,good\n', good=CSV)


# Entities by characters.


def entities(folder: Path, *records: tuple[str, list[Any]], **options: Any) -> list[Example]:
    lines = "\n".join(json.dumps({"text": text, "entities": spans}) for text, spans in records)
    return read(folder, "entities", lines, good={"dev": ENTITIES["dev"]}, **options)


def test_the_longest_of_overlapping_entities_can_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spans = [[0, 4, "PER"], [0, 9, "ORG"], [5, 9, "PER"], [8, 13, "LOC"], [10, 13, "X"]]
    (example,) = entities(tmp_path, ("Asha Juma leo", spans), overlapping_entities="longest")
    assert example.labels["entities"] == ("B-ORG", "I-ORG", "B-X")
    assert "3 entities are left out for a longer one" in caplog.text


def in_units(text: str, word: str) -> list[Any]:
    """Where a word stands, in UTF-16 units."""
    start = len(text[: text.index(word)].encode("utf-16-le")) // 2
    return [start, start + len(word), "PER"]


def test_offsets_in_utf_16_units_give_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    texts = [f"🙂 leo Asha{n} alikuja hapa" for n in range(4)]
    entities(tmp_path, *((text, [in_units(text, f"Asha{n}")]) for n, text in enumerate(texts)))
    assert "4 of 4 entities behind an emoji begin or end inside a word" in caplog.text
    assert "UTF-16" in caplog.text
    caplog.clear()
    entities(tmp_path, *((text, [[text.index("Asha"), text.index(" ali"), "PER"]]) for text in texts))
    assert "inside" not in caplog.text
    with pytest.raises(InputError, match=r"does not lie in the text, which has 6 characters, an emoji being one"):
        entities(tmp_path, ("🙂 Asha", [in_units("🙂 Asha", "Asha")]))


def test_offsets_that_are_off_throughout_give_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entities(tmp_path, *((f"leo Asha{n} alikuja", [[4, 8, "PER"]]) for n in range(4)))
    assert "4 of 4 entities begin or end inside a word" in caplog.text


# Names.


@pytest.mark.parametrize("form", ["list", "file"])
def test_numbers_become_the_names_of_their_labels(tmp_path: Path, form: str) -> None:
    (tmp_path / "names.txt").write_text("mbaya\nwastani\nnzuri\n", encoding="utf-8")
    names = ["mbaya", "wastani", "nzuri"] if form == "list" else "names.txt"
    content = 'text,label,many,tags\na,0,"0,2",2 0\nb b,2.0,1,0 0\nc,-1,,\nd,nzuri,nzuri,1\n'
    heads = {
        "mood": HeadConfig(type="classification", column="label", names=names),
        "many": HeadConfig(type="multilabel", column="many", names=names),
    }
    found = read(tmp_path, "csv", content, good={"dev": content}, heads=heads)
    assert [e.labels["mood"] for e in found] == ["mbaya", "nzuri", None, "nzuri"]
    assert [e.labels["many"] and set(e.labels["many"]) for e in found] == [
        {"mbaya", "nzuri"}, {"wastani"}, None, {"nzuri"},
    ]  # fmt: skip
    tags = {"pos": HeadConfig(type="tagging", column="tags", names=["O", "B-PER"])}
    line = json.dumps({"tokens": ["a", "b"], "tags": [1, 0]})
    (example,) = read(tmp_path, "tokens", line, good={"dev": line}, heads=tags)
    assert example.labels["pos"] == ("B-PER", "O")


def test_a_number_without_a_name_is_refused(tmp_path: Path) -> None:
    heads = {"mood": HeadConfig(type="classification", column="label", names=["bad", "good"])}
    with pytest.raises(InputError, match=r"train.txt:2: the head's `names:` have none for '2', only for 0 to 1"):
        read(tmp_path, "csv", "text,label\na,2\n", good={}, heads=heads)
    missing = {"mood": HeadConfig(type="classification", column="label", names="none.txt")}
    with pytest.raises(InputError, match=r"none.txt: cannot be read"):
        read(tmp_path, "csv", "text,label\na,2\n", good={}, heads=missing)


def test_columns_in_another_unicode_form_are_found(tmp_path: Path) -> None:
    heads = {"mood": HeadConfig(type="classification", column="cat\u00e9gorie")}
    kinds: list[tuple[str, str | bytes]] = [
        ("csv", "text,cate\u0301gorie\na,good\nb,bad\n"),
        ("jsonl", '{"text": "a", "cate\u0301gorie": "good"}\n{"text": "b", "cate\u0301gorie": "bad"}\n'),
        ("parquet", parquet_file({"text": ["a", "b"], "cate\u0301gorie": ["good", "bad"]})),
    ]
    for kind, content in kinds:
        found = read(tmp_path, kind, content, good={"dev": content}, heads=heads)
        assert moods(found) == [("a", "good"), ("b", "bad")]


def test_good_files_are_read_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        read(tmp_path, "csv", CSV["train"], good=CSV, heads=MOOD)
    assert not caplog.records

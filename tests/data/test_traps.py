"""Traps that public data sets hold, each in a file made for it, from the file to targets at tokens."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.data.processor import DataProcessor, ProcessedData
from multitask_bert.errors import InputError
from multitask_bert.heads import make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, EncodedExample, Example
from tests.data.task_files import CONLL, CONLLU, CSV, JSONL, PARALLEL, SQUAD, TSV, conllu_word, make_task, squad_file

SPAN = {"answer": HeadConfig(type="span", stride=16)}
NO_TEST = {"test_fraction": 0}


def read(folder: Path, kind: str, files: Mapping[str, str | bytes], **options: Any) -> dict[str, list[Example]]:
    """The examples of every split, checked for form."""
    return DataProcessor({"mine": make_task(folder, kind, files, **options)}, data_root="unused", seed=1).read("mine")


def process(folder: Path, kind: str, files: Mapping[str, str | bytes], tokenizer: Any, **options: Any) -> ProcessedData:
    task = make_task(folder, kind, files, **options)
    return DataProcessor({"mine": task}, data_root="unused", seed=1).process(tokenizer, max_length=64)


def test_a_tab_in_the_break_between_conll_sentences_is_a_break(tmp_path: Path) -> None:
    train = "Asha\tB-PER\n\t\nDodoma\tB-LOC\n\t\t\nleo\tO\n"
    assert [example.words for example in read(tmp_path, "conll", {**CONLL, "train": train})["train"]] == [
        ("Asha",), ("Dodoma",), ("leo",),
    ]  # fmt: skip


def test_hashtags_at_the_start_of_conll_lines_are_words(tmp_path: Path) -> None:
    train = "#Simba\tB-ORG\n#\tO\nAsha\tB-PER\n"
    (example,) = read(tmp_path, "conll", {**CONLL, "train": train})["train"]
    assert (example.words, example.labels["entities"]) == (("#Simba", "#", "Asha"), ("B-ORG", "O", "B-PER"))


def test_files_of_a_task_may_differ_in_delimiters_and_line_ends(tmp_path: Path) -> None:
    files = {**CONLL, "dev": CONLL["train"].replace("\t", " "), "test": CONLL["train"].replace("\n", "\r\n")}
    splits = read(tmp_path, "conll", files)
    contents = [[(e.words, e.labels) for e in splits[split]] for split in ("train", "dev", "test")]
    assert contents[0] == contents[1] == contents[2]
    for kind, good in (("tsv", TSV), ("csv", CSV), ("jsonl", JSONL)):
        for quoted in (True, False):
            splits = read(tmp_path, kind, {**good, "test": good["train"].replace("\n", "\r\n")}, quoted=quoted)
            contents = [[(e.text, e.labels) for e in splits[split]] for split in ("train", "test")]
            assert contents[0] == contents[1]


def test_orphan_i_tags_count_as_the_tags_that_they_are(tmp_path: Path, tokenizer: Any) -> None:
    train = "Asha\tI-PER\nkwa\tO\nMoshi\tI-LOC\nDodoma\tB-PER\n"
    data = process(tmp_path, "conll", {**CONLL, "train": train}, tokenizer)
    names = data.heads["mine"]["entities"].labels.names
    assert [names[value] for value in data.train["mine"][0].targets["entities"].values] == [
        "I-PER", "O", "I-LOC", "B-PER",
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["\u0301", "\ufe0f", "\u200b", "\u00a0"])
def test_words_without_tokens_keep_their_tag(tmp_path: Path, tokenizer: Any, word: str) -> None:
    assert tokenizer.tokenize(word) == []
    train = f"Asha\tB-PER\n{word}\tB-LOC\nleo\tO\n\n{word}\tB-LOC\n"
    data = process(tmp_path, "conll", {**CONLL, "train": train}, tokenizer)
    names = data.heads["mine"]["entities"].labels.names
    found = [[names[v] for v in encoded.targets["entities"].values] for encoded in data.train["mine"]]
    assert found == [["B-PER", "B-LOC", "O"], ["B-LOC"]]


def test_a_text_in_two_unicode_forms_is_never_on_both_sides_of_a_split(tmp_path: Path) -> None:
    texts = [f"kafé ndogo číslo {n}" for n in range(40)]
    rows = [f"{unicodedata.normalize(form, text)},{'good' if n % 2 else 'bad'}\n"
            for n, text in enumerate(texts) for form in ("NFC", "NFD")]  # fmt: skip
    splits = read(tmp_path, "csv", {"train": "text,label\n" + "".join(rows)})
    keys = {split: {unicodedata.normalize("NFC", e.text) for e in examples} for split, examples in splits.items()}
    assert {split: (len(splits[split]), len(keys[split])) for split in splits} == {
        "train": (64, 32), "dev": (8, 4), "test": (8, 4),
    }  # fmt: skip


def test_conllu_ranges_and_empty_nodes_take_no_tag(tmp_path: Path, tokenizer: Any) -> None:
    train = (
        "# sent_id = 1\n" + conllu_word("1-2", "kwao", "_") + conllu_word("1", "kwa", "ADP")
        + conllu_word("2", "ao", "PRON") + conllu_word("2.1", "hidden", "VERB")
    )  # fmt: skip
    pos = {"pos": HeadConfig(type="tagging", scheme="plain", column="upos", labels=["ADP", "PRON", "PROPN"])}
    data = process(tmp_path, "conllu", {**CONLLU, "train": train}, tokenizer, heads=pos, **NO_TEST)
    assert data.train["mine"][0].targets["pos"].values == (0, 1)


def test_quotes_that_are_data_and_quotes_that_are_not_are_told_apart(tmp_path: Path) -> None:
    data = 'id\ttext\tlabel\n1\t"Sawa" alisema\tgood\n2\tb\tbad\n'
    assert read(tmp_path, "tsv", {**TSV, "train": data}, quoted=False)["train"][0].text == '"Sawa" alisema'
    with pytest.raises(InputError, match=r"train.txt:2: .*`quoted: false`"):
        read(tmp_path, "tsv", {**TSV, "train": data}, quoted=True)
    quoted = 'id\ttext\tlabel\n1\t"Sawa\tsana"\tgood\n2\tb\tbad\n'
    assert read(tmp_path, "tsv", {**TSV, "train": quoted}, quoted=True)["train"][0].text == "Sawa\tsana"
    with pytest.raises(InputError, match=r"train.txt:2: .*`quoted: true`"):
        read(tmp_path, "tsv", {**TSV, "train": quoted}, quoted=False)


def test_csv_rows_end_with_crlf_where_texts_hold_line_breaks(tmp_path: Path) -> None:
    train = 'id,text,label\r\n1,"mstari\nwa pili, ""hapa""",good\r\n2,b,bad\r\n'
    first, second = read(tmp_path, "csv", {**CSV, "train": train})["train"]
    assert (first.text, first.labels["mood"], second.labels["mood"]) == ('mstari\nwa pili, "hapa"', "good", "bad")
    assert second.where.endswith(":4")


def test_spaces_around_and_between_parallel_words_do_not_misalign(tmp_path: Path) -> None:
    files = {
        **PARALLEL,
        "train/seq.in": " Asha  alikuja \nkm 10\u00a0000 \t leo\r\n",
        "train/seq.out": "B-PER O \n B-X  I-X\tO",
        "train/label": "mtu \n mji\n\n",
    }
    first, second = read(tmp_path, "parallel", files, **NO_TEST)["train"]
    assert (first.words, first.labels) == (("Asha", "alikuja"), {"slots": ("B-PER", "O"), "intent": "mtu"})
    assert (second.words, second.labels["slots"]) == (("km", "10\u00a0000", "leo"), ("B-X", "I-X", "O"))


def test_a_missing_label_is_unknown_and_neither_a_zero_nor_a_class(tmp_path: Path, tokenizer: Any) -> None:
    files = {
        "train": "text,label,joy,fear,score\na,good,1,,\nb,,,0,0.0\nc,bad,0,1,1.0\n",
        "dev": "text,label,joy,fear,score\nd,,,,\ne,good,1,0,0.5\n",
    }
    heads = {
        "mood": HeadConfig(type="classification", column="label"),
        "emotions": HeadConfig(type="multilabel", columns=["joy", "fear"]),
        "score": HeadConfig(type="regression", column="score"),
    }
    data = process(tmp_path, "csv", files, tokenizer, heads=heads, **NO_TEST)
    missing, _ = data.dev["mine"]
    assert {name: target.num_known for name, target in missing.targets.items()} == dict.fromkeys(heads, 0)
    assert missing.targets["mood"].values == (UNKNOWN,)
    assert data.heads["mine"]["mood"].labels.names == ("bad", "good")
    assert [report.num_missing for report in data.reports] == [{"mood": 1, "score": 1}, dict.fromkeys(heads, 1)]
    assert data.train["mine"][0].example.labels["emotions"] == {"joy": True, "fear": None}


def test_a_missing_tag_line_or_list_leaves_the_other_head_its_label(tmp_path: Path, tokenizer: Any) -> None:
    files = {**PARALLEL, "train/seq.out": "B-PER O\n\n", "train/label": "mtu\nmji\n"}
    data = process(tmp_path, "parallel", files, tokenizer, **NO_TEST)
    second = data.train["mine"][1]
    assert (second.targets["slots"].num_known, second.targets["intent"].num_known) == (0, 1)


def test_a_label_of_another_language_is_refused_until_all_labels_are_named(tmp_path: Path, tokenizer: Any) -> None:
    files = {**CSV, "dev": "id,text,label\n1,bof,mixed\n"}
    with pytest.raises(InputError, match=r"dev.txt:2: label 'mixed' does not occur in the training data.*`labels:`"):
        process(tmp_path, "csv", files, tokenizer)
    named = {"mood": HeadConfig(type="classification", column="label", labels=["good", "bad", "mixed"])}
    assert process(tmp_path, "csv", files, tokenizer, heads=named).dev["mine"][0].targets["mood"].values == (2,)


def test_a_file_that_is_not_utf_8_is_read_once_its_encoding_is_named(tmp_path: Path) -> None:
    files = {**CSV, "train": CSV["train"].replace("sawa", "café").encode("cp1252")}
    with pytest.raises(InputError, match=r"train.txt:2: byte 0xe9 is not utf-8.*`encoding: latin-1`"):
        read(tmp_path, "csv", files)
    assert read(tmp_path, "csv", files, encoding="cp1252")["train"][0].text == "café"


def answers(*pairs: tuple[str, int]) -> dict[str, Any]:
    return {"id": "1", "question": "nani?", "answers": [{"text": text, "answer_start": start} for text, start in pairs]}


def covered(window: EncodedExample) -> str:
    """The part of the context from the first to the last token that the target marks."""
    target = window.targets["answer"]
    first = next(a for a, (begin, _) in zip(target.token_indices, target.values, strict=True) if begin == 1)
    last = next(a for a, (_, end) in zip(target.token_indices, target.values, strict=True) if end == 1)
    return (window.example.text_pair or "")[window.offsets[first][0] : window.offsets[last][1]]


def test_an_answer_that_starts_inside_a_token_is_learned_as_the_whole_token(tmp_path: Path, tokenizer: Any) -> None:
    context = "Mwaka1999 alizaliwa Asha."  # the answer begins inside a word, and ends inside a token
    file = squad_file(answers(("aliza", 10)), context=context)
    data = process(tmp_path, "squad", {**SQUAD, "train": file}, tokenizer, heads=SPAN, **NO_TEST)
    marked = covered(data.train["mine"][0])
    assert marked.startswith("aliz")
    assert marked in context


@pytest.mark.parametrize(("context", "is_learned"), [("Asha alikuja leo.", True), ("Asha na Asha walikuja.", False)])
def test_an_answer_without_a_known_start_is_searched_for_and_else_not_learned(
    tmp_path: Path, tokenizer: Any, context: str, is_learned: bool
) -> None:
    file = squad_file(answers(("Asha", -1)), context=context)
    data = process(tmp_path, "squad", {**SQUAD, "train": file}, tokenizer, heads=SPAN, **NO_TEST)
    window = data.train["mine"][0]
    assert window.targets["answer"].num_known == is_learned
    assert not is_learned or covered(window) == "Asha"


def test_contexts_of_three_thousand_words_are_read_to_their_end(tmp_path: Path, tokenizer: Any) -> None:
    words = [f"neno{n}" for n in range(3000)]
    context = " ".join(words)
    file = squad_file(answers(("neno2999", context.index("neno2999"))), context=context)
    data = process(tmp_path, "squad", {**SQUAD, "train": file}, tokenizer, heads=SPAN, **NO_TEST)
    windows = [window for window in data.train["mine"] if window.example is data.train["mine"][0].example]
    assert len(windows) > 100
    ends = {end for window in windows for _, end in window.offsets}
    assert {context.index(word) + len(word) for word in words} <= ends
    assert covered(windows[-1]) == "neno2999"
    assert all(len(window.input_ids) <= 64 for window in windows)


def test_a_question_that_is_too_long_is_truncated_and_the_context_is_not(tokenizer: Any) -> None:
    heads = {"answer": make_head(HeadConfig(type="span", stride=8), LabelSet(("answer",)))}
    example = Example("f:1", "kwa nini " * 99, {"answer": (("leo", 13),)}, text_pair="Asha alikuja leo.")
    windows = encode_examples([example], heads, tokenizer, max_length=32)
    assert all(window.is_truncated and len(window.input_ids) <= 32 for window in windows)
    assert any(window.targets["answer"].num_known and covered(window) == "leo" for window in windows)
    assert windows[0].example is example


def test_windows_that_share_as_much_as_they_hold_are_refused(tokenizer: Any) -> None:
    heads = {"answer": make_head(HeadConfig(type="span", stride=28), LabelSet(("answer",)))}
    with pytest.raises(InputError, match=r"batching.max_length=32: .*`stride: 28`.* raise it, or lower the stride"):
        encode_examples([Example("f:1", "a", {"answer": None}, text_pair="b")], heads, tokenizer, max_length=32)


def test_copies_of_a_text_are_never_on_both_sides_of_a_split(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"Habari {n % 30}!" + " " * (n % 3), "label": "gb"[n % 2]}) for n in range(120)]
    splits = read(tmp_path, "jsonl", {"train": "\n".join(lines)})
    keys = {split: {example.text.strip() for example in examples} for split, examples in splits.items()}
    assert sum(map(len, keys.values())) == len(set().union(*keys.values())) == 30

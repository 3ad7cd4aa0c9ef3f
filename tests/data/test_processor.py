"""DataProcessor: what it refuses, what it cuts, what it reports, and the public data sets as they are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from multitask_bert.config import HeadConfig, InputError, SourceConfig, TaskConfig
from multitask_bert.data.processor import DataProcessor, SplitReport
from multitask_bert.data.splitting import text_key
from multitask_bert.heads import make_head
from multitask_bert.labels import LabelSet

CONF = Path(__file__).parents[2] / "conf" / "tasks"
CONLL = {
    "train": "Asha\tB-PER\nalikuja\tO\n\nDodoma\tB-LOC\n",
    "dev": "Juma\tB-PER\n\nleo\tO\nMoshi\tB-LOC\n",
    "test": "kesho\tO\n",
}
TSV = {
    "train": "id\ttext\tlabel\n1\tsawa\tgood\n2\tvibaya\tbad\n3\tsijui\t\n",
    "dev": "id\ttext\tlabel\n4\tnzuri\tgood\n",
    "test": "id\ttext\tlabel\n5\tmbaya\tbad\n",
}
CSV = {split: content.replace("\t", ",") for split, content in TSV.items()}
NER = {"entities": HeadConfig(type="tagging")}
MOOD = {"mood": HeadConfig(type="classification", column="label")}
GOOD_FILES = {"conll": CONLL, "csv": CSV, "tsv": TSV}
HEADS = {"conll": NER, "csv": MOOD, "tsv": MOOD}


def make_task(
    folder: Path,
    file_format: str,
    files: Mapping[str, str | bytes] | None = None,
    *,
    heads: Mapping[str, HeadConfig] | None = None,
    **source: Any,
) -> TaskConfig:
    """A task whose files lie in `folder`; `files` are its splits, by name."""
    files = GOOD_FILES[file_format] if files is None else files
    for split, content in files.items():
        (folder / f"{split}.txt").write_bytes(content.encode() if isinstance(content, str) else content)
    named = {split: f"{split}.txt" for split in files}
    text = None if file_format == "conll" else "text"
    config = SourceConfig(**{"format": file_format, "folder": str(folder), "text": text, **named, **source})
    return TaskConfig(config, dict(HEADS[file_format] if heads is None else heads))


def make_processor(task: TaskConfig, *, seed: int = 1, **options: Any) -> DataProcessor:
    return DataProcessor({"mine": task}, data_root="unused", seed=seed, **options)


@dataclass(frozen=True)
class BadInput:
    """One thing that is wrong, the place that the error must name, and what to do about it."""

    name: str
    format: str
    place: str  # the file, the file and its line, or the field, at the beginning of the message
    says: tuple[str, ...]  # all of these, in the message: the value and the way out
    files: dict[str, str | bytes | None] = field(default_factory=dict)  # these differ from the good ones; None: missing
    source: dict[str, Any] = field(default_factory=dict)
    heads: dict[str, HeadConfig] | None = None


def mood(**options: Any) -> dict[str, HeadConfig]:
    return {"mood": replace(MOOD["mood"], **options)}


def entities(**options: Any) -> dict[str, HeadConfig]:
    return {"entities": replace(NER["entities"], **options)}


HEADER = "id\ttext\tlabel\n"
BAD_INPUTS = [
    # Files as such
    BadInput("missing", "tsv", "{dev}: no such file", ("`source.dev`", "MULTITASK_BERT_DATA"), {"dev": None}),
    BadInput("missing conll", "conll", "{train}: no such file", ("`source.train`", "data_root"), {"train": None}),
    BadInput("a folder", "csv", "{train}: is not a file", ("`source.train`",), source={"train": "."}),
    BadInput("empty", "conll", "{test}: the file is empty", ("put the data there",), {"test": ""}),
    BadInput("only a byte order mark", "csv", "{dev}: the file is empty", ("name another",), {"dev": "\ufeff"}),
    BadInput("only white space", "tsv", "{train}: the file is empty", ("name another",), {"train": " \t\r\n\n"}),
    BadInput("header only", "csv", "{train}: holds no examples", ("only a header",), {"train": "id,text,label\n"}),
    BadInput("header only, plain", "tsv", "{dev}: holds no examples", ("only a header",), {"dev": HEADER},
             {"quoted": False}),
    BadInput("no sentences", "conll", "{dev}: holds no examples", ("blank lines",), {"dev": "-DOCSTART- O\n\n"}),
    BadInput("latin-1", "conll", "{dev}:2: byte 0xeb is not utf-8", ("`encoding: latin-1`",),
             {"dev": "a\tO\nZoë\tB-PER\n".encode("latin-1")}),
    BadInput("latin-1 after a byte order mark", "tsv", "{train}:3: byte 0xeb is not utf-8", ("`encoding: latin-1`",),
             {"train": b"\xef\xbb\xbf" + f"{HEADER}1\tx\tgood\nZoë".encode("latin-1")}),
    BadInput("utf-16", "csv", "{train}:1: byte 0xff is not utf-8", ("`utf-16`",),
             {"train": CSV["train"].encode("utf-16")}),
    BadInput("utf-8 that is not utf-16", "csv", "{train}:", ("is not utf-16", "convert the file"),
             {"train": CSV["train"] + "x"}, {"encoding": "utf-16-le"}),
    BadInput("no such encoding", "csv", "{train}: `encoding: klingon`", ("not an encoding",),
             source={"encoding": "klingon"}),
    # Columns
    BadInput("a column too few", "conll", "{train}:2: 1 column where the lines before have 2",
             ("'alikuja'", "one blank line between sentences"), {"train": "Asha\tB-PER\nalikuja\n"}),
    BadInput("a column too many", "conll", "{dev}:3: 3 columns where the lines before have 2",
             ("'New York B-LOC'",), {"dev": "Asha O\n\nNew York B-LOC\n"}),
    BadInput("a field too few", "tsv", "{dev}:3: 2 fields where the header names 3",
             ("correct the line", "`quoted: false`"), {"dev": f"{HEADER}1\tx\tgood\n2\tbad\n"}),
    BadInput("a field too many", "csv", "{dev}:2: 4 fields where the header names 3", ("delimiter",),
             {"dev": "id,text,label\n1,Sawa, sana,good\n"}),
    BadInput("a field too many after a field of two lines", "csv", "{dev}:5: 4 fields", ("correct the line",),
             {"dev": 'id,text,label\r\n1,"a\r\nb\r\nc",good\r\n2,Sawa, sana,good\r\n'}),
    BadInput("a quote never closed", "csv", "{dev}:3: unexpected end of data", ("written twice", "`quoted: false`"),
             {"dev": 'id,text,label\n1,a,good\n2,"b,good\n'}),
    BadInput("another delimiter", "tsv", "{train}:1: the header lacks the column 'text'", ("it has: id,text,label",),
             {"train": CSV["train"]}),
    BadInput("no column of that name", "tsv", "{train}:1: the header lacks the column 'tweet' named by source.text",
             ("it has: id, text, label",), source={"text": "tweet"}),
    BadInput("no column of that name in one file", "csv", "{test}:1: the header lacks the column 'label'",
             ("named by heads.mood.column", "it has: id, text, mood"), {"test": "id,text,mood\n1,a,good\n"}),
    BadInput("no column of that name below blank lines", "csv", "{test}:3: the header lacks the column 'label'",
             ("it has: id, text, mood",), {"test": "\n\nid,text,mood\n1,a,good\n"}),
    BadInput("no second text", "csv", "{train}:1: the header lacks the column 'other' named by source.text_pair",
             ("it has: id, text, label",), source={"text_pair": "other"}),
    BadInput("no text column", "csv", "source.text: missing", ("{train}:1: id, text, label",), source={"text": None}),
    BadInput("no label column", "tsv", "heads.mood.column: missing", ("{train}:1: id, text, label",),
             heads=mood(column=None)),
    BadInput("no column of that number", "conll", "{train}:1: 2 columns, but `heads.entities.column: 2`",
             ("count from 0", "negative"), heads=entities(column="2")),
    BadInput("no word column of that number", "conll", "{train}:1: 2 columns, but `word_column: -3`",
             ("count from 0",), source={"word_column": -3}),
    BadInput("tags missing altogether", "conll", "{train}:2: 1 column, and `heads.entities.column: -1`",
             ("is the one of the words", "a column of their own"), {"train": "\nAsha\nalikuja\n"}),
    BadInput("a column's name where there is no header", "conll", "heads.entities.column=tag", ("number",),
             heads=entities(column="tag")),
    # Texts and labels
    BadInput("empty text", "tsv", "{train}:3: the text is empty", ("column 'text'", "remove the line"),
             {"train": f"{HEADER}1\ta\tgood\n2\t \tbad\n"}),
    BadInput("empty second text", "csv", "{dev}:2: the text is empty", ("column 'id'",),
             {"dev": "id,text,label\n,a,good\n"}, {"text_pair": "id"}),
    BadInput("empty word", "conll", "{dev}:3: `word_column: 0` is empty", ("a word and its tags",),
             {"dev": "a\tO\nb\tO\n\tO\n"}),
    BadInput("empty tag", "conll", "{dev}:2: `heads.entities.column: -1` is empty", ("a word and its tags",),
             {"dev": "a\tO\nb\t\n"}, heads=entities(scheme="plain")),
    BadInput("tag outside the scheme", "conll", "{train}:4: tag 'B_LOC' is not IOB2",
             ("O, B-X or I-X", "`scheme: plain`"), {"train": "Asha\tB-PER\n\nkwa\tO\nMoshi\tB_LOC\n"}),
    BadInput("tag of another scheme", "conll", "{dev}:1: tag 'S-PER' is not IOB2", ("O, B-X or I-X",),
             {"dev": "Asha\tS-PER\n"}),
    BadInput("entity type that train lacks", "conll", "{dev}:5: label 'DATE' does not occur in the training data",
             ("known: LOC, PER", "`labels:`"), {"dev": "Asha\tB-PER\n\n-DOCSTART- O\nleo\tO\nJuni\tI-DATE\n"}),
    BadInput("label that train lacks", "csv", "{dev}:4: label 'meh' does not occur in the training data",
             ("known: bad, good", "`labels:`"), {"dev": 'id,text,label\n1,"a\nb",good\n2,c,meh\n'}),
    BadInput("label that is not named", "tsv", "{train}:3: label 'bad' does not occur",
             ("known: good, meh",), heads=mood(labels=["good", "meh"])),
    BadInput("only one class", "tsv", "heads.mood: the training data has only good", ("`column`",),
             {"train": f"{HEADER}1\ta\tgood\n2\tb\tgood\n"}),
    BadInput("no label at all", "csv", "heads.mood: the training data has only no label at all", ("`column`",),
             {"train": "id,text,label\n1,a,\n2,b,\n"}),
    BadInput("no entity at all", "conll", "heads.entities: the training data has only O", ("`column`",),
             {"train": "Asha\tO\nalikuja\tO\n"}),
    # Fields
    BadInput("unknown format", "tsv", "source.format=xlsx", ("conll, csv, tsv, samples",), source={"format": "xlsx"}),
    BadInput("no training file", "tsv", "source.train: missing", ("name the training file",), source={"train": None}),
    BadInput("tags from texts", "csv", "heads.entities.type=tagging does not fit source.format=csv",
             ("gives texts",), heads=NER),
    BadInput("a class from words", "conll", "heads.mood.type=classification does not fit source.format=conll",
             ("gives words",), heads=MOOD),
    BadInput("a class from the samples' words", "conll", "heads.mood.type=classification does not fit",
             ("gives words",), source={"format": "samples", "samples": "ner"}, heads=MOOD),
    BadInput("no such samples", "csv", "source.samples=jokes", ("ner and sentiment",),
             source={"format": "samples", "samples": "jokes"}),
    BadInput("too few to cut from", "csv", "dev cannot be cut from train, where 3 example(s) have 3 different text(s)",
             ("source.dev",), source={"dev": None}),
    BadInput("no dev", "csv", "no dev examples", ("source.dev",), source={"dev": None, "dev_fraction": 0.0}),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_bad_input_is_refused_by_task_file_and_line_with_the_way_out(
    tmp_path: Path, tokenizer: Any, bad: BadInput
) -> None:
    task = make_task(tmp_path, bad.format, heads=bad.heads, **bad.source)
    for split, content in bad.files.items():
        path = tmp_path / f"{split}.txt"
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    paths = {split: tmp_path / f"{split}.txt" for split in ("train", "dev", "test")}
    if bad.source.get("train") == ".":
        paths["train"] = tmp_path
    with pytest.raises(InputError) as caught:
        make_processor(task).process(tokenizer, max_length=16)
    message = str(caught.value)
    assert message.startswith(f"task mine: {bad.place.format(**paths)}")
    for part in bad.says:
        assert part.format(**paths) in message


@pytest.mark.parametrize("file_format", GOOD_FILES)
def test_the_files_that_the_bad_inputs_differ_from_are_good(tmp_path: Path, tokenizer: Any, file_format: str) -> None:
    data = make_processor(make_task(tmp_path, file_format)).process(tokenizer, max_length=16)
    sizes = {split: len(getattr(data, split)["mine"]) for split in ("train", "dev", "test")}
    assert sizes == ({"train": 2, "dev": 2, "test": 1} if file_format == "conll" else {"train": 3, "dev": 1, "test": 1})


def test_orphan_i_tags_are_accepted_in_iob2(tmp_path: Path, tokenizer: Any) -> None:
    train = "Asha\tI-PER\nkwa\tO\nMoshi\tI-LOC\nDodoma\tB-PER\nleo\tI-LOC\n"
    data = make_processor(make_task(tmp_path, "conll", {**CONLL, "train": train})).process(tokenizer, max_length=16)
    head = data.heads["mine"]["entities"]
    assert head.labels.names == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    (example,) = data.train["mine"].examples
    assert [head.labels.names[value] for value in example.targets["entities"].values] == [
        "I-PER", "O", "I-LOC", "B-PER", "I-LOC",
    ]  # fmt: skip


def test_a_bad_second_task_is_refused_before_the_first_is_encoded(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    good = make_task(tmp_path, "csv")
    bad = make_task(tmp_path / "bad", "csv", {**CSV, "dev": "id,text,label\n1,a,meh\n"})
    tasks = {"first": good, "second": bad}
    no_tokenizer = None
    with pytest.raises(InputError, match=r"task second: .*dev.txt:2: label 'meh'"):
        DataProcessor(tasks, data_root="unused", seed=1).process(no_tokenizer, max_length=16)


def test_reports_count_examples_pieces_cut_texts_and_missing_labels(tmp_path: Path, tokenizer: Any) -> None:
    files = {
        "train": "text,label,tone\nsawa,good,\nvibaya sana sana sana sana,bad,\nsijui,,hot\nbaridi,,cold\n",
        "dev": "text,label,tone\nnzuri sana,good,hot\n",
    }
    heads = {**MOOD, "tone": HeadConfig(type="classification", column="tone")}
    task = make_task(tmp_path, "csv", files, heads=heads, test_fraction=0.0)
    data = make_processor(task).process(tokenizer, max_length=6)

    def num_pieces(*texts: str) -> int:
        return sum(min(6, len(tokenizer.tokenize(text)) + 2) for text in texts)

    assert data.reports == [
        SplitReport("mine", "train", 4, num_pieces("sawa", "vibaya sana sana sana sana", "sijui", "baridi"), 1,
                    {"mood": 2, "tone": 2}, was_cut_from_train=False),
        SplitReport("mine", "dev", 1, num_pieces("nzuri sana"), 0, {}, was_cut_from_train=False),
    ]  # fmt: skip
    assert data.test == {}


def many(num_texts: int) -> str:
    return "text,label\n" + "".join(f"text {n},{'good' if n % 3 else 'bad'}\n" for n in range(num_texts))


def test_missing_splits_are_cut_from_train_as_shares_of_the_whole_file(tmp_path: Path) -> None:
    task = make_task(tmp_path, "csv", {"train": many(300)}, dev_fraction=0.2, test_fraction=0.3)
    splits = make_processor(task).read("mine")
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 150, "dev": 60, "test": 90}
    assert Counter(e.text for part in splits.values() for e in part) == Counter(f"text {n}" for n in range(300))
    for examples in splits.values():
        assert Counter(e.labels["mood"] for e in examples)["bad"] == len(examples) // 3


def test_splits_that_are_cut_are_reported_as_such(tmp_path: Path, tokenizer: Any) -> None:
    task = make_task(tmp_path, "csv", {"train": many(40), "test": many(3)})
    reports = make_processor(task).process(tokenizer, max_length=16).reports
    assert [(report.split, report.was_cut_from_train) for report in reports] == [
        ("train", False), ("dev", True), ("test", False),
    ]  # fmt: skip


def test_a_cut_depends_on_the_seed_and_the_name_of_the_task_only(tmp_path: Path) -> None:
    task = make_task(tmp_path, "csv", {"train": many(200)})

    def dev_of(name: str, seed: int, others: Mapping[str, TaskConfig]) -> list[str]:
        processor = DataProcessor({**others, name: task}, data_root="unused", seed=seed)
        return [example.text for example in processor.read(name)["dev"]]

    assert dev_of("mine", 1, {}) == dev_of("mine", 1, {"another": task})
    assert dev_of("mine", 1, {}) != dev_of("mine", 2, {})
    assert dev_of("mine", 1, {}) != dev_of("yours", 1, {})


def test_no_test_set_is_cut_where_its_fraction_is_zero(tmp_path: Path) -> None:
    task = make_task(tmp_path, "csv", {"train": many(30)}, test_fraction=0.0)
    assert set(make_processor(task).read("mine")) == {"train", "dev"}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_known_heads_decide_what_labels_may_occur(tmp_path: Path, tokenizer: Any, split: str) -> None:
    known = {"mine": {"mood": make_head(MOOD["mood"], LabelSet(("meh", "good", "bad")))}}
    files = {**CSV, split: "id,text,label\n1,sijui,meh\n2,sawa,good\n"}
    data = make_processor(make_task(tmp_path, "csv", files), known_heads=known).process(tokenizer, max_length=16)
    assert data.heads["mine"] == known["mine"]
    assert [e.targets["mood"].values for e in getattr(data, split)["mine"].examples] == [(0,), (1,)]
    (tmp_path / "train.txt").write_text("id,text,label\n1,sawa,fine\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"task mine: .*train.txt:2: label 'fine' .*known: meh, good, bad"):
        make_processor(make_task(tmp_path, "csv", {}, **{s: f"{s}.txt" for s in CSV}), known_heads=known).process(
            tokenizer, max_length=16
        )


def test_labels_come_from_train_sorted_by_name(tmp_path: Path, tokenizer: Any) -> None:
    files = {**CSV, "train": "id,text,label\n1,a,good\n2,b,bad\n3,c,\n4,d,good\n5,e,Zote\n"}
    data = make_processor(make_task(tmp_path, "csv", files)).process(tokenizer, max_length=16)
    assert data.heads["mine"]["mood"].labels.names == ("Zote", "bad", "good")


@pytest.fixture
def public_task() -> Callable[[str], DataProcessor]:
    """Processors of the tasks in conf/tasks, where their files are on this machine; nothing is downloaded."""
    root = os.environ.get("MULTITASK_BERT_DATA")
    if root is None:
        pytest.skip("MULTITASK_BERT_DATA does not name a folder with the public data sets")

    def processor_of(name: str) -> DataProcessor:
        tree = OmegaConf.load(CONF / f"{name}.yaml")[name]
        task = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TaskConfig), tree))
        assert isinstance(task, TaskConfig)
        if not (Path(root) / task.source.folder).is_dir():
            pytest.skip(f"MULTITASK_BERT_DATA={root} has no folder {task.source.folder}")
        return DataProcessor({name: task}, data_root=root, seed=1)

    return processor_of


@pytest.mark.parametrize(("name", "sizes", "labels"), [
    ("masakhaner_swa", (2109, 300, 604), {"DATE", "LOC", "ORG", "PER"}),
    ("wnut17", (3394, 1009, 1287), {"corporation", "creative-work", "group", "location", "person", "product"}),
    ("afrisenti_swa", (1810, 453, 748), {"negative", "neutral", "positive"}),
    ("nollysenti_en", (1302, 100, 500), {"negative", "positive"}),
])  # fmt: skip
def test_public_data_sets_have_their_published_sizes_and_labels(
    public_task: Callable[[str], DataProcessor],
    caplog: pytest.LogCaptureFixture,
    tokenizer: Any,
    name: str,
    sizes: tuple[int, int, int],
    labels: set[str],
) -> None:
    data = public_task(name).process(tokenizer, max_length=128)
    assert tuple(len(split[name]) for split in (data.train, data.dev, data.test)) == sizes
    assert not [record for record in caplog.records if "differs from the published file" in record.message]
    (head,) = data.heads[name].values()
    found = {label.removeprefix("B-").removeprefix("I-") for label in head.labels.names} - {"O"}
    assert found == labels


def test_words_of_a_public_data_set_start_the_hashtags(public_task: Callable[[str], DataProcessor]) -> None:
    processor = public_task("wnut17")
    path = Path(os.environ["MULTITASK_BERT_DATA"]) / "wnut17" / "train.conll"
    num_lines = sum(line.startswith("#") for line in path.read_text(encoding="utf-8").split("\n"))
    words = [word for example in processor.read("wnut17")["train"] for word in example.words or ()]
    assert sum(word.startswith("#") for word in words) == num_lines > 0


def test_a_public_data_set_that_is_cut_shares_no_text_between_the_parts(
    public_task: Callable[[str], DataProcessor],
) -> None:
    processor = public_task("afrisenti_swa")
    source = processor.tasks["afrisenti_swa"].source
    source.dev = source.test = None
    parts = processor.read("afrisenti_swa")
    keys = {split: {text_key(example) for example in examples} for split, examples in parts.items()}
    assert sum(map(len, keys.values())) == len(set().union(*keys.values()))
    assert sum(map(len, parts.values())) == 1810

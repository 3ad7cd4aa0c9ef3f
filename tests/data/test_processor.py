"""DataProcessor: what it cuts, what it reports, and what labels it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import HeadConfig, SourceConfig, TaskConfig
from multitask_bert.data.caching import Cache
from multitask_bert.data.processor import DataProcessor, SplitReport
from multitask_bert.errors import InputError
from multitask_bert.heads import make_head
from multitask_bert.labels import LabelSet
from tests.data.task_files import CONLL, CSV, MOOD, make_task


def make_processor(task: TaskConfig, *, seed: int = 1, **options: Any) -> DataProcessor:
    return DataProcessor({"mine": task}, data_root="unused", seed=seed, **options)


def test_orphan_i_tags_are_accepted_in_iob2(tmp_path: Path, tokenizer: Any) -> None:
    train = "Asha\tI-PER\nkwa\tO\nMoshi\tI-LOC\nDodoma\tB-PER\nleo\tI-LOC\n"
    data = make_processor(make_task(tmp_path, "conll", {**CONLL, "train": train})).process(tokenizer, max_length=16)
    head = data.heads["mine"]["entities"]
    assert head.labels.names == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    (example,) = data.train["mine"]
    assert [head.labels.names[value] for value in example.targets["entities"].values] == [
        "I-PER", "O", "I-LOC", "B-PER", "I-LOC",
    ]  # fmt: skip


@pytest.mark.parametrize("split", ["dev", "test"])
def test_one_split_alone_is_read_from_its_file_or_the_embedded_samples(
    split: str, tmp_path: Path, tokenizer: Any
) -> None:
    samples = TaskConfig(SourceConfig("samples", samples="sentiment"), {"head": HeadConfig("classification")})
    own_files = make_task(tmp_path, "csv", {"train": CSV["train"], split: CSV[split]})  # the third is split off
    for task, labels in ((samples, ("negative", "positive")), (own_files, ("bad", "good"))):
        heads = {"mine": {name: make_head(head, LabelSet(labels)) for name, head in task.heads.items()}}
        data = make_processor(task, known_heads=heads, splits=(split,)).process(tokenizer, max_length=16)
        assert [(report.split, report.was_cut_from_train) for report in data.reports] == [(split, False)]


def test_a_bad_second_task_is_refused_before_the_first_is_encoded(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    good = make_task(tmp_path, "csv")
    bad = make_task(tmp_path / "bad", "csv", {**CSV, "dev": "id,text,label\n1,a,meh\n"})
    tasks = {"first": good, "second": bad}
    no_tokenizer = None
    with pytest.raises(InputError, match=r"task second: .*dev.txt:2: label 'meh'"):
        DataProcessor(tasks, data_root="unused", seed=1).process(no_tokenizer, max_length=16)


def test_reports_count_examples_tokens_truncated_texts_and_missing_labels(tmp_path: Path, tokenizer: Any) -> None:
    files = {
        "train": "text,label,tone\nsawa,good,\nvibaya sana sana sana sana,bad,\nsijui,,hot\nbaridi,,cold\n",
        "dev": "text,label,tone\nnzuri sana,good,hot\n",
    }
    heads = {**MOOD, "tone": HeadConfig(type="classification", column="tone")}
    task = make_task(tmp_path, "csv", files, heads=heads, test_fraction=0.0)
    data = make_processor(task).process(tokenizer, max_length=6)

    def num_tokens(*texts: str) -> int:
        return sum(min(6, len(tokenizer.tokenize(text)) + 2) for text in texts)

    assert data.reports == [
        SplitReport("mine", "train", 4, num_tokens("sawa", "vibaya sana sana sana sana", "sijui", "baridi"), 1,
                    {"mood": 2, "tone": 2}, was_cut_from_train=False),
        SplitReport("mine", "dev", 1, num_tokens("nzuri sana"), 0, {}, was_cut_from_train=False),
    ]  # fmt: skip
    assert data.test == {}


def many(num_texts: int) -> str:
    return "text,label\n" + "".join(f"text {n},{'good' if n % 3 else 'bad'}\n" for n in range(num_texts))


def test_missing_splits_are_split_off_from_train_as_shares_of_the_whole_file(tmp_path: Path) -> None:
    task = make_task(tmp_path, "csv", {"train": many(300)}, dev_fraction=0.2, test_fraction=0.3)
    splits = make_processor(task).read("mine")
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 150, "dev": 60, "test": 90}
    assert Counter(e.text for part in splits.values() for e in part) == Counter(f"text {n}" for n in range(300))
    for examples in splits.values():
        assert Counter(e.labels["mood"] for e in examples)["bad"] == len(examples) // 3


def test_splits_that_are_split_off_are_reported_as_such(tmp_path: Path, tokenizer: Any) -> None:
    task = make_task(tmp_path, "csv", {"train": many(40), "test": many(3)})
    reports = make_processor(task).process(tokenizer, max_length=16).reports
    assert [(report.split, report.was_cut_from_train) for report in reports] == [
        ("train", False), ("dev", True), ("test", False),
    ]  # fmt: skip


def test_a_split_depends_on_the_seed_and_not_on_names_or_other_tasks(tmp_path: Path) -> None:
    task = make_task(tmp_path, "csv", {"train": many(200)})

    def dev_of(name: str, seed: int, others: Mapping[str, TaskConfig]) -> list[str]:
        processor = DataProcessor({**others, name: task}, data_root="unused", seed=seed)
        return [example.text for example in processor.read(name)["dev"]]

    assert dev_of("mine", 1, {}) == dev_of("mine", 1, {"another": task})
    assert dev_of("mine", 1, {}) != dev_of("mine", 2, {})
    assert dev_of("mine", 1, {}) == dev_of("yours", 1, {})


def test_no_test_set_is_split_off_where_its_fraction_is_zero(tmp_path: Path) -> None:
    task = make_task(tmp_path, "csv", {"train": many(30)}, test_fraction=0.0)
    assert set(make_processor(task).read("mine")) == {"train", "dev"}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_known_heads_decide_what_labels_may_occur(tmp_path: Path, tokenizer: Any, split: str) -> None:
    known = {"mine": {"mood": make_head(MOOD["mood"], LabelSet(("meh", "good", "bad")))}}
    files = {**CSV, split: "id,text,label\n1,sijui,meh\n2,sawa,good\n"}
    data = make_processor(make_task(tmp_path, "csv", files), known_heads=known).process(tokenizer, max_length=16)
    assert data.heads["mine"] == known["mine"]
    assert [e.targets["mood"].values for e in getattr(data, split)["mine"]] == [(0,), (1,)]
    (tmp_path / "train.txt").write_text("id,text,label\n1,sawa,fine\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"task mine: .*train.txt:2: label 'fine' .*known: meh, good, bad"):
        make_processor(make_task(tmp_path, "csv", {}, **{s: f"{s}.txt" for s in CSV}), known_heads=known).process(
            tokenizer, max_length=16
        )


def test_labels_come_from_train_sorted_by_name(tmp_path: Path, tokenizer: Any) -> None:
    files = {**CSV, "train": "id,text,label\n1,a,good\n2,b,bad\n3,c,\n4,d,good\n5,e,Zote\n"}
    data = make_processor(make_task(tmp_path, "csv", files)).process(tokenizer, max_length=16)
    assert data.heads["mine"]["mood"].labels.names == ("Zote", "bad", "good")


@pytest.mark.parametrize("type_", ["regression", "multilabel", "classification"])
def test_a_training_set_without_any_label_is_refused(tmp_path: Path, tokenizer: Any, type_: str) -> None:
    head = (
        HeadConfig(type=type_, columns=["label"]) if type_ == "multilabel" else HeadConfig(type=type_, column="label")
    )
    files = {"train": "text,label\na,\nb,\n", "dev": "text,label\nc,1\n"}
    task = make_task(tmp_path, "csv", files, heads={"h": head}, test_fraction=0)
    with pytest.raises(InputError, match=r"no training example has a label|no train example has a label"):
        make_processor(task).process(tokenizer, max_length=16)


def test_a_head_with_few_labels_in_dev_gives_a_warning(
    tmp_path: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    rows = "".join(f"maneno {n},{'good' if n % 2 else 'bad'},{n if n < 3 else ''}\n" for n in range(30))
    heads = {**MOOD, "score": HeadConfig(type="regression", column="score")}
    files = {"train": "text,label,score\n" + rows, "dev": "text,label,score\n" + rows}
    task = make_task(tmp_path, "csv", files, heads=heads, test_fraction=0)
    for _ in range(2):  # from the files, and from the cache
        caplog.clear()
        make_processor(task, cache=Cache(tmp_path / "cache")).process(tokenizer, max_length=16)
        assert "only 3 dev example(s) have a label for heads.score" in caplog.text
        assert "heads.mood" not in caplog.text


def test_a_run_on_fewer_training_examples_has_the_same_dev_and_test_sets(tmp_path: Path, tokenizer: Any) -> None:
    files = {"train": "text,label\n" + "".join(f"text {n},{('good', 'bad')[n % 2]}\n" for n in range(40))}

    def where(**options: int) -> list[list[str]]:
        data = make_processor(make_task(tmp_path, "csv", files, **options)).process(tokenizer, max_length=16)
        return [[example.where for example in split["mine"].examples()] for split in (data.train, data.dev, data.test)]

    (train, *others), (fewer, *others_of_fewer) = where(), where(max_train_examples=7)
    assert (len(train), len(fewer)) == (32, 7)
    assert set(fewer) < set(train)
    assert others == others_of_fewer

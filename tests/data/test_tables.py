"""Data sets of the `datasets` library: saved folders, folders of files, the hub (which is not there), Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

from multitask_bert.config.schema import HeadConfig, SourceConfig, TaskConfig
from multitask_bert.data.caching import key_of
from multitask_bert.data.downloads import locate
from multitask_bert.data.processor import DataProcessor
from multitask_bert.data.readers import READERS
from multitask_bert.errors import InputError
from multitask_bert.records import Example

MOOD = ClassLabel(names=["bad", "good"])
HEADS = {"mood": HeadConfig(type="classification", column="label")}
TAGS = {"tags": HeadConfig(type="tagging", scheme="plain", column="tags")}


@pytest.fixture(autouse=True)
def no_progress_bars() -> None:
    datasets.disable_progress_bars()


def mood_data(texts: list[str], labels: list[int | None]) -> Dataset:
    return Dataset.from_dict({"text": texts, "label": labels}, features=Features(text=Value("string"), label=MOOD))


def read(source: SourceConfig, split: str = "train", heads: Mapping[str, HeadConfig] = HEADS) -> list[Example]:
    path = locate(source, split, data_root="unused")
    assert path is not None
    return list(READERS[source.format](path, source, heads))


def saved(folder: Path, content: Dataset | DatasetDict, **source: Any) -> SourceConfig:
    content.save_to_disk(str(folder / "saved"))
    return SourceConfig(**{
        "format": "datasets", "folder": str(folder), "path": "saved", "train": "train", "text": "text", **source,
    })  # fmt: skip


def test_class_ids_become_names_and_minus_one_and_none_are_missing(tmp_path: Path) -> None:
    examples = read(saved(tmp_path, DatasetDict(train=mood_data(["a", "b", "c", "d"], [1, 0, -1, None]))))
    assert [(e.text, e.labels["mood"]) for e in examples] == [("a", "good"), ("b", "bad"), ("c", None), ("d", None)]
    assert examples[1].where == f"{tmp_path}/saved train:2"


def test_splits_have_the_names_that_the_source_gives_them(tmp_path: Path) -> None:
    parts = DatasetDict(train=mood_data(["a"], [1]), validation=mood_data(["b"], [0]))
    source = saved(tmp_path, parts, dev="validation", test="held_out")
    assert [e.text for e in read(source, "dev")] == ["b"]
    with pytest.raises(InputError, match=r"saved held_out: there is no such split; name one of train, validation"):
        read(source, "test")


def test_a_data_set_without_splits_is_train(tmp_path: Path) -> None:
    source = saved(tmp_path, mood_data(["a"], [1]), dev="validation")
    assert [e.text for e in read(source)] == ["a"]
    with pytest.raises(InputError, match="no such split; name one of train"):
        read(source, "dev")


def test_lists_of_class_ids_become_tags(tmp_path: Path) -> None:
    features = Features(tokens=List(Value("string")), tags=List(ClassLabel(names=["X", "Y"])), image=Value("binary"))
    rows = {"tokens": [["a", "b"], ["c"]], "tags": [[1, 0], None], "image": [b"", b""]}
    source = saved(tmp_path, DatasetDict(train=Dataset.from_dict(rows, features=features)), text=None, words="tokens")
    first, second = read(source, heads=TAGS)
    assert (first.words, first.labels["tags"], second.labels["tags"]) == (("a", "b"), ("Y", "X"), None)


def test_a_parquet_file_that_datasets_wrote_keeps_its_class_names(tmp_path: Path) -> None:
    mood_data(["a", "b"], [1, -1]).to_parquet(str(tmp_path / "train.parquet"))
    source = SourceConfig(format="parquet", folder=str(tmp_path), train="train.parquet", text="text")
    assert [e.labels["mood"] for e in read(source)] == ["good", None]


def test_a_damaged_parquet_file_is_refused_where_the_damage_begins(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    mood_data([f"text {n} {n * 7919}" for n in range(3000)], [n % 2 for n in range(3000)]).to_parquet(str(path))
    content = bytearray(path.read_bytes())
    content[40:400] = bytes(360)
    path.write_bytes(content)
    source = SourceConfig(format="parquet", folder=str(tmp_path), train="train.parquet", text="text")
    with pytest.raises(InputError, match=r"train.parquet:\d+: cannot be read from this row on .*write or fetch"):
        read(source)


def test_a_folder_of_files_is_loaded_by_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps({"text": "a", "label": "good"}) + "\n", encoding="utf-8")
    (example,) = read(SourceConfig(format="datasets", path=str(folder), train="train", text="text"))
    assert (example.text, example.labels) == ("a", {"mood": "good"})


def test_a_name_on_the_hub_is_loaded_with_its_configuration_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*place: str, **options: Any) -> Dataset:
        asked.append((*place, options))
        return mood_data(["a"], [1])

    monkeypatch.setattr(datasets, "load_dataset", load)
    place = {"path": "owner/set", "name": "swa", "revision": "abc"}
    (example,) = read(SourceConfig(format="datasets", train="train[:9%]", text="text", **place))
    assert asked == [("owner/set", {"name": "swa", "revision": "abc", "split": "train[:9%]"})]
    assert example.where == "owner/set (swa) train[:9%]:1"


@pytest.mark.parametrize("error", [ConnectionError("no route to host"), ValueError("no such config"), KeyError()])
def test_a_data_set_that_cannot_be_loaded_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def load(*_: str, **__: Any) -> Dataset:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(InputError, match=r"owner/set train: could not be loaded .*source.name.*`save_to_disk`"):
        read(SourceConfig(format="datasets", path="owner/set", train="train", text="text"))


def test_a_damaged_saved_folder_is_refused_with_the_way_out(tmp_path: Path) -> None:
    source = saved(tmp_path, DatasetDict(train=mood_data(["a"], [1])))
    (tmp_path / "saved" / "train" / "state.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"saved train: could not be loaded .*check source.path"):
        read(source)


def test_a_column_that_a_data_set_lacks_is_named_with_those_it_has(tmp_path: Path) -> None:
    source = saved(tmp_path, DatasetDict(train=mood_data(["a"], [1])), text="tweet")
    with pytest.raises(InputError, match=r"lacks the column 'tweet' named by source.text \(it has: text, label\)"):
        read(source)


def test_a_path_belongs_to_datasets_only(tmp_path: Path) -> None:
    for source in (
        SourceConfig(format="datasets", train="train", text="text"),
        SourceConfig(format="csv", path="saved", train="train", text="text"),
    ):
        with pytest.raises(InputError, match=r"task mine: source.path=.* belongs to no other format"):
            DataProcessor({"mine": TaskConfig(source, HEADS)}, data_root=str(tmp_path), seed=1).read("mine")


ROWS = [{"text": f"siku {n}", "label": n % 2, "note": "x" * 200} for n in range(2500)]


def hub_folder(folder: Path, ending: str) -> Path:
    """A folder laid out as a repository of the hub: train in two files, dev in one."""
    (folder / "data").mkdir(parents=True)
    features = Features(text=Value("string"), label=MOOD, note=Value("string"))
    for name, rows in (("train-00000-of-00002", ROWS[:1200]), ("train-00001-of-00002", ROWS[1200:]),
                       ("validation-00000-of-00001", ROWS[:3])):  # fmt: skip
        path = folder / "data" / f"{name}.{ending}"
        if ending == "parquet":
            Dataset.from_list(rows, features=features).to_parquet(str(path))
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_a_streamed_set_gives_the_same_examples_without_a_copy(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    path = hub_folder(tmp_path / "set", ending)
    source = SourceConfig(format="datasets", path=str(path), train="train", dev="validation", text="text")
    streamed = read(replace(source, streaming=True)), read(replace(source, streaming=True), "dev")
    assert not list(cache.rglob("*.arrow"))
    assert streamed == (read(source), read(source, "dev"))
    assert len(streamed[0]) == len(ROWS)
    assert list(cache.rglob("*.arrow"))
    assert streamed[0][1].labels == {"mood": "good" if ending == "parquet" else "1"}


def test_a_streamed_file_that_is_damaged_is_refused_where_that_is_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = hub_folder(tmp_path / "set", "jsonl")
    with (path / "data" / "train-00001-of-00002.jsonl").open("w") as file:
        file.write("{broken\n")
    source = SourceConfig(format="datasets", path=str(path), train="train", text="text", streaming=True)
    with pytest.raises(InputError, match=r"set train:\d+: cannot be read from about this row on .*streaming=false"):
        read(source)


@pytest.mark.parametrize("split", ["train[:9%]", "train+validation"])
def test_a_part_or_a_sum_of_splits_is_not_streamed(split: str, tmp_path: Path) -> None:
    source = SourceConfig(format="datasets", path=str(tmp_path), train=split, text="text", streaming=True)
    with pytest.raises(InputError, match="a part or a sum of splits cannot be streamed; name one split"):
        read(source)


def test_a_streamed_set_lacks_a_column_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = hub_folder(tmp_path / "set", "jsonl")
    source = SourceConfig(format="datasets", path=str(path), train="train", text="texts", streaming=True)
    with pytest.raises(InputError, match="text, label, note"):
        read(source)


def test_streaming_has_no_effect_on_a_saved_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = saved(tmp_path, DatasetDict(train=mood_data(["a"], [1])), streaming=True)
    assert [e.text for e in read(source)] == ["a"]
    assert "source.streaming has no effect on a saved folder" in caplog.text


@pytest.mark.parametrize(
    ("streaming", "revision", "is_cached"),
    [(True, "0" * 40, True), (True, "main", False), (True, None, False), (False, "0" * 40, False)],
)
def test_a_streamed_set_is_kept_encoded_if_its_revision_is_a_commit(
    streaming: bool, revision: str | None, is_cached: bool
) -> None:
    source = SourceConfig(
        format="datasets", path="owner/set", train="train", text="text", streaming=streaming, revision=revision
    )
    paths = {"train": Path("owner/set/train")}
    key = key_of("mood", TaskConfig(source, HEADS), paths, "tokenizer", max_length=8, window_stride=None, seed=1)
    assert (key is not None) == is_cached

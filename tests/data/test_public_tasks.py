"""The task configs: those of the hub on tiny data sets of the same columns, those of public files on the files.

Columns, class names and splits are those that each data set's page on the hub shows. The files are read where
MULTITASK_BERT_DATA names the folder that has them; nothing is downloaded.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features
from omegaconf import OmegaConf

from multitask_bert.config.families import FolderSource, families_in
from multitask_bert.config.schema import TaskConfig
from multitask_bert.data.processor import DataProcessor
from multitask_bert.data.text_keys import text_key
from multitask_bert.heads import HEAD_TYPES
from multitask_bert.records import Example
from tests.data.hub_layouts import LAYOUTS

CONF = Path(__file__).parents[2] / "conf"
SHIPPED = FolderSource("main", str(CONF))  # finds the files in conf/tasks, and the families' tasks
IN_FILES = [path.stem for path in (CONF / "tasks").glob("*.yaml")]
FAMILIES = families_in([CONF])
HUB_FAMILIES = ("ud", "xnli")


def task_config(name: str) -> TaskConfig:
    tree = SHIPPED.load_config(f"tasks/{name}").config[name]
    task = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TaskConfig), tree))
    assert isinstance(task, TaskConfig)
    return task


@pytest.mark.slow
def test_every_task_of_the_hub_has_a_layout() -> None:
    one_of_each = [f"{family}_{languages[0]}" for family, languages in FAMILIES.items()]
    from_hub = {name for name in (*IN_FILES, *one_of_each) if task_config(name).source.format == "datasets"}
    assert from_hub == LAYOUTS.keys()


@pytest.mark.slow
def test_the_tasks_of_a_family_of_the_hub_differ_in_the_language_alone() -> None:
    for family in HUB_FAMILIES:
        tasks = {language: task_config(f"{family}_{language}") for language in FAMILIES[family]}
        assert [task.source.name for task in tasks.values()] == list(tasks)
        for task in tasks.values():
            assert task.source.test is not None
            task.source.name, task.source.train, task.source.dev = None, None, None
        assert all(task == tasks[FAMILIES[family][0]] for task in tasks.values())


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_task_of_the_hub_reads_a_saved_data_set_of_its_columns(tmp_path: Path, tokenizer: Any, name: str) -> None:
    columns, rows, labels = LAYOUTS[name]
    datasets.disable_progress_bars()
    data = Dataset.from_list(rows, features=Features(columns))
    task = task_config(name)
    DatasetDict(
        {split: data for split in (task.source.train, task.source.dev, task.source.test) if split}
    ).save_to_disk(str(tmp_path / "saved"))
    task.source.path = str(tmp_path / "saved")
    examples = DataProcessor({name: task}, data_root="unused", seed=1).read(name)
    assert [example.labels for example in examples["dev"]] == labels
    encoded = DataProcessor({name: task}, data_root="unused", seed=1).process(tokenizer, max_length=96)
    assert len(encoded.dev[name]) == 2


@pytest.fixture
def public_task() -> Callable[[str], DataProcessor]:
    """Processors of the tasks in conf/tasks, where their files are on this machine."""
    root = os.environ.get("MULTITASK_BERT_DATA")
    if root is None:
        pytest.skip("MULTITASK_BERT_DATA does not name a folder with the public data sets")

    def processor_of(name: str) -> DataProcessor:
        task = task_config(name)
        if not (Path(root) / task.source.folder).is_dir():
            pytest.skip(f"MULTITASK_BERT_DATA={root} has no folder {task.source.folder}")
        return DataProcessor({name: task}, data_root=root, seed=1)

    return processor_of


SIZES: dict[str, tuple[tuple[int, int, int], dict[str, int]]] = {  # train, dev, test; by head, labels in train
    "masakhaner_swa": ((2109, 300, 604), {"entities": 9}),
    "masakhaner1_swa": ((2109, 300, 604), {"entities": 9}),
    "masakhaner2_hau": ((5716, 816, 1633), {"entities": 9}),
    "masakhaner2_swa": ((6593, 942, 1883), {"entities": 9}),
    "masakhaner2_yor": ((6876, 983, 1964), {"entities": 9}),
    "masakhapos_swa": ((693, 138, 553), {"pos": 15}),
    "wnut17": ((3394, 1009, 1287), {"entities": 13}),
    "afrisenti_hau": ((14172, 2677, 5303), {"sentiment": 3}),
    "afrisenti_swa": ((1810, 453, 748), {"sentiment": 3}),
    "nollysenti_en": ((1302, 100, 500), {"sentiment": 2}),
    "sib200_swh": ((701, 99, 204), {"topic": 7}),
    "brighter_swa": ((3307, 551, 1656), {"emotions": 6}),
    "tydiqa_swa": ((2481, 274, 499), {"answer": 1}),  # a tenth of train is dev
    "snips": ((13084, 700, 700), {"intent": 7, "slots": 2 * 39 + 1}),
    "sick": ((4500, 500, 4927), {"entailment": 3, "relatedness": 0}),
}


@pytest.mark.slow
def test_every_task_of_public_files_has_its_sizes_checked() -> None:
    with_downloads = {name for name in IN_FILES if task_config(name).source.downloads}
    of_families = {f"{family}_{language}" for family, languages in FAMILIES.items() for language in languages}
    assert with_downloads == SIZES.keys() - of_families
    checked = {family for family in FAMILIES if any(f"{family}_{name}" in SIZES for name in FAMILIES[family])}
    assert checked == FAMILIES.keys() - set(HUB_FAMILIES)


@pytest.mark.slow
def test_the_families_of_public_files_have_their_languages_and_verified_downloads() -> None:
    assert {family: len(languages) for family, languages in FAMILIES.items() if family not in HUB_FAMILIES} == {
        "afrisenti": 14, "masakhaner1": 10, "masakhaner2": 20, "masakhapos": 20,
    }  # fmt: skip
    digests = []
    for family in FAMILIES.keys() - set(HUB_FAMILIES):
        for language in FAMILIES[family]:
            source = task_config(f"{family}_{language}").source
            is_test_only = (family, language) in (("afrisenti", "orm"), ("afrisenti", "tir"))
            assert (source.train is None) == is_test_only
            splits = ("dev", "test") if is_test_only else ("train", "dev", "test")
            assert tuple(source.downloads) == splits
            assert source.folder == f"{family}_{language}"
            for split in splits:
                file = getattr(source, split)
                assert source.downloads[split].url.endswith(f"/data/{language}/{file}")
                digests.append(source.downloads[split].sha256)
    assert len(set(digests)) == len(digests) == 64 * 3 - 2
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)


@pytest.mark.parametrize(("name", "sizes"), [("afrisenti_orm", (396, 2096)), ("afrisenti_tir", (398, 2000))])
def test_languages_without_a_train_file_have_dev_and_test_sets(
    public_task: Callable[[str], DataProcessor], name: str, sizes: tuple[int, int]
) -> None:
    splits = public_task(name).read(name)
    assert {split: len(examples) for split, examples in splits.items()} == dict(
        zip(("dev", "test"), sizes, strict=True)
    )


@pytest.mark.parametrize("name", SIZES)
def test_public_data_sets_have_their_published_sizes_and_numbers_of_labels(
    public_task: Callable[[str], DataProcessor], caplog: pytest.LogCaptureFixture, name: str
) -> None:
    processor = public_task(name)
    splits = processor.read(name)
    sizes, num_labels = SIZES[name]
    assert tuple(len(splits[split]) for split in ("train", "dev", "test")) == sizes
    assert not [record for record in caplog.records if "differs from the published file" in record.message]
    heads = processor.tasks[name].heads
    values = {head: [example.labels[head] for example in splits["train"]] for head in heads}
    found = {head: len(HEAD_TYPES[config.type].collect(config, values[head])) for head, config in heads.items()}
    assert found == num_labels
    assert not any(value is None for head in heads for value in values[head])


def test_words_of_a_public_data_set_start_the_hashtags(public_task: Callable[[str], DataProcessor]) -> None:
    processor = public_task("wnut17")
    path = Path(os.environ["MULTITASK_BERT_DATA"]) / "wnut17" / "train.conll"
    num_lines = sum(line.startswith("#") for line in path.read_text(encoding="utf-8").split("\n"))
    words = [word for example in processor.read("wnut17")["train"] for word in example.words or ()]
    assert sum(word.startswith("#") for word in words) == num_lines > 0


def test_answers_of_a_public_data_set_stand_where_they_should(public_task: Callable[[str], DataProcessor]) -> None:
    def answers(example: Example) -> list[tuple[str, int]]:
        return list(example.labels["answer"])

    examples = public_task("tydiqa_swa").read("tydiqa_swa")["test"]
    assert all(
        (example.text_pair or "")[start : start + len(text)] == text
        for example in examples
        for text, start in answers(example)
    )
    assert sum(len(answers(example)) for example in examples) >= len(examples)


def test_a_public_data_set_that_is_split_shares_no_text_between_the_parts(
    public_task: Callable[[str], DataProcessor],
) -> None:
    processor = public_task("afrisenti_swa")
    source = processor.tasks["afrisenti_swa"].source
    source.dev = source.test = None
    parts = processor.read("afrisenti_swa")
    keys = {split: {text_key(example) for example in examples} for split, examples in parts.items()}
    assert sum(map(len, keys.values())) == len(set().union(*keys.values()))
    assert sum(map(len, parts.values())) == 1810

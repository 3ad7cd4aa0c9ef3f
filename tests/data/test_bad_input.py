"""Malformed files of every format: each is refused by task, file and line (or field), with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from multitask_bert.data.processor import DataProcessor
from multitask_bert.errors import InputError
from tests.data.bad_inputs import BAD_INPUTS, BadInput
from tests.data.task_files import GOOD_FILES, make_task, write


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=lambda bad: bad.name)
def test_bad_input_is_refused_by_task_file_and_line_with_the_way_out(
    tmp_path: Path, tokenizer: Any, bad: BadInput
) -> None:
    task = make_task(tmp_path, bad.kind, heads=bad.heads, **bad.source)
    for name, content in bad.files.items():
        write(tmp_path, name, content)
    paths = {split: tmp_path / f"{split}.txt" for split in ("train", "dev", "test")} | {"folder": tmp_path}
    if bad.source.get("train") == ".":
        paths["train"] = tmp_path
    with pytest.raises(InputError) as caught:
        DataProcessor({"mine": task}, data_root="unused", seed=1).process(tokenizer, max_length=16)
    message = str(caught.value)
    assert message.startswith(f"task mine: {bad.place.format(**paths)}")
    for part in bad.says:
        assert part.format(**paths) in message


@pytest.mark.parametrize("kind", GOOD_FILES)
def test_the_files_that_the_bad_inputs_differ_from_are_good(tmp_path: Path, tokenizer: Any, kind: str) -> None:
    task = make_task(tmp_path, kind, test_fraction=0.1 if "test" in GOOD_FILES[kind] else 0)
    data = DataProcessor({"mine": task}, data_root="unused", seed=1).process(tokenizer, max_length=16)
    found = [len(getattr(data, split)["mine"]) for split in ("train", "dev", "test") if "mine" in getattr(data, split)]
    expected = {"conll": [2, 2, 1], "csv": [3, 1, 1], "tsv": [3, 1, 1], "jsonl": [3, 1, 1]}
    others = {"tokens": [2, 1], "entities": [1, 1], "conllu": [1, 1], "squad": [2, 2], "parallel": [2, 1]}
    assert found == {**expected, **others, "parquet": [2, 1]}[kind]

"""Runs from Python: composed configs and data that is in memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from safetensors.torch import load_file

from multitask_bert.errors import InputError
from multitask_bert.inference.predictor import Predictor
from multitask_bert.notebook import compose, task_in_memory, train
from tests.composing import ROOT, config_of, error_of

ROWS = [(f"word{number} is {'good' if number % 2 else 'bad'}", "pos" if number % 2 else "neg") for number in range(60)]
FRAME = pd.DataFrame(ROWS, columns=["review", "mood"])
HEADS = {"mood": {"type": "classification", "column": "mood"}}
QUICK = ("model=tiny", "trainer=quick", "logger=none", "trainer.max_steps=4")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_composed_config_is_that_of_the_command_line() -> None:
    assert compose(*QUICK, "tasks=ner+sentiment") == config_of(*QUICK, "tasks=ner+sentiment")


def test_config_folder_of_the_user_is_searched(tmp_path: Path) -> None:
    (tmp_path / "conf/optimizer").mkdir(parents=True)
    (tmp_path / "conf/optimizer/mine.yaml").write_text("lr: 0.25\n")
    assert compose("optimizer=mine", config_dir=tmp_path / "conf").optimizer.lr == 0.25


def test_value_that_cannot_be_right_is_refused() -> None:
    with pytest.raises(InputError, match=re.escape("optimizer.lr=-1")):
        compose("optimizer.lr=-1")


def test_task_in_memory_shares_the_heads_of_another() -> None:
    own = task_in_memory({"train": FRAME}, text="review", heads=HEADS)
    test_only = task_in_memory({"test": FRAME}, text="review", share="reviews")
    tasks = compose(*QUICK, tasks={"reviews": own, "others": test_only}).tasks
    assert (tasks["others"].heads["mood"].share, tasks["others"].heads["mood"].column) == ("reviews.mood", "mood")
    with pytest.raises(InputError, match=re.escape("tasks.others.share=reviews: reviews is not among the run's tasks")):
        compose(*QUICK, tasks={"others": test_only})


def test_tasks_in_memory_share_heads_by_group_as_if_each_named_the_first() -> None:
    own = task_in_memory({"train": FRAME}, text="review", heads=HEADS)
    other = task_in_memory({"test": FRAME}, text="review", heads=HEADS)
    named = task_in_memory({"test": FRAME}, text="review", share="reviews")
    in_a_group = compose(*QUICK, "share=reviews+others", tasks={"others": other, "reviews": own})
    assert in_a_group.tasks == compose(*QUICK, tasks={"others": named, "reviews": own}).tasks
    assert (other.share, other.heads["mood"].share) == (None, None)  # what was given stays as it is
    with pytest.raises(InputError, match=re.escape("share=reviews+more: more is not among the run's tasks")):
        compose(*QUICK, "share=reviews+more", tasks={"reviews": own, "others": other})


@pytest.mark.slow
def test_frame_and_dataset_train_one_shared_head() -> None:
    rows = datasets.Dataset.from_pandas(FRAME[30:])
    swa = task_in_memory({"train": FRAME[:20], "test": FRAME[20:30]}, text="review", heads=HEADS)
    hau = task_in_memory({"train": rows, "test": rows}, text="review", heads=HEADS)
    run = train(compose(*QUICK, "share=swa+hau", tasks={"swa": swa, "hau": hau}), "run")
    assert {"eval_swa_mood_f1", "eval_hau_mood_f1", "eval_swa.pooled_mood_f1"} <= set(run.results["metrics"]["test"])
    weights = load_file(run.folder / "model/model.safetensors")
    assert {name.split(".")[1] for name in weights if name.startswith("head_modules.")} == {"swa"}
    (said,) = run.predictor().predict(["word1 is good"])
    assert list(said["predictions"]) == ["swa"]


@pytest.mark.slow
def test_frame_and_dataset_train_the_same_and_predict() -> None:
    dataset = datasets.Dataset.from_dict({"review": list(FRAME.review), "mood": [mood == "pos" for mood in FRAME.mood]})
    dataset = dataset.cast_column("mood", datasets.ClassLabel(names=["neg", "pos"]))
    runs = []
    for name, data in (("frame", FRAME), ("dataset", dataset)):
        task = task_in_memory({"train": data}, text="review", heads=HEADS, dev_fraction=0.2)
        runs.append(train(compose(*QUICK, tasks={"reviews": task}), name))
    assert runs[0].results["metrics"] == runs[1].results["metrics"]
    (said,) = runs[0].predictor().predict(["word1 is good"])
    assert set(said["predictions"]["reviews"]["mood"]["probabilities"]) == {"neg", "pos"}
    assert "run_dir" in error_of("action=evaluate", "run_dir=missing")
    assert (runs[0].folder / ".hydra/config.yaml").is_file()


def test_same_rows_are_written_to_the_same_file() -> None:
    first, second = (task_in_memory({"train": FRAME.copy()}, text="review", heads=HEADS) for _ in range(2))
    assert first == second
    assert len(list(Path("outputs/data").iterdir())) == 1


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"training": FRAME}, "training is none of train, dev, test"),
        ({"train": FRAME[:0]}, "train has no rows"),
        ({"train": ROWS}, "train is a list; give a pandas.DataFrame or a datasets.Dataset"),
        (FRAME, "splits: DataFrame is no dict"),
    ],
)
def test_data_that_is_no_split_is_refused(splits: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        task_in_memory(splits, text="review", heads=HEADS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"heads": {"mood": {"type": "classification", "colum": "mood"}}},
            "heads.mood.colum: no such key; did you mean",
        ),
        ({"heads": HEADS, "txt": "review"}, "txt: no such key; did you mean text?"),
    ],
)
def test_field_of_a_task_that_does_not_exist_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        task_in_memory({"train": FRAME}, **fields)


def test_override_of_a_key_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=re.escape("trainer.num_epoch: no such key; did you mean trainer.num_epochs?")):
        compose("trainer.num_epoch=3")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("lrr", 1, "optimizer.lrr: no such key; did you mean"), ("lr", "fast", "optimizer.lr: needs a number, but found")],
)
def test_field_that_is_set_wrongly_afterwards_is_refused(name: str, value: Any, message: str) -> None:
    config = compose(*QUICK, "tasks=ner")
    setattr(config.optimizer, name, value)
    with pytest.raises(InputError, match=re.escape(message)):
        train(config, "run")


def test_frame_is_not_predicted_for_as_if_its_columns_were_texts() -> None:
    with pytest.raises(InputError, match="give a column of it"):
        Predictor.predict(object.__new__(Predictor), FRAME)


@pytest.mark.slow
def test_example_of_the_page_runs_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    FRAME.to_csv(tmp_path / "reviews.csv", index=False)
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.S)
    names: dict[str, Any] = {}
    exec(code.replace("model=minilm", "model=tiny").replace("num_epochs=3", "num_epochs=1"), names)
    assert names["run"].results["metrics"]["test"]

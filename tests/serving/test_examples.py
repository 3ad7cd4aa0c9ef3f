"""The page of a served run offers examples of its test sets, as inputs that the task's heads read."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.inference.predictor import Predictor
from multitask_bert.serving.examples import examples_of_test_sets
from multitask_bert.serving.page import page_of
from tests.export.run_of_all_heads import make_model, tasks

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def predictor(tokenizer: Any) -> Predictor:
    return Predictor(make_model(tasks()), tokenizer, device="cpu")


def line(task: str, number: int, **texts: Any) -> str:
    answer = {"gold": None, "predicted": None}
    return json.dumps({"task": task, "where": f"{task}:{number}", **texts, "heads": {"head": answer}}) + "\n"


def write(run_dir: Path, name: str, lines: list[str]) -> None:
    (run_dir / "predictions").mkdir(exist_ok=True)
    (run_dir / "predictions" / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


def test_first_examples_of_every_task_are_inputs_of_the_types_that_it_reads(
    predictor: Predictor, tmp_path: Path
) -> None:
    write(tmp_path, "dev", [line("moods", 0, text="of dev")])
    of_test = [line("moods", number, text=f"mood {number}") for number in range(9)]
    of_test += [line("moods", 9, text="mood 1"), line("feelings", 1, text="  "), line("unknown", 1, text="a")]
    of_test += [line("people", 1, words=["Juma", "anaishi"]), line("likeness", 1, text="a", text_pair="b")]
    of_test += [line("answers", 1, text="nani?", text_pair="Juma anaishi"), line("likeness", 2, text="no pair")]
    write(tmp_path, "test", [*of_test, line("causes", 1, text="a", choices=["b", "c"])])
    write(tmp_path, "test.other", [line("feelings", 1, text=EVIL)])
    found = examples_of_test_sets(tmp_path, predictor)
    assert found == [
        {"question": "nani?", "context": "Juma anaishi"},
        {"text": "a", "choices": ["b", "c"]},
        {"text": EVIL},
        {"text": "a", "text_pair": "b"},
        {"text": "mood 0"},
        {"text": "mood 1"},
        {"text": "Juma anaishi"},
    ]
    assert all(one["predictions"] for one in predictor.predict(found))
    page, _ = page_of(name="run", heads={}, input_types=["text"], examples=found)
    assert "<img" not in page


def test_missing_predictions_give_no_examples_and_damaged_ones_those_before_the_damage(
    predictor: Predictor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert examples_of_test_sets(tmp_path, predictor) == []
    bad = line("moods", 2, text=7) + line("causes", 1, text="a", choices=[3])
    write(tmp_path, "test", [line("moods", 1, text="mood 1"), bad, "{half a line\n", line("moods", 3, text="late")])
    with caplog.at_level(logging.WARNING):
        assert examples_of_test_sets(tmp_path, predictor) == [{"text": "mood 1"}]
    assert "the page offers fewer examples of the test set" in caplog.text
    assert "test.jsonl:4" in caplog.text

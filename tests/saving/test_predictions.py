"""`predictions/`: what a run keeps of its answers, and that its scores follow from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig, HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import Example, Prediction, TaskResult
from multitask_bert.saving.predictions import (
    NUM_CHARACTERS,
    KeptExample,
    read_heads,
    read_predictions,
    sets_of,
    write_predictions,
)
from multitask_bert.training.evaluation import Evaluator
from multitask_bert.training.loop import Stopped, TrainingLoop
from tests.trained_runs import trained

MakeConfig = Callable[..., ExperimentConfig]
COLOURS = LabelSet(("blue", "green", "red"))


def kept(head: Head, example: Example, prediction: Prediction, folder: Path, limit: int | None = None) -> Any:
    """The one line that is written for one example of the task `t` with the head `h`, parsed."""
    result = TaskResult(predictions={"h": [prediction]})
    write_predictions(folder, "test", {"t": {"h": head}}, {"t": result}, {"t": [example]}, limit=limit)
    (line,) = (folder / "predictions" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(line)


def test_a_line_has_text_source_gold_prediction_and_probabilities(tmp_path: Path) -> None:
    head = make_head(HeadConfig("classification"), COLOURS)
    example = Example("a.tsv:7", "grass", {"h": "green"})
    assert kept(head, example, Prediction("red", (0.1, 0.3, 0.6)), tmp_path) == {
        "task": "t",
        "where": "a.tsv:7",
        "text": "grass",
        "heads": {"h": {"gold": "green", "predicted": "red", "probabilities": {"red": 0.6, "green": 0.3, "blue": 0.1}}},
    }


def test_of_many_labels_the_most_likely_and_the_gold_one_keep_their_probabilities(tmp_path: Path) -> None:
    labels = LabelSet(tuple(f"l{index:02}" for index in range(20)))
    scores = tuple((20 - index) / 210 for index in range(20))
    example = Example("a.tsv:7", "grass", {"h": "l19"})
    line = kept(make_head(HeadConfig("classification"), labels), example, Prediction("l00", scores), tmp_path)
    assert list(line["heads"]["h"]["probabilities"]) == ["l00", "l01", "l02", "l03", "l04", "l19"]


def test_words_that_are_the_text_are_kept_once_and_long_texts_are_shortened(tmp_path: Path) -> None:
    head = make_head(HeadConfig("classification"), COLOURS)
    words = Example("a:1", "red sky", {"h": None}, words=("red", "sky"))
    assert {"words", "text"} & set(kept(head, words, Prediction("red"), tmp_path)) == {"words"}
    long = Example("a:1", "x" * 10_000, {"h": None})
    assert len(kept(head, long, Prediction("red"), tmp_path)["text"]) == NUM_CHARACTERS + 1


@pytest.mark.parametrize(
    ("config", "labels", "gold", "predicted"),
    [
        (HeadConfig("classification"), COLOURS, "red", "blue"),
        (HeadConfig("multilabel"), COLOURS, {"red": True, "blue": None}, ("red", "green")),
        (HeadConfig("regression"), LabelSet(()), 1.5, 0.1 + 0.2),
        (HeadConfig("tagging", scheme="plain"), COLOURS, ("red", "blue"), ("red", None)),
        (HeadConfig("span"), LabelSet(("answer",)), (("Amina", 3), ("Dr Amina", 0)), "Amina"),
        (HeadConfig("choice"), LabelSet(()), 1, 0),
    ],
)
def test_labels_and_predictions_of_every_type_are_read_as_they_were(
    config: HeadConfig, labels: LabelSet, gold: Any, predicted: Any, tmp_path: Path
) -> None:
    head = make_head(config, labels)
    kept(head, Example("a:1", "red sky", {"h": gold}), Prediction(predicted), tmp_path)
    (found,) = read_predictions(tmp_path, "test")
    assert (found.answers["h"].gold, found.answers["h"].predicted) == (gold, predicted)
    again = read_heads(tmp_path)["t"]["h"]
    assert (again.config, again.labels) == (head.config, labels)


def test_named_test_sets_have_files_of_their_own(tmp_path: Path) -> None:
    head = make_head(HeadConfig("classification"), COLOURS)
    results = {name: TaskResult(predictions={"h": [Prediction("red")]}) for name in ("t", "t.hard")}
    examples = {name: [Example(f"{name}:1", name, {"h": "red"})] for name in results}
    write_predictions(tmp_path, "test", {"t": {"h": head}}, results, examples, limit=None)
    assert sets_of(tmp_path) == ["test", "test.hard"]
    assert [example.text for example in read_predictions(tmp_path, "test.hard")] == ["t.hard"]


def test_of_a_set_over_the_limit_the_first_examples_are_kept_and_a_warning_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = make_head(HeadConfig("classification"), COLOURS)
    results = {"t": TaskResult(predictions={"h": [Prediction("red")] * 3})}
    examples = {"t": [Example(f"a:{number}", "sky", {"h": "red"}) for number in (1, 2, 3)]}
    write_predictions(tmp_path, "dev", {"t": {"h": head}}, results, examples, limit=2)
    assert [example.where for example in read_predictions(tmp_path, "dev")] == ["a:1", "a:2"]
    assert "the first 2 of 3 examples" in caplog.text


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"task": "t", "where": "a:1", "text": "x", "heads": {"h": 1}}'])
def test_a_damaged_line_is_named_with_the_way_out(line: str, tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "test.jsonl").write_text(line, encoding="utf-8")
    with pytest.raises(InputError, match=r"test\.jsonl:1: .*action=evaluate run_dir="):
        list(read_predictions(tmp_path, "test"))


def scores_from_files(folder: Path, split: str) -> dict[str, float]:
    """The scores that follow from what a run has kept, by the keys of `results.json`."""
    heads, found = read_heads(folder), list(read_predictions(folder, split))
    by_task: dict[str, list[KeptExample]] = {}
    for example in found:
        by_task.setdefault(example.task, []).append(example)
    scores = {}
    for task, examples in by_task.items():
        for name, head in heads[task].items():
            golds = [example.answers[name].gold for example in examples]
            predictions = [Prediction(example.answers[name].predicted) for example in examples]
            scores |= {f"eval_{task}_{name}_{key}": value for key, value in head.score(golds, predictions).items()}
    return scores


@pytest.mark.slow
def test_the_scores_of_a_run_and_of_its_evaluation_follow_from_their_predictions(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    results = trained(make_config(num_epochs=2), tmp_path / "run")
    later = make_config()
    later.action, later.run_dir = "evaluate", str(tmp_path / "run")
    actions.evaluate(later, tmp_path / "again")
    for split, key in (("dev", "eval"), ("test", "test")):
        scores = scores_from_files(tmp_path / "run", split)
        assert scores.items() <= results["metrics"][key].items()
        assert len(scores) >= 6
        name = Path("predictions", f"{split}.jsonl")
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.slow
def test_no_predictions_are_kept_with_a_limit_of_zero(make_config: MakeConfig, tmp_path: Path) -> None:
    trained(make_config(num_epochs=1, keep_predictions=0), tmp_path / "run")
    assert not (tmp_path / "run" / "predictions").exists()


@pytest.mark.slow
def test_keeping_predictions_passes_no_example_through_the_encoder(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []
    evaluate_all = Evaluator.evaluate_all

    def counted(self: Evaluator, *arguments: Any, **options: Any) -> Any:
        calls.append(options.get("tune", False))
        return evaluate_all(self, *arguments, **options)

    monkeypatch.setattr(Evaluator, "evaluate_all", counted)
    trained(make_config(num_epochs=2), tmp_path / "run")
    assert calls == [True, True, False]  # two epochs on dev, then test


@pytest.mark.slow
def test_a_run_resumed_after_its_best_step_keeps_the_predictions_of_an_uninterrupted_one(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(make_config(num_epochs=1), tmp_path / "whole")
    finish = TrainingLoop.run

    def stopped(self: TrainingLoop) -> None:
        finish(self)
        raise Stopped("SIGTERM")

    monkeypatch.setattr(TrainingLoop, "run", stopped)
    with pytest.raises(SystemExit):
        trained(make_config(num_epochs=1), tmp_path / "run")
    monkeypatch.undo()
    assert not (tmp_path / "run" / "predictions").exists()
    again = make_config(num_epochs=1)
    again.resume = True
    actions.train(again, tmp_path / "run")
    for name in ("dev.jsonl", "test.jsonl", "heads.json"):
        whole, resumed = (tmp_path / folder / "predictions" / name for folder in ("whole", "run"))
        assert whole.read_bytes() == resumed.read_bytes()

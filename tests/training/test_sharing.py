"""Shared heads, tasks without train and named test sets, each beside another way to the same number."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import seqeval.metrics
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from multitask_bert.config.schema import ExperimentConfig, HeadConfig, SourceConfig, TaskConfig
from multitask_bert.config.tree import from_tree, to_dict
from multitask_bert.data.processor import DataProcessor
from multitask_bert.errors import InputError
from multitask_bert.heads import reported_keys
from multitask_bert.inference.predictor import Predictor
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.training.cost import count_work
from multitask_bert.training.evaluation import Evaluator
from multitask_bert.training.provenance import describe
from multitask_bert.training.trainer import Trainer
from multitask_bert.utils.files import CHECKSUMS
from tests.composing import run_line
from tests.saving.stopped_runs import assert_same, train
from tests.trained_runs import trained

MakeConfig = Callable[..., ExperimentConfig]
LENIENT = {"entities": HeadConfig(unknown_labels="wrong")}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """*.txt: two parts of a CoNLL file and the whole, test files; *.tsv: texts with labels."""
    folder = tmp_path_factory.mktemp("languages")
    parts = {
        "hau": [f"Musa B-PER\nya O\nje O\n{town} B-LOC\n" for town in ("Kano", "Jos", "Zaria") * 4],
        "yor": [f"{name} B-PER\nlati O\nEko B-ORG\n" for name in ("Ade", "Bola", "Kemi") * 3],
    }
    parts["both"] = parts["hau"] + parts["yor"]
    for name, sentences in parts.items():
        (folder / f"{name}.txt").write_text("\n".join(sentences), encoding="utf-8")
    for name, rows in {"one": ["a zuri\tx,y", "b mbaya\ty"] * 3, "two": ["c sana\tx", "d bora\tx,z"] * 4}.items():
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *rows]), encoding="utf-8")
    (folder / "three.tsv").write_text("\n".join(["text\tlabel", *["a zuri\tx,y", "b mbaya\ty"] * 3,
                                                 *["c sana\tx", "d bora\tx,z"] * 4]), encoding="utf-8")  # fmt: skip
    return folder


def conll(files: Path, *, share: str | None = "people", heads: Any = None, **splits: Any) -> TaskConfig:
    """A task over CoNLL files in `files`, named without their ending."""
    named = {key: f"{value}.txt" if isinstance(value, str) else value for key, value in splits.items()}
    return TaskConfig(SourceConfig("conll", folder=str(files), **named), heads or {}, share=share)


def with_tasks(config: ExperimentConfig, **tasks: TaskConfig) -> ExperimentConfig:
    """The config with these tasks beside its own, and what is shared resolved."""
    return from_tree(OmegaConf.create(to_dict(replace(config, tasks={**config.tasks, **tasks}))))


def head_keys(model: MultiTaskModel) -> set[str]:
    return {name for name in model.state_dict() if name.startswith("head_modules.")}


def results_of(trainer: Trainer, tasks: dict[str, TaskConfig]) -> dict[str, Any]:
    """Results of a trainer's model on the test files of other tasks, as `action=evaluate` scores them."""
    trainer.model.add_tasks(tasks)
    config = trainer.config
    processor = DataProcessor(tasks, data_root=config.data_root, seed=1, known_heads=trainer.model.heads,
                              splits=("dev", "test"))  # fmt: skip
    data = processor.process(trainer.tokenizer, max_length=config.batching.max_length)
    evaluator = Evaluator(trainer.model, replace(config, tasks=tasks), pad_id=0, device=torch.device("cpu"))
    return evaluator.evaluate_all(data.test, trained=())


@pytest.fixture(scope="module")
def zero_shot(make_config: MakeConfig, files: Path) -> ExperimentConfig:
    yor = conll(files, heads=LENIENT, dev="yor", test="yor")
    return with_tasks(make_config("people"), hau=conll(files, test="hau"), yor=yor)


def test_a_shared_head_is_one_set_of_weights_that_both_tasks_train(make_config: MakeConfig, files: Path) -> None:
    config = with_tasks(make_config("people"), hau=conll(files, train="hau", dev="hau", test="hau"))
    trainer = Trainer.from_config(config)
    assert head_keys(trainer.model) == head_keys(Trainer.from_config(make_config("people")).model)
    module = trainer.model.head_modules["people"]
    before = {name: weight.clone() for name, weight in module.state_dict().items()}
    trainer.train_datasets = {"hau": trainer.train_datasets["hau"]}
    trainer.train()
    assert all(not torch.equal(weight, before[name]) for name, weight in module.state_dict().items())


def test_two_tasks_with_a_shared_head_give_the_pooled_score_of_one_task_with_both_files(
    make_config: MakeConfig, files: Path
) -> None:
    trainer = Trainer.from_config(make_config("people"))
    trainer.train()
    tasks = with_tasks(
        make_config("people"), hau=conll(files, test="hau"), yor=conll(files, heads=LENIENT, test="yor"),
        both=conll(files, heads=LENIENT, test="both"),
    ).tasks  # fmt: skip
    pooled = results_of(trainer, {name: tasks[name] for name in ("hau", "yor")})["people.pooled"]
    together = results_of(trainer, {"both": tasks["both"]})["both"]
    assert pooled.scores == together.scores
    assert pooled.intervals == together.intervals


def test_the_labels_and_class_weights_of_a_shared_head_are_those_of_one_task_with_both_files(
    make_config: MakeConfig, files: Path, tokenizer: Any
) -> None:
    balanced = {"entities": HeadConfig("tagging", class_weights="balanced")}
    hau = conll(files, share=None, heads=balanced, train="hau", dev="hau", test="hau")
    yor = conll(files, share="hau", train="yor", dev="yor", test="yor")
    both = conll(files, share=None, heads=balanced, train="both", dev="both", test="both")
    config = with_tasks(replace(make_config("people"), tasks={}), hau=hau, yor=yor, both=both)
    heads = DataProcessor(config.tasks, data_root="", seed=1).process(tokenizer, max_length=32).heads
    one, other, whole = (heads[task]["entities"] for task in ("hau", "yor", "both"))
    assert one.labels.names == other.labels.names == whole.labels.names
    assert one.labels.names == ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER")
    assert one.labels.counts == other.labels.counts == whole.labels.counts
    assert one.config.class_weights == other.config.class_weights == whole.config.class_weights


def test_thresholds_of_a_shared_head_are_those_tuned_on_all_dev_sets_together(
    make_config: MakeConfig, files: Path
) -> None:
    def task(name: str, share: str | None) -> TaskConfig:
        heads = {"l": HeadConfig("multilabel", column="label", threshold="tuned_per_label")} if share is None else {}
        source = SourceConfig("tsv", folder=str(files), train="three.tsv", text="text", test="one.tsv", dev=name)
        return TaskConfig(source, heads, share=share)

    empty = replace(make_config("people"), tasks={})
    shared = Trainer.from_config(with_tasks(empty, a=task("one.tsv", None), b=task("two.tsv", "a")))
    whole = Trainer.from_config(with_tasks(empty, a=task("three.tsv", None)))
    shared.evaluate()
    whole.evaluate()
    thresholds = [trainer.model.heads["a"]["l"].thresholds for trainer in (shared, whole)]  # type: ignore[attr-defined]
    assert thresholds[0] == thresholds[1] == shared.model.heads["b"]["l"].thresholds  # type: ignore[attr-defined]
    assert shared.results["eval"]["a.pooled"].scores == whole.results["eval"]["a"].scores
    shared.model.add_tasks(shared.config.tasks)
    assert all(shared.model.heads[task]["l"].thresholds == thresholds[0] for task in "ab")  # type: ignore[attr-defined]


def test_a_dev_set_of_a_task_without_train_tunes_no_threshold(make_config: MakeConfig, files: Path) -> None:
    head = HeadConfig("multilabel", column="label", threshold="tuned")
    source = SourceConfig("tsv", folder=str(files), train="three.tsv", text="text", test="one.tsv", dev="one.tsv")
    own = {"a": TaskConfig(source, {"l": head})}
    other = {"b": TaskConfig(replace(source, train=None, dev="two.tsv"), {}, share="a")}
    empty = replace(make_config("people"), tasks={})
    alone, beside = (Trainer.from_config(with_tasks(empty, **tasks)) for tasks in (own, {**own, **other}))
    scores = [trainer.evaluate() for trainer in (alone, beside)]
    assert scores[0]["eval_a_l_f1"] == scores[1]["eval_a_l_f1"]
    assert len({tuple(trainer.model.heads["a"]["l"].thresholds) for trainer in (alone, beside)}) == 1  # type: ignore[attr-defined]


def test_a_task_without_train_takes_no_steps_and_changes_no_weight(
    make_config: MakeConfig, zero_shot: ExperimentConfig
) -> None:
    alone = make_config("people", metric_for_best="eval_people_entities_f1")
    beside = replace(zero_shot, trainer=alone.trainer)
    trainers = [Trainer.from_config(config) for config in (alone, beside)]
    for trainer in trainers:
        trainer.train()
    one, other = (trainer.model.state_dict() for trainer in trainers)
    assert one.keys() == other.keys()
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())
    assert count_work(alone).num_steps == count_work(beside).num_steps == trainers[1].state.num_steps


def test_a_task_without_dev_counts_in_no_mean_and_is_tested(zero_shot: ExperimentConfig) -> None:
    trainer = Trainer.from_config(zero_shot)
    found, tested = trainer.evaluate(), trainer.evaluate(test=True)
    assert set(found) == set(reported_keys(zero_shot.tasks))
    assert set(tested) == set(reported_keys(zero_shot.tasks, test=True))
    assert not any("hau" in key for key in found)
    f1s = [found[f"eval_{task}_entities_f1"] for task in ("people", "yor")]
    assert found["eval_mean_f1"] == sum(f1s) / 2
    assert set(describe(trainer)["data"]["hau"]) == {"test"}


def test_an_unknown_label_is_an_error_unless_the_task_says_that_it_is_wrong(
    make_config: MakeConfig, files: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InputError, match=r"task yor: .*yor\.txt:3: label 'ORG' does not occur"):
        Trainer.from_config(with_tasks(make_config("people"), yor=conll(files, test="yor")))
    with caplog.at_level(logging.WARNING):
        Trainer.from_config(with_tasks(make_config("people"), yor=conll(files, heads=LENIENT, test="yor")))
    assert "9 test example(s) have a label that heads.entities does not know, which counts as wrong" in caplog.text


def test_a_data_processor_refuses_a_task_that_nothing_trains(files: Path, tokenizer: Any) -> None:
    task = conll(files, share=None, heads={"entities": HeadConfig("tagging")}, test="hau")
    with pytest.raises(InputError, match=r"task hau: source\.train: missing"):
        DataProcessor({"hau": task}, data_root="", seed=1).process(tokenizer, max_length=32)


def test_tasks_are_encoded_alike_with_and_without_a_cache(
    zero_shot: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(zero_shot.tasks["hau"].source.folder)
    config = with_tasks(zero_shot, sets=conll(folder, test="hau", tests={"more": "hau.txt"}))
    expected = Trainer.from_config(config).evaluate(test=True)
    monkeypatch.setenv("MULTITASK_BERT_CACHE", str(tmp_path))
    caplog.set_level(logging.INFO)
    assert Trainer.from_config(config).evaluate(test=True) == expected
    assert "found encoded" not in caplog.text
    assert Trainer.from_config(config).evaluate(test=True) == expected
    assert caplog.text.count("found encoded") == 4


@pytest.mark.slow
def test_a_resumed_run_with_shared_heads_equals_an_uninterrupted_one(
    zero_shot: ExperimentConfig, files: Path, tmp_path: Path
) -> None:
    config = with_tasks(zero_shot, both=conll(files, share="people", train="both", dev="both", test="both"))
    assert_same(train(config, tmp_path / "whole"), train(config, tmp_path / "stopped", stops=(4, 9)))


@pytest.fixture(scope="module")
def run(zero_shot: ExperimentConfig, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with a task that has named test sets."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    sets = conll(files, heads=LENIENT, tests={"hau": "hau.txt", "both": "both.txt"})
    trained(with_tasks(zero_shot, sets=sets), folder)
    return folder


def entity_f1(folder: Path, file: Path) -> float:
    """The F1 of what a run's model predicts for the words of a CoNLL file, computed by seqeval."""
    sentences = [[line.split() for line in block.splitlines()] for block in file.read_text("utf-8").split("\n\n")]
    predictor = Predictor.load(folder, device="cpu")
    said = list(predictor.predict([{"words": [word for word, _ in sentence]} for sentence in sentences]))
    assert all(list(one["predictions"]) == ["people"] for one in said)  # the answer of a shared head, once
    tags = [one["predictions"]["people"]["entities"]["tags"] for one in said]
    return float(seqeval.metrics.f1_score([[tag for _, tag in sentence] for sentence in sentences], tags))


@pytest.mark.slow
def test_zero_shot_scores_are_those_of_the_predictions_for_the_file(run: Path, files: Path) -> None:
    results = json.loads((run / "results.json").read_text("utf-8"))
    tested, intervals = results["metrics"]["test"], results["test_intervals"]
    for key, name in (("hau", "hau"), ("yor", "yor"), ("sets.hau", "hau"), ("sets.both", "both")):
        assert tested[f"eval_{key}_entities_f1"] == pytest.approx(entity_f1(run, files / f"{name}.txt"), abs=1e-9)
        low, high = intervals[f"eval_{key}_entities_f1"]
        assert low <= tested[f"eval_{key}_entities_f1"] <= high
    assert {row["split"] for row in results["data"] if row["task"] == "sets"} == {"test.hau", "test.both"}
    assert not any(key.startswith("eval_sets_") for key in tested)  # it has no test set without a name


@pytest.mark.slow
def test_a_saved_model_has_shared_weights_once_and_says_who_shares_them(run: Path) -> None:
    names = [name for name in load_file(run / "model" / "model.safetensors") if name.startswith("head_modules.")]
    assert names
    assert all(name.startswith("head_modules.people.entities.") for name in names)
    saved = json.loads((run / "model" / "multitask.json").read_text("utf-8"))["heads"]
    assert {task: heads["entities"]["config"]["share"] for task, heads in saved.items()} == {
        "people": None, "hau": "people.entities", "yor": "people.entities", "sets": "people.entities",
    }  # fmt: skip
    predictor = Predictor.load(run, device="cpu")
    (all_tasks,), (one_task,) = (list(predictor.predict(["Musa ya je Kano"], tasks)) for tasks in (None, "hau"))
    assert one_task["predictions"]["hau"] == all_tasks["predictions"]["people"]


@pytest.mark.slow
def test_a_model_folder_from_before_heads_were_shared_loads(make_config: MakeConfig, tmp_path: Path) -> None:
    trainer = Trainer.from_config(make_config("people"))
    trainer.model.save(tmp_path / "model", trainer.tokenizer)
    (tmp_path / "model" / CHECKSUMS).unlink()
    path = tmp_path / "model" / "multitask.json"
    description = json.loads(path.read_text("utf-8"))
    del description["heads"]["people"]["entities"]["config"]["share"]
    path.write_text(json.dumps(description), encoding="utf-8")
    model, _ = MultiTaskModel.load(tmp_path / "model")
    assert model.owner_of("people", "entities") == ("people", "entities")


@pytest.mark.slow
def test_a_finished_run_is_scored_again_and_on_other_tasks(run: Path, files: Path, tmp_path: Path) -> None:
    results = json.loads((run / "results.json").read_text("utf-8"))
    run_line("action=evaluate", f"run_dir={run}", f"hydra.run.dir={tmp_path / 'again'}")
    again = json.loads((tmp_path / "again" / "results.json").read_text("utf-8"))
    assert (again["metrics"], again["test_intervals"]) == (results["metrics"], results["test_intervals"])

    (tmp_path / "conf" / "tasks").mkdir(parents=True)
    evaluated = [f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "action=evaluate", f"run_dir={run}"]
    for task, share in (("new", "share: people, "), ("people", "")):
        text = (
            f"{task}: {{{share}source: {{format: conll, folder: {files}, test: test.txt}}, "
            f"heads: {{entities: {{unknown_labels: wrong}}}}}}\n"
        )
        (tmp_path / "conf" / "tasks" / f"{task}.yaml").write_text(text)
        of_test = f"tasks.{task}.source.test=both.txt"
        run_line(*evaluated, f"tasks={task}", of_test, f"hydra.run.dir={tmp_path / task}")
        other = json.loads((tmp_path / task / "results.json").read_text("utf-8"))
        expected = results["metrics"]["test"]["eval_sets.both_entities_f1"]
        assert other["metrics"]["test"][f"eval_{task}_entities_f1"] == expected
        assert set(other["metrics"]) == {"test"}

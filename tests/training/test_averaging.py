"""Averages of the weights, and each head's own best step."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask_bert.config.schema import AveragingConfig, ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.inference.predictor import Predictor
from multitask_bert.records import TaskResult
from multitask_bert.training.evaluation import Evaluator
from multitask_bert.training.loop import Stopped, TrainingLoop
from multitask_bert.training.output import RunOutput
from multitask_bert.training.run import run_training
from multitask_bert.training.trainer import Trainer
from tests.training.recorded import recorded

MakeConfig = Callable[..., ExperimentConfig]
Weights = dict[str, torch.Tensor]


def averaging(make_config: MakeConfig, kind: str, *, start: float = 0.0, **trainer: Any) -> ExperimentConfig:
    config = make_config(**{"num_epochs": 3, "dropout": 0.0, **trainer})
    config.averaging = AveragingConfig(kind, decay=0.75, start=start)
    config.optimizer.lr = 2e-3
    return config


def weights_by_step(
    config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[int, Weights], TrainingLoop]:
    """All weights after each step of a run, and its training loop."""
    found: dict[int, Weights] = {}
    step = TrainingLoop._step
    loops: list[TrainingLoop] = []

    def watched(self: TrainingLoop, *arguments: Any) -> None:
        step(self, *arguments)
        weights = self.trainer.model.state_dict()
        found[self.state.step + 1] = {name: weight.clone() for name, weight in weights.items()}
        loops.append(self)

    monkeypatch.setattr(TrainingLoop, "_step", watched)
    Trainer.from_config(config).train()
    monkeypatch.setattr(TrainingLoop, "_step", step)
    return found, loops[0]


def in_use(loop: TrainingLoop, name: str) -> slice | torch.Tensor:
    """An index of the rows that training touches: some of the word embeddings, all of other weights."""
    return loop.stream.used_ids() if name.endswith("word_embeddings.weight") else slice(None)


def averages_of(loop: TrainingLoop) -> Weights:
    return {
        name.replace("word_embeddings.rows", "word_embeddings.weight"): w for name, w in loop.average.tensors.items()
    }


def test_ema_is_the_recursion_over_the_steps_after_its_start(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_step, loop = weights_by_step(averaging(make_config, "ema", start=0.25), monkeypatch)
    num_steps = len(by_step)
    expected: Weights = {}
    for step, weights in by_step.items():
        if step > 0.25 * num_steps:
            expected = {n: 0.75 * expected[n] + 0.25 * w if expected else w for n, w in weights.items()}
    averages = averages_of(loop)
    assert averages.keys() == expected.keys()
    for name, weight in averages.items():
        torch.testing.assert_close(weight, expected[name][in_use(loop, name)], atol=1e-6, rtol=1e-5, msg=name)


def test_last_is_the_mean_over_the_evaluations_after_its_start(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = averaging(make_config, "last", start=0.5, eval_every=3)
    by_step, loop = weights_by_step(config, monkeypatch)
    num_steps = len(by_step)
    taken = [w for step, w in by_step.items() if step > num_steps / 2 and (step % 3 == 0 or step == num_steps)]
    assert len(taken) > 2
    for name, weight in averages_of(loop).items():
        mean = torch.stack([weights[name] for weights in taken]).mean(0)[in_use(loop, name)]
        torch.testing.assert_close(weight, mean, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("kind", ["ema", "last"])
def test_the_better_of_plain_and_averaged_weights_is_kept_and_training_is_not_disturbed(
    make_config: MakeConfig, kind: str, tmp_path: Path
) -> None:
    plain, without = recorded(averaging(make_config, "none"), tmp_path / "none")
    plain.train()
    trainer, recorder = recorded(averaging(make_config, kind), tmp_path / kind)
    state = trainer.train()
    assert recorder.values("train_loss") == without.values("train_loss")
    assert recorder.values("eval_mean_f1") == without.values("eval_mean_f1")
    averaged = recorder.values("average_eval_mean_f1")
    assert averaged
    found = {**{("plain", s): v for s, v in without.values("eval_mean_f1").items()},
             **{("average", s): v for s, v in averaged.items()}}  # fmt: skip
    assert state.best_score == max(found.values())
    assert found[state.best_weights, state.best_step] == state.best_score
    assert trainer.evaluate()["eval_mean_f1"] == state.best_score  # the best weights are in the model


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ema", "last"])
def test_a_resumed_run_has_the_same_average(
    make_config: MakeConfig, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, loops = TrainingLoop.run, []
    monkeypatch.setattr(TrainingLoop, "run", lambda self: (loops.append(self), run(self)))
    whole = Trainer.from_config(averaging(make_config, kind), RunOutput(tmp_path / "whole"))
    whole.train()
    stopped = Trainer.from_config(averaging(make_config, kind), RunOutput(tmp_path / "stopped"))
    stopped.model.register_forward_pre_hook(
        lambda *_: stopped.ask_to_stop("SIGTERM") if stopped.state.step == 14 else None
    )
    with pytest.raises(Stopped):
        stopped.train()
    config = averaging(make_config, kind)
    config.resume = True
    resumed = Trainer.from_config(config, RunOutput(tmp_path / "stopped"))
    resumed.train()
    for trainer in (whole, stopped, resumed):
        trainer.close()
    averages, _, resumed_averages = (loop.average.tensors for loop in loops)
    assert averages.keys() == resumed_averages.keys()
    assert all(torch.equal(weight, resumed_averages[name]) for name, weight in averages.items())
    assert (resumed.state.best_score, resumed.state.best_weights) == (whole.state.best_score, whole.state.best_weights)


@pytest.mark.parametrize(("field", "value"), [("start", 1.0), ("start", -0.1), ("decay", 1.0), ("kind", "mean")])
def test_an_invalid_averaging_option_is_refused_by_name(make_config: MakeConfig, field: str, value: Any) -> None:
    config = make_config()
    setattr(config.averaging, field, value)
    with pytest.raises(InputError, match=f"averaging.{field}"):
        Trainer.from_config(config)


@pytest.fixture
def _scripted_dev_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best step of `people` is that of the mean, the third; `mood` has its own, the sixth."""
    scripts = {"people": [0.1, 0.2, 0.9, 0.3, 0.2, 0.1], "mood": [0.1, 0.2, 0.8, 0.4, 0.5, 0.9]}
    evaluate_all = Evaluator.evaluate_all
    evaluations = count()

    def scripted(*arguments: Any, tune: bool = False, **options: Any) -> dict[str, TaskResult]:
        results = evaluate_all(*arguments, tune=tune, **options)
        if not tune:  # on test
            return results
        number = next(evaluations)
        return {
            task: replace(
                result, scores={name: {**scores, "f1": scripts[task][number]} for name, scores in result.scores.items()}
            )
            for task, result in results.items()
        }

    monkeypatch.setattr(Evaluator, "evaluate_all", scripted)


@pytest.mark.usefixtures("_scripted_dev_scores")
def test_the_best_step_of_each_head_is_recorded_saved_and_tested(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = averaging(make_config, "none", num_epochs=6, keep_best_per_head=True)
    run_training(config, tmp_path, tags={})
    capsys_out = capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    tested = results["test_of_own_best"]
    texts = {"people": [{"words": ["Amina", "anaishi", "Arusha"]}], "mood": ["siku nzuri sana"]}
    for task, head, metric in (("people", "entities", "f1"), ("mood", "polarity", "f1")):
        key = f"eval_{task}_{head}_{metric}"
        by_step = {line["step"]: line[key] for line in lines if key in line}
        own = results["best_by_head"][f"{task}.{head}"]
        assert own == {"score": max(by_step.values()), "step": max(by_step, key=by_step.__getitem__)}
        folder = tmp_path / "checkpoints" / "best_of" / f"{task}.{head}"
        assert json.loads((folder / "state.json").read_text(encoding="utf-8"))["step"] == own["step"]
        assert list(Predictor.load(folder).predict(texts[task], tasks=task))
        assert tested[f"{task}.{head}"]["step"] == own["step"]
    steps = {name: own["step"] for name, own in results["best_by_head"].items()}
    assert steps["people.entities"] == results["best"]["step"] < steps["mood.polarity"]
    assert tested["people.entities"]["scores"]["f1"] == results["metrics"]["test"]["eval_people_entities_f1"]
    assert "Each head's own best: head mood.polarity" in capsys_out
    assert "Each head's own best: head people.entities" not in capsys_out

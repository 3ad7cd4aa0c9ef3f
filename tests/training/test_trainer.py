"""The Trainer, compared with independent ways to the same numbers."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask_bert.config.schema import ExperimentConfig, HeadConfig, MixingConfig, OptimizerConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import metric_for_best
from multitask_bert.training.optimization import make_optimizer
from multitask_bert.training.output import RunOutput
from multitask_bert.training.run import run_training
from multitask_bert.training.trainer import Trainer
from tests.training.recorded import recorded, weights_after_training

MakeConfig = Callable[..., ExperimentConfig]


@pytest.mark.parametrize("micro_batch_size", [4, 3, 1])
def test_a_batch_in_parts_gives_the_same_steps_as_the_batch_in_one(
    make_config: MakeConfig, micro_batch_size: int
) -> None:
    options = {"dropout": 0.0, "max_steps": 4, "num_epochs": 1}
    whole = weights_after_training(make_config(**options))
    parts = weights_after_training(make_config(**options, micro_batch_size=micro_batch_size))
    for name, weight in whole.items():
        torch.testing.assert_close(parts[name], weight, atol=1e-6, rtol=1e-4, msg=name)


def test_two_runs_with_one_seed_give_identical_metrics_and_weights(make_config: MakeConfig, tmp_path: Path) -> None:
    runs = []
    for name in ("one", "two"):
        trainer, recorder = recorded(make_config(), tmp_path / name)
        trainer.train()
        told = [(step, {k: v for k, v in m.items() if "per_second" not in k}) for step, m in recorder.metrics]
        runs.append((told, trainer.evaluate(test=True), trainer.model.state_dict()))
    assert runs[0][:2] == runs[1][:2]
    assert all(torch.equal(weight, runs[1][2][name]) for name, weight in runs[0][2].items())


def test_another_seed_gives_other_weights(make_config: MakeConfig) -> None:
    one, two = (weights_after_training(make_config(seed=seed, max_steps=2)) for seed in (1, 2))
    assert any(not torch.equal(weight, two[name]) for name, weight in one.items())


def test_the_order_in_which_tasks_are_named_does_not_matter(make_config: MakeConfig) -> None:
    config = make_config(max_steps=4)
    turned = replace(config, tasks=dict(reversed(config.tasks.items())))
    one, two = weights_after_training(config), weights_after_training(turned)
    assert list(config.tasks) != list(turned.tasks)
    assert one.keys() == two.keys()
    assert all(torch.equal(weight, two[name]) for name, weight in one.items())


def test_one_step_equals_adamw_by_hand_on_the_mean_loss(make_config: MakeConfig) -> None:
    config = make_config("mood", dropout=0.0, max_steps=1, max_grad_norm=0.5, sort_window=1)
    config.scheduler.shape, config.scheduler.warmup_ratio = "constant", 0.0
    trainer, by_hand = Trainer.from_config(config), Trainer.from_config(config)
    batches: list[Any] = []
    trainer.model.register_forward_pre_hook(lambda _, inputs: batches.append(inputs[0]))
    trainer.train()

    batch = batches[0]
    model = by_hand.model.eval()
    output = model(batch)["mood", "polarity"]
    (output.loss_sum / batch.num_examples).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    make_optimizer(model, config.optimizer).step()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(trainer.model.state_dict()[name], weight, atol=1e-7, rtol=1e-5, msg=name)


def test_weight_decay_leaves_biases_and_norms_alone(make_config: MakeConfig) -> None:
    model = Trainer.from_config(make_config()).model
    names = {id(weight): name for name, weight in model.named_parameters()}
    decayed, plain = make_optimizer(model, OptimizerConfig(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.1, 0.0)
    assert all(not names[id(weight)].endswith("bias") for weight in decayed["params"])
    assert all("LayerNorm" in names[id(w)] or names[id(w)].endswith("bias") for w in plain["params"])
    assert len(decayed["params"]) + len(plain["params"]) == len(names)


def test_the_weight_of_a_head_scales_its_loss(make_config: MakeConfig, tmp_path: Path) -> None:
    losses = []
    for weight in (1.0, 3.0):
        config = make_config("mood", max_steps=1)
        config.tasks["mood"].heads["polarity"].weight = weight
        trainer, recorder = recorded(config, tmp_path / str(weight))
        trainer.train()
        losses.append(recorder.values("train_loss")[1])
    assert losses[1] == pytest.approx(3 * losses[0], rel=1e-6)


def test_a_task_whose_heads_weigh_nothing_teaches_the_encoder_nothing(make_config: MakeConfig) -> None:
    config = make_config("mood", max_steps=2, dropout=0.0)
    config.tasks["mood"].heads["polarity"].weight = 0.0
    config.optimizer.weight_decay = 0.0
    before = {name: weight.clone() for name, weight in Trainer.from_config(config).model.state_dict().items()}
    after = weights_after_training(config)
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_tasks_take_turns_and_every_example_is_learned_once_per_epoch(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config(num_epochs=2))
    seen: list[tuple[str, int]] = []
    trainer.model.register_forward_pre_hook(
        lambda model, inputs: (
            seen.append((next(iter(inputs[0].targets))[0], inputs[0].num_examples)) if model.training else None
        )
    )
    trainer.train()
    tasks = [task for task, _ in seen]
    for turn in range(0, 8, 2):  # of the first epoch, in which the smaller task has eight batches or fewer
        assert set(tasks[turn : turn + 2]) == {"mood", "people"}, tasks
    assert {task: sum(n for t, n in seen if t == task) for task in set(tasks)} == {"people": 80, "mood": 60}


def test_metrics_have_the_documented_keys(make_config: MakeConfig) -> None:
    metrics = Trainer.from_config(make_config()).evaluate()
    heads = {
        "eval_mood_polarity_": ("f1", "accuracy"),
        "eval_people_entities_": ("f1", "precision", "recall", "f1_strict"),
    }
    expected = {prefix + name for prefix, names in heads.items() for name in names}
    sums = {"eval_mood_loss", "eval_people_loss", "eval_loss", "eval_mean_f1", "eval_mean_score"}
    assert set(metrics) == expected | sums
    f1s = metrics["eval_mood_polarity_f1"], metrics["eval_people_entities_f1"]
    assert metrics["eval_mean_f1"] == pytest.approx(sum(f1s) / 2)
    assert metrics["eval_loss"] == pytest.approx((metrics["eval_mood_loss"] + metrics["eval_people_loss"]) / 2)


def test_scores_do_not_depend_on_how_examples_share_batches(make_config: MakeConfig) -> None:
    metrics = []
    for size in (64, 7, 1):
        trainer = Trainer.from_config(make_config(eval_batch_size=size))
        metrics.append({split: trainer.evaluate(test=split) for split in (False, True)})
    assert metrics[1] == {split: pytest.approx(scores, abs=1e-5) for split, scores in metrics[0].items()}
    assert metrics[2] == {split: pytest.approx(scores, abs=1e-5) for split, scores in metrics[0].items()}


def test_evaluating_leaves_training_untouched(make_config: MakeConfig) -> None:
    often, once = make_config(max_steps=6, eval_every=1), make_config(max_steps=6)
    trained = []
    for config in (often, once):
        trainer = Trainer.from_config(config)
        trainer.best.restore = lambda model: None  # type: ignore[method-assign]
        trainer.train()
        trained.append(trainer.model.state_dict())
    assert all(torch.equal(weight, trained[1][name]) for name, weight in trained[0].items())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"num_epochs": 2}, [9, 18]),  # 40 + 30 examples in batches of 8
        ({"num_epochs": 2, "eval_every": 7}, [7, 14, 18]),
        ({"num_epochs": 2, "max_steps": 10}, [9, 10]),
        ({"num_epochs": 2, "eval_shares": [0.25, 0.5]}, [5, 9, 18]),
        ({"num_epochs": 2, "max_steps": 10, "eval_shares": [0.1, 0.15, 0.2, 1.0]}, [1, 2, 10]),
        ({"num_epochs": 2, "max_steps": 10, "eval_every": 5}, [5, 10]),
    ],
)
def test_evaluations_come_when_they_are_due(
    make_config: MakeConfig, tmp_path: Path, options: dict[str, int], expected: list[int]
) -> None:
    trainer, recorder = recorded(make_config(**options), tmp_path)
    state = trainer.train()
    assert sorted(recorder.values("eval_loss")) == expected
    assert state.step == expected[-1]
    assert sorted(recorder.values("train_loss")) == list(range(1, state.step + 1))


def scripted(trainer: Trainer, metric: str, scores: list[float]) -> None:
    """Make the evaluations of a trainer give these scores, one after the other."""
    script, evaluate = iter(scores), trainer.evaluate
    trainer.evaluate = lambda test=False: evaluate(test) | {metric: next(script)}  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("metric", "scores", "best_step", "last_step"),
    [
        ("eval_mean_f1", [0.1, 0.5, 0.4, 0.3, 0.9], 2, 4),
        ("eval_mean_f1", [0.1, 0.2, 0.15, 0.3, 0.2], 4, 5),
        ("eval_loss", [0.9, 0.5, 0.6, 0.7, 0.1], 2, 4),
        ("eval_mean_f1", [math.nan, 0.2, math.nan, 0.3, 0.3], 4, 5),
    ],
)
def test_training_stops_after_the_patience_and_gives_back_the_best_weights(
    make_config: MakeConfig, tmp_path: Path, metric: str, scores: list[float], best_step: int, last_step: int
) -> None:
    config = make_config(max_steps=5, eval_every=1, patience=2, metric_for_best=metric)
    trainer = Trainer.from_config(config, RunOutput(tmp_path))
    trainer.reporter.loggers = []
    scripted(trainer, metric, scores)
    at_step: dict[int, dict[str, torch.Tensor]] = {}
    show_scores = trainer.console.show_scores

    def remember(*args: Any, **options: Any) -> None:
        at_step[trainer.state.step] = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
        show_scores(*args, **options)

    trainer.console.show_scores = remember  # type: ignore[method-assign]
    state = trainer.train()
    assert (state.best_step, state.step, state.stopped_early) == (best_step, last_step, last_step < 5)
    assert state.best_score == scores[best_step - 1] == state.best_metrics[metric]
    final = trainer.model.state_dict()
    assert all(torch.equal(weight, final[name]) for name, weight in at_step[best_step].items())
    assert any(not torch.equal(weight, final[name]) for name, weight in at_step[last_step].items())


def test_a_best_score_that_is_not_a_number_is_warned_of_once(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer.from_config(make_config("mood", max_steps=3, eval_every=1))
    scripted(trainer, "eval_mean_f1", [math.nan, math.nan, 0.5])
    assert trainer.train().best_score == 0.5
    warnings = [record.getMessage() for record in caplog.records if "is not a number" in record.getMessage()]
    assert warnings == ["step 1: eval_mean_f1 is not a number; this model counts as the best until one is"]


@pytest.mark.slow
def test_training_learns_what_is_there_to_learn(make_config: MakeConfig) -> None:
    config = make_config(num_epochs=15)
    config.optimizer.lr = 5e-3
    trainer = Trainer.from_config(config)
    before = trainer.evaluate(test=True)
    trainer.train()
    after = trainer.evaluate(test=True)
    assert after["eval_mean_f1"] > 0.9 > 0.7 > before["eval_mean_f1"]


@pytest.mark.parametrize("rule", ["proportional", "temperature", "annealed"])
def test_every_mixing_rule_trains(make_config: MakeConfig, rule: str) -> None:
    config = make_config(num_epochs=2)
    config.mixing = MixingConfig(rule=rule)
    assert Trainer.from_config(config).train().step == 18


def test_closing_twice_tells_the_loggers_once(make_config: MakeConfig, tmp_path: Path) -> None:
    trainer, recorder = recorded(make_config(max_steps=1), tmp_path)
    trainer.train()
    trainer.close()
    trainer.close()
    assert recorder.statuses == ["FINISHED"]
    assert recorder.run.config["trainer"]["max_steps"] == 1


def test_a_run_that_raises_is_reported_as_failed(make_config: MakeConfig, tmp_path: Path) -> None:
    trainer, recorder = recorded(make_config(max_steps=3), tmp_path)

    def fail(*_: Any) -> None:
        raise RuntimeError("no more memory")

    trainer.model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="no more memory"):
        trainer.train()
    trainer.close()
    assert recorder.statuses == ["FAILED"]


def test_no_tensor_is_read_between_two_log_points(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config("mood", max_steps=3, log_every=3)
    config.optimizer.options = {"fused": True}  # as in conf/optimizer/adamw.yaml
    trainer = Trainer.from_config(config)
    steps_of_reads: list[int] = []
    item, as_float = torch.Tensor.item, torch.Tensor.__float__
    monkeypatch.setattr(torch.Tensor, "item", lambda t: (steps_of_reads.append(trainer.state.step), item(t))[1])
    monkeypatch.setattr(
        torch.Tensor, "__float__", lambda t: (steps_of_reads.append(trainer.state.step), as_float(t))[1]
    )
    trainer.train()
    assert set(steps_of_reads) == {3}


def test_a_task_without_a_test_set_is_left_out_of_the_test_scores(make_config: MakeConfig) -> None:
    config = make_config("mood")
    config.tasks["mood"].source.test, config.tasks["mood"].source.test_fraction = None, 0.0
    trainer = Trainer.from_config(config)
    with pytest.raises(InputError, match="no test set"):
        trainer.evaluate(test=True)


def test_a_best_metric_that_nobody_reports_is_refused_before_anything_is_loaded(make_config: MakeConfig) -> None:
    config = make_config(metric_for_best="eval_mood_polarity_bleu")
    config.data_root = "/no/such/folder"
    with pytest.raises(InputError, match=r"metric_for_best=eval_mood_polarity_bleu: no head reports it; choose one of"):
        Trainer.from_config(config)


def test_a_text_longer_than_the_encoder_is_refused_before_data_is_read(make_config: MakeConfig) -> None:
    config = make_config(max_length=65)
    config.data_root = "/no/such/folder"
    with pytest.raises(InputError, match=r"batching\.max_length=65: this encoder has 64 positions"):
        Trainer.from_config(config)


def test_an_optimizer_that_does_not_know_an_option_is_named(make_config: MakeConfig) -> None:
    config = make_config(max_steps=1)
    config.optimizer.options = {"beta": 0.9}
    with pytest.raises(InputError, match=r"optimizer: torch\.optim\.AdamW cannot be made with options=.*beta"):
        Trainer.from_config(config).train()


def test_a_checkpoint_that_cannot_be_written_is_named(make_config: MakeConfig, tmp_path: Path) -> None:
    trainer, _ = recorded(make_config("mood", max_steps=1), tmp_path)
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(InputError, match=r"checkpoints/best: the best model cannot be written"):
        trainer.train()


def test_heads_of_one_task_may_have_different_weights(make_config: MakeConfig) -> None:
    config = make_config("mood")
    config.tasks["mood"].heads["second"] = HeadConfig("classification", column="mood", weight=2.0)
    trainer = Trainer.from_config(config)
    metrics = trainer.evaluate()
    losses = trainer.results["eval"]["mood"].losses
    assert metrics["eval_mood_loss"] == pytest.approx(losses["polarity"] + 2.0 * losses["second"])


@pytest.mark.parametrize(("metric", "best"), [("f1", "eval_mean_f1"), ("accuracy", "eval_mean_score")])
def test_the_best_model_is_chosen_by_f1_if_a_head_has_one(make_config: MakeConfig, metric: str, best: str) -> None:
    config = make_config("mood")
    config.tasks["mood"].heads["polarity"].metrics = [metric]
    assert metric_for_best(config) == best


def test_weights_and_optimizer_of_a_run_are_freed_as_it_ends(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python looks for cycles too rarely: each trial of a sweep would leave its weights in memory."""
    held: list[weakref.ref[Any]] = []
    close = Trainer.close

    def closing(self: Trainer) -> None:
        held[:] = [weakref.ref(self), weakref.ref(self.model)]
        close(self)

    monkeypatch.setattr(Trainer, "close", closing)
    gc.collect()
    gc.disable()
    try:
        run_training(make_config("mood", num_epochs=1), tmp_path, tags={})
        assert [reference() for reference in held] == [None, None]
    finally:
        gc.enable()

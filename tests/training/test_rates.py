"""Learning rates by part, freezing and the number of updates, tested in whole runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.model.parts import parts_of
from multitask_bert.training.output import RunOutput
from multitask_bert.training.trainer import Trainer
from tests.training.recorded import recorded, weights_after_training

MakeConfig = Callable[..., ExperimentConfig]


def moved_parts(config: ExperimentConfig) -> set[str]:
    """The parts of which a weight changed in the run."""
    trainer = Trainer.from_config(config)
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    parts = parts_of(trainer.model)
    return {parts[name].name for name, w in trainer.model.named_parameters() if not torch.equal(w, before[name])}


@pytest.mark.parametrize("name", ["lr", "weight_decay"])
def test_an_option_that_each_part_has_for_itself_is_refused(make_config: MakeConfig, name: str) -> None:
    config = make_config("mood")
    config.optimizer.options = {name: 0.1}
    with pytest.raises(InputError, match=rf"optimizer\.options\.{name}: .*; set optimizer\.{name}$"):
        Trainer.from_config(config)


def test_frozen_parts_do_not_move_not_even_by_decay(make_config: MakeConfig) -> None:
    config = make_config("mood", num_epochs=1)
    config.optimizer.frozen_layers, config.optimizer.frozen_embeddings = 1, True
    config.model.pooling = "mean"
    assert moved_parts(config) == {"layer_1", "mood.polarity"}


def test_unfreezing_adds_layers_by_epoch(make_config: MakeConfig) -> None:
    moved = []
    for num_epochs in (1, 2, 3):
        config = make_config("mood", num_epochs=num_epochs)
        config.model.pooling, config.optimizer.unfreezing = "mean", [0, 1, 1][:num_epochs]
        config.trainer.eval_every = 1000  # so that the last weights are the best
        moved.append(moved_parts(config))
    assert moved[0] == {"mood.polarity"}
    assert moved[1] == moved[2] == {"layer_1", "mood.polarity"}


def test_unfrozen_embeddings_train_the_same_with_and_without_unused_rows(
    make_config: MakeConfig, monkeypatch: Any
) -> None:
    """The rows in use are a parameter of their own; unfreezing must reach it, and decay the others only then."""
    config = make_config("mood", num_epochs=3, dropout=0.0, eval_every=1000)
    config.optimizer.unfreezing, config.optimizer.lr, config.optimizer.weight_decay = [0, 1], 1e-3, 0.1
    used = weights_after_training(config)
    monkeypatch.setattr("multitask_bert.model.embeddings.MOST_USED", 0.0)  # all rows are trained
    every = weights_after_training(config)
    for name, weight in every.items():
        torch.testing.assert_close(used[name], weight, atol=2e-6, rtol=1e-4, msg=name)


def test_the_rate_of_a_part_is_logged_beside_the_encoders(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("mood", max_steps=4)
    config.optimizer.head_lr_factor, config.optimizer.layer_decay = 10.0, 0.5
    config.scheduler.shape, config.scheduler.warmup_ratio = "constant", 0.0
    trainer, recorder = recorded(config, tmp_path)
    trainer.train()
    trainer.close()
    assert recorder.values("train_lr") == dict.fromkeys(range(1, 5), pytest.approx(5e-5))
    assert recorder.values("train_lr_mood.polarity") == dict.fromkeys(range(1, 5), pytest.approx(5e-4))
    assert recorder.values("train_lr_embeddings") == dict.fromkeys(range(1, 5), pytest.approx(1.25e-5))


def test_embeddings_are_logged_with_a_rate_of_zero_while_they_are_frozen(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config("mood", num_epochs=2)
    config.optimizer.unfreezing, config.scheduler.shape, config.scheduler.warmup_ratio = [0], "constant", 0.0
    trainer, recorder = recorded(config, tmp_path)
    trainer.train()
    trainer.close()
    in_second = pytest.approx(5e-5)
    assert recorder.values("train_lr_embeddings") == dict.fromkeys(range(1, 5), 0.0) | dict.fromkeys(
        range(5, 9), in_second
    )
    config.optimizer.unfreezing, config.optimizer.frozen_embeddings = [], True
    trainer, recorder = recorded(config, tmp_path / "frozen")
    trainer.train()
    trainer.close()
    assert set(recorder.values("train_lr_embeddings").values()) == {0.0}


def test_an_unfreezing_plan_is_compared_with_the_epochs_that_the_run_has(make_config: MakeConfig) -> None:
    config = make_config("mood", num_epochs=1, min_steps=12)  # three epochs of four steps
    config.optimizer.unfreezing = [0, 0, 1]
    assert Trainer.from_config(config).train().step == 12
    config.trainer.max_steps = config.trainer.min_steps = 8
    with pytest.raises(InputError, match=r"unfreezing=\[0, 0, 1\]: has 3 entries.* this run has 8 steps \(epochs: 2\)"):
        Trainer.from_config(config).train()


def test_an_unfreezing_plan_longer_than_the_run_is_refused_before_anything_is_loaded(make_config: MakeConfig) -> None:
    config = make_config("mood", num_epochs=2)
    config.optimizer.unfreezing = [0, 1, 1]
    config.data_root = "/nowhere"
    with pytest.raises(InputError, match=r"optimizer.unfreezing=\[0, 1, 1\]: has 3 entries.*num_epochs is 2"):
        Trainer.from_config(config)


@pytest.mark.parametrize(("field", "value"), [
    ("head_lr_factor", 0.0), ("head_lr_factor", -1.0), ("head_lr_factor", float("nan")), ("layer_decay", 0.0),
    ("layer_decay", 1.5), ("frozen_layers", -1), ("unfreezing", [2, 1]), ("head_weight_decay", -0.1),
])  # fmt: skip
def test_invalid_optimizer_options_are_refused_by_name(make_config: MakeConfig, field: str, value: Any) -> None:
    config = make_config("mood")
    setattr(config.optimizer, field, value)
    with pytest.raises(InputError, match=f"optimizer.{field}"):
        Trainer.from_config(config)


@pytest.mark.slow
def test_a_resumed_run_with_rates_by_part_and_unfreezing_equals_the_undisturbed_one(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    from multitask_bert.training.loop import Stopped

    def config() -> ExperimentConfig:
        made = make_config(num_epochs=3)
        made.optimizer.head_lr_factor, made.optimizer.layer_decay, made.optimizer.unfreezing = 5.0, 0.8, [0, 1]
        return made

    whole = Trainer.from_config(config(), RunOutput(tmp_path / "whole"))
    whole.train()
    stopped = Trainer.from_config(config(), RunOutput(tmp_path / "stopped"))
    num_steps = 0

    def stop_in_the_second_epoch(*_: Any) -> None:
        nonlocal num_steps
        num_steps += 1
        if num_steps == 13:
            stopped.ask_to_stop("SIGTERM")

    stopped.model.register_forward_pre_hook(stop_in_the_second_epoch)
    with pytest.raises(Stopped):
        stopped.train()
    stopped.close()
    going_on = config()
    going_on.resume = True
    resumed = Trainer.from_config(going_on, RunOutput(tmp_path / "stopped"))
    resumed.train()
    for trainer in (whole, resumed):
        trainer.close()
    assert resumed.state.best_score == whole.state.best_score
    after = resumed.model.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in whole.model.state_dict().items())


def test_a_run_makes_exactly_as_many_updates_as_min_and_max_steps_ask(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config("mood", num_epochs=1, min_steps=11, max_steps=11))
    assert trainer.train().step == 11
    assert trainer.state.num_steps == 11  # what the schedule falls to zero over


def test_min_steps_that_epochs_per_task_do_not_reach_are_warned_of(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config("mood", num_epochs=1, min_steps=11)
    config.tasks["mood"].num_epochs = 2.0
    assert Trainer.from_config(config).train().step == 8
    assert "trainer.min_steps=11 is not reached: each task has its own number of epochs" in caplog.text
    caplog.clear()
    config.model.recipe.min_steps = 11  # nobody asked for it
    assert Trainer.from_config(config).train().step == 8
    assert "min_steps" not in caplog.text


def test_min_steps_adds_whole_epochs(make_config: MakeConfig) -> None:
    assert Trainer.from_config(make_config("mood", num_epochs=1, min_steps=5)).train().step == 8
    assert Trainer.from_config(make_config("mood", num_epochs=3, min_steps=5)).train().step == 12

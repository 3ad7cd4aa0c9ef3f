"""A run that was stopped and resumed equals an uninterrupted one: the same weights, scores and log, to the bit."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.saving.store import Checkpoint, CheckpointStore
from multitask_bert.training import provenance
from multitask_bert.training.loop import Stopped
from multitask_bert.training.run import run_training
from multitask_bert.training.trainer import Trainer
from multitask_bert.utils.signals import RESUME_ME
from tests.damaging import flip_a_bit
from tests.saving.stopped_runs import assert_same, make_trainer, train, train_until
from tests.trained_runs import logged

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
NUM_STEPS = 18  # of `make_config()`: 2 epochs of 5 and 4 batches


def stop_before_batch(trainer: Trainer, number: int, step: int) -> None:
    """Ask the run to stop in the evaluation after this step, before its batch `number`, from 1 on."""
    evaluator = trainer.evaluator
    heed_stop = evaluator.options.before_batch
    seen = itertools.count(1)

    def ask_and_heed() -> None:
        if trainer.state.step == step and next(seen) == number:
            trainer.ask_to_stop("SIGTERM")
        heed_stop()

    evaluator.options = replace(evaluator.options, before_batch=ask_and_heed)


@pytest.mark.parametrize("stops", [(1,), (7,), (9,), (10, 13), (17,), (18,)])
def test_a_resumed_run_equals_an_uninterrupted_one(
    make_config: MakeConfig, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    config = make_config()
    whole = train(config, tmp_path / "whole")
    assert whole.state.step == NUM_STEPS
    assert_same(whole, train(config, tmp_path / "stopped", stops))


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "packed", "update": "round"},
        {"micro_batch_size": 3, "num_workers": 1},
        {"eval_every": 4, "patience": 3},
        {"precision": "bf16", "gradient_checkpointing": True},
        {"max_tokens": 40, "sort_window": 2, "eval_shares": [0.15, 0.2, 0.6]},
    ],
    ids=lambda options: "-".join(options),
)
def test_a_resumed_run_equals_an_uninterrupted_one_with_every_option(
    make_config: MakeConfig, tmp_path: Path, options: dict[str, Any]
) -> None:
    config = make_config(**options)
    whole = train(config, tmp_path / "whole")
    assert_same(whole, train(config, tmp_path / "stopped", (3, 8)))


@pytest.mark.parametrize(("num_batches", "step"), [(1, 9), (2, 9), (3, 18)])
def test_an_evaluation_cut_short_is_made_when_the_run_is_resumed(
    make_config: MakeConfig, tmp_path: Path, num_batches: int, step: int
) -> None:
    """Slurm's grace period may be shorter than an evaluation. A second stop in the same evaluation changes nothing."""
    config = make_config(eval_batch_size=4)
    whole = train(config, tmp_path / "whole")
    for _ in range(2):
        trainer = make_trainer(config, tmp_path / "stopped")
        stop_before_batch(trainer, num_batches, step)
        with pytest.raises(Stopped):
            trainer.train()
        trainer.close()
        assert (trainer.state.step, trainer.state.is_evaluation_due) == (step, True)
        assert not any(line["step"] == step and "eval_loss" in line for line in logged(tmp_path / "stopped"))
        config = replace(config, resume=True)
    assert_same(whole, train(config, tmp_path / "stopped"))


def test_an_evaluation_is_not_cut_short_without_checkpoints(make_config: MakeConfig, tmp_path: Path) -> None:
    """Without checkpoints the model of that evaluation is all that is left of the run."""
    trainer = make_trainer(make_config(keep_last=0), tmp_path)
    stop_before_batch(trainer, 1, 9)
    with pytest.raises(Stopped):
        trainer.train()
    trainer.close()
    assert (trainer.state.step, trainer.state.best_step) == (9, 9)


@pytest.mark.parametrize("rule", ["temperature", "annealed"])
def test_a_resumed_run_equals_an_uninterrupted_one_with_sampled_tasks(
    make_config: MakeConfig, tmp_path: Path, rule: str
) -> None:
    config = make_config()
    config.mixing.rule = rule
    whole = train(config, tmp_path / "whole")
    assert_same(whole, train(config, tmp_path / "stopped", (12,)))


def test_a_resumed_run_without_a_checkpoint_starts_over(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    whole = train(config, tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "metrics.jsonl").write_text('{"step": 1, "time": 1.0, "train_loss": 9.0}\n{"st')
    assert_same(whole, train(replace(config, resume=True), tmp_path / "killed"))


def test_steps_after_the_checkpoint_are_logged_once(make_config: MakeConfig, tmp_path: Path) -> None:
    """A run killed some steps after its last checkpoint leaves such lines."""
    config = make_config()
    whole = train(config, tmp_path / "whole")
    train_until(config, tmp_path / "killed", 5)
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "time": 1.0, "train_loss": 9.0}\n{"step": 7, "ti')
    assert_same(whole, train(replace(config, resume=True), tmp_path / "killed"))


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(save_every=4)
    whole = train(config, tmp_path / "whole")
    train_until(config, tmp_path / "stopped", 10)
    newest = tmp_path / "stopped" / "checkpoints" / "last" / "step_00000010" / "tensors.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9] + b"damaged!!")
    assert_same(whole, train(replace(config, resume=True), tmp_path / "stopped"))
    assert "step_00000010: damaged (tensors.safetensors is not what was written, says checksums.json)" in caplog.text


def test_a_damaged_best_model_is_made_again(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With a flipped bit, the weights would load without an error."""
    config = make_config(save_every=4)
    whole = train(config, tmp_path / "whole")
    assert whole.state.best_step == 9
    train_until(config, tmp_path / "stopped", 10)
    flip_a_bit(tmp_path / "stopped" / "checkpoints" / "best" / "model.safetensors")
    assert_same(whole, train(replace(config, resume=True), tmp_path / "stopped"))
    assert "the best model so far is lost (damaged: model.safetensors is not what was written" in caplog.text
    assert "resuming from step 8" in caplog.text


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_damaged_best_model_older_than_all_checkpoints_is_refused_until_it_is_removed(
    make_config: MakeConfig, tmp_path: Path, is_removed: bool
) -> None:
    config = make_config(save_every=4, keep_last=1)
    train_until(config, tmp_path, 17)
    best = tmp_path / "checkpoints" / "best"
    flip_a_bit(best / "model.safetensors")
    if is_removed:
        shutil.rmtree(best)
        trainer = train(replace(config, resume=True), tmp_path)
        assert (trainer.state.step, trainer.state.best_step) == (18, 18)
        MultiTaskModel.load(best)
    else:
        with pytest.raises(InputError, match=r"checkpoints/best: damaged: .* of step 9, .*remove this folder to"):
            train(replace(config, resume=True), tmp_path)


def test_a_finished_run_that_lost_its_best_model_saves_the_last(make_config: MakeConfig, tmp_path: Path) -> None:
    """A run that is killed during its evaluation on test is in this state."""
    config = make_config(keep_last=1)
    train(config, tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "best")
    trainer = train(replace(config, resume=True), tmp_path)
    assert trainer.state.best_step == trainer.state.step == NUM_STEPS


def test_a_best_model_damaged_during_the_run_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    trainer = make_trainer(make_config(num_epochs=1), tmp_path)
    save = trainer.best.save

    def save_and_damage(*arguments: Any) -> None:
        save(*arguments)
        flip_a_bit(tmp_path / "checkpoints" / "best" / "model.safetensors")

    trainer.best.save = save_and_damage  # type: ignore[method-assign]
    with pytest.raises(InputError, match=r"checkpoints/best: the best model is lost \(damaged: .*makes it again"):
        trainer.train()
    trainer.close()


@pytest.mark.parametrize("num_kept", [0, 1, 3])
def test_keep_last_sets_how_many_checkpoints_stay(make_config: MakeConfig, tmp_path: Path, num_kept: int) -> None:
    trainer = make_trainer(make_config(save_every=2, keep_last=num_kept), tmp_path)
    trainer.train()
    trainer.close()
    found = sorted(path.name for path in (tmp_path / "checkpoints").glob("last/*"))
    assert found == [f"step_{step:08d}" for step in (14, 16, 18)][3 - num_kept :]


def test_a_changed_config_is_refused_and_the_difference_named(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    train_until(config, tmp_path, 3)
    other = replace(make_config(log_every=3), resume=True)  # when lines are handed over changes nothing
    other.optimizer.lr = 0.25
    with pytest.raises(InputError, match=r"optimizer\.lr was 5e-05, now 0\.25\. Resume"):
        make_trainer(other, tmp_path).train()


def test_a_resumed_run_with_other_data_is_refused(make_config: MakeConfig, tmp_path: Path, data_root: Path) -> None:
    config = make_config()
    train_until(config, tmp_path, 3)
    config = replace(make_config(), resume=True)
    config.tasks["mood"].source.train = "dev.tsv"
    with pytest.raises(InputError, match=r"tasks\.mood\.source\.train was train\.tsv, now dev\.tsv"):
        make_trainer(config, tmp_path).train()


def test_a_write_that_fails_leaves_the_checkpoint_before_it(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(make_config(save_every=2), tmp_path)
    write = CheckpointStore.write

    def fill_the_disk(self: CheckpointStore, checkpoint: Checkpoint) -> None:
        if checkpoint.step == 6:
            monkeypatch.setattr("safetensors.torch.save_file", raise_full)
        write(self, checkpoint)

    def raise_full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(CheckpointStore, "write", fill_the_disk)
    with pytest.raises(InputError, match=r"step 6 cannot be written .*No space left.*resume=true"):
        trainer.train()
    trainer.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints" / "last").iterdir()) == [
        "step_00000002", "step_00000004",
    ]  # fmt: skip


def test_half_written_files_of_a_killed_run_are_removed_when_it_is_resumed(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config("mood", max_steps=2, num_epochs=1)
    (tmp_path / "predictions").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / ".results.json.123.partial").write_text('{"metr')
    (tmp_path / "predictions" / ".dev.jsonl.123.partial").write_text('{"te')
    run_training(replace(config, resume=True), tmp_path, tags={})
    assert (tmp_path / "results.json").is_file()
    assert not list(tmp_path.rglob("*.partial"))
    (tmp_path / "pictures" / ".dev.png.123.partial").write_text("PNG")  # killed while it drew
    run_training(replace(config, resume=True), tmp_path, tags={})
    assert not list(tmp_path.rglob("*.partial"))


def test_resuming_a_complete_run_removes_leftover_checkpoints(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("mood", max_steps=2, num_epochs=1)
    score = run_training(config, tmp_path, tags={})
    (tmp_path / "checkpoints" / "last" / "step_00000002").mkdir(parents=True)
    assert run_training(replace(config, resume=True), tmp_path, tags={}) == score
    assert not (tmp_path / "checkpoints" / "last").exists()


def test_a_signal_before_training_ends_the_run_at_once_and_it_can_be_resumed(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config("mood", max_steps=2, num_epochs=1)
    describe = provenance.describe

    def warn(trainer: Trainer) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGUSR1)
        return describe(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(provenance, "describe", warn)
        with pytest.raises(SystemExit) as stop:
            run_training(config, tmp_path, tags={})
    assert stop.value.code == RESUME_ME
    told = capsys.readouterr().out
    assert "stopped by SIGUSR1 before training began" in told
    assert "resume=true" in told
    run_training(replace(config, resume=True), tmp_path, tags={})
    assert (tmp_path / "results.json").is_file()

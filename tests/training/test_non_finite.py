"""A loss that is infinite or not a number never reaches the weights, and says where it comes from."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.heads import Head
from multitask_bert.model import acceleration
from multitask_bert.saving.store import FAILED, CheckpointStore
from multitask_bert.training.non_finite import NonFiniteLossError
from multitask_bert.training.output import RunOutput
from multitask_bert.training.recovery import MAX_SKIPPED_IN_A_ROW
from multitask_bert.training.trainer import Trainer
from tests.training.recorded import recorded

MakeConfig = Callable[..., ExperimentConfig]
POISON = "siku 7 mbaya"  # in one text of mood/train.tsv


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make the loss of one training text NaN or infinite, whichever batch it is in."""

    def poison(trainer: Trainer, value: float = math.nan) -> None:
        pieces = trainer.tokenizer(POISON, add_special_tokens=False)["input_ids"]
        head = trainer.model.heads["mood"]["polarity"]
        loss = head.loss
        rows: list[torch.Tensor] = []

        def remember(_: Any, inputs: Any) -> None:
            batch = inputs[0]
            rows[:] = [_contains(ids, pieces) for ids in batch.input_ids_BS]

        def poisoned_loss(logits: Any, target: Any) -> Any:
            output = loss(logits, target)
            return replace(output, loss_sum=output.loss_sum * value) if any(rows) else output

        trainer.model.register_forward_pre_hook(remember)
        monkeypatch.setattr(head, "loss", poisoned_loss)

    return poison


def _contains(ids: torch.Tensor, pieces: list[int]) -> bool:
    found = ids.tolist()
    return any(found[n : n + len(pieces)] == pieces for n in range(len(found)))


def weights_of(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in trainer.model.state_dict().items()}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_run_stops_before_the_update_and_names_head_and_example(
    make_config: MakeConfig, tmp_path: Path, poisoned: Callable[..., None], value: float
) -> None:
    trainer = Trainer.from_config(make_config(), RunOutput(tmp_path))
    poisoned(trainer, value)
    after: dict[int, dict[str, torch.Tensor]] = {}

    def remember(*_: Any) -> None:
        after[trainer.state.step] = weights_of(trainer)

    trainer.model.register_forward_pre_hook(remember)
    with pytest.raises(NonFiniteLossError) as refusal:
        trainer.train()
    trainer.close()
    number = trainer.state.step + 1
    line = next(n for n, row in enumerate(_rows(trainer), start=1) if row.startswith(POISON))
    message = str(refusal.value)
    assert f"step {number}: the loss of mood.polarity is infinite or not a number; nothing was updated" in message
    assert f"It comes from mood (mood/train.tsv:{line})\n" in message.replace(str(trainer.config.data_root) + "/", "")
    assert all(torch.equal(weight, after[number - 1][name]) for name, weight in weights_of(trainer).items())
    report = json.loads((tmp_path / "non_finite.json").read_text(encoding="utf-8"))
    culprits = [example["text"] for example in report["examples"] if example["losses_alone"]]
    assert len(report["examples"]) == 8
    assert len(culprits) == 1
    assert culprits[0].startswith(POISON)


def _rows(trainer: Trainer) -> list[str]:
    return (Path(trainer.config.data_root) / "mood" / "train.tsv").read_text(encoding="utf-8").splitlines()


def test_the_state_before_a_failed_step_is_saved(
    make_config: MakeConfig, tmp_path: Path, poisoned: Callable[..., None]
) -> None:
    trainer = Trainer.from_config(make_config(save_every=1), RunOutput(tmp_path))
    poisoned(trainer)
    with pytest.raises(NonFiniteLossError):
        trainer.train()
    trainer.close()
    failed = CheckpointStore(tmp_path, name=FAILED).read()
    last = CheckpointStore(tmp_path).read()
    assert failed is not None
    assert last is not None
    assert failed.state["train"]["step"] == last.state["train"]["step"] == trainer.state.step
    assert failed.tensors.keys() == last.tensors.keys()
    # The random numbers of the step are not drawn either: whoever makes it again drops the same.
    assert all(torch.equal(tensor, last.tensors[name]) for name, tensor in failed.tensors.items())


def test_a_resumed_run_fails_at_the_same_step_again_or_skips_it(
    make_config: MakeConfig, tmp_path: Path, poisoned: Callable[..., None]
) -> None:
    config = make_config(num_epochs=1)
    messages = []
    for resume in (False, True):
        trainer = Trainer.from_config(replace(config, resume=resume), RunOutput(tmp_path))
        poisoned(trainer)
        with pytest.raises(NonFiniteLossError) as refusal:
            trainer.train()
        trainer.close()
        messages.append(str(refusal.value))
    assert messages[0] == messages[1]
    skipping = replace(config, resume=True, trainer=replace(config.trainer, on_non_finite="skip"))
    trainer = Trainer.from_config(skipping, RunOutput(tmp_path))
    poisoned(trainer)
    assert trainer.train().num_skipped == 1
    trainer.close()


def test_a_skipped_step_is_counted_and_the_schedule_advances(
    make_config: MakeConfig, tmp_path: Path, poisoned: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(num_epochs=1, on_non_finite="skip")
    trainer, recorder = recorded(config, tmp_path)
    poisoned(trainer)
    with caplog.at_level(logging.WARNING):
        state = trainer.train()
    assert (state.step, state.num_skipped) == (9, 1)
    (skipped,) = recorder.values("train_skipped_steps")
    assert set(recorder.values("train_loss")) == set(range(1, 10)) - {skipped}
    assert "the step is skipped" in caplog.text
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())
    rates = recorder.values("train_lr")
    plain, plain_recorder = recorded(make_config(num_epochs=1), tmp_path / "plain")
    plain.train()
    expected = plain_recorder.values("train_lr")
    assert rates == {step: rate for step, rate in expected.items() if step != skipped}, "the schedule goes on"


def test_too_many_skipped_steps_in_a_row_end_the_run(make_config: MakeConfig, tmp_path: Path) -> None:
    trainer = Trainer.from_config(make_config(num_epochs=3, on_non_finite="skip"), RunOutput(tmp_path))
    make_loss_nan(trainer.model.heads)
    with pytest.raises(NonFiniteLossError, match=f"step {MAX_SKIPPED_IN_A_ROW + 1}: ") as refusal:
        trainer.train()
    trainer.close()
    assert f"{MAX_SKIPPED_IN_A_ROW} steps in a row were skipped before it" in str(refusal.value)


def make_loss_nan(heads: dict[str, dict[str, Head]]) -> None:
    for head in (head for of_task in heads.values() for head in of_task.values()):
        loss = head.loss

        def broken(logits: Any, target: Any, loss: Any = loss) -> Any:
            output = loss(logits, target)
            return replace(output, loss_sum=output.loss_sum * math.nan)

        head.loss = broken  # type: ignore[method-assign]


def test_a_diverging_run_stops_with_finite_weights(make_config: MakeConfig, tmp_path: Path) -> None:
    """The learning rate is far too high: without a check of the gradient, the weights would diverge first."""
    config = make_config(max_grad_norm=1e30)
    config.optimizer._target_, config.optimizer.lr, config.optimizer.options = "torch.optim.SGD", 1e25, {}
    config.scheduler.warmup_ratio = 0.0
    trainer = Trainer.from_config(config, RunOutput(tmp_path))
    with pytest.raises(NonFiniteLossError, match=r"lower optimizer\.lr"):
        trainer.train()
    trainer.close()
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())


@pytest.mark.parametrize("max_grad_norm", [1.0, None])
def test_a_gradient_that_is_not_finite_stops_the_run_as_a_loss_does(
    make_config: MakeConfig, tmp_path: Path, max_grad_norm: float | None
) -> None:
    trainer = Trainer.from_config(make_config(max_grad_norm=max_grad_norm), RunOutput(tmp_path))
    weights = dict(trainer.model.encoder.named_parameters())
    weights["backbone.embeddings.LayerNorm.weight"].register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(NonFiniteLossError, match=r"step 1: the gradient is infinite or not a number; nothing was"):
        trainer.train()
    trainer.close()
    assert all(weight.isfinite().all() for weight in trainer.model.parameters())


def test_a_scaler_that_skips_every_update_ends_the_run(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in fp16 on a GPU, where a gradient overflows at any scale."""
    monkeypatch.setitem(acceleration.AUTOCAST, "fp16", None)  # products stay as they are; only the scaler is of fp16
    config = make_config(precision="fp16", num_epochs=3, log_every=5)
    trainer = Trainer.from_config(config)
    weights = dict(trainer.model.encoder.named_parameters())
    weights["backbone.embeddings.LayerNorm.weight"].register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NonFiniteLossError, match=r"step 20: trainer\.precision=fp16: no gradient .*bf16 or fp32"):
        trainer.train()

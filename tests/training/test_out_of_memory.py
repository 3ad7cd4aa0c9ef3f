"""A step that does not fit into the device's memory is made in smaller micro-batches, and the run continues."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.training.output import RunOutput
from multitask_bert.training.trainer import Trainer
from tests.saving.stopped_runs import assert_same, train_until
from tests.training.recorded import assert_same_weights

MakeConfig = Callable[..., ExperimentConfig]


TORCHS_OWN = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
OTHERS = [
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported at some other call"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
]


class SmallMemory:
    """Simulates a device: forward passes over more than `num_tokens` tokens fail as on a GPU whose memory is full."""

    def __init__(
        self, trainer: Trainer, num_tokens: int, *, in_backward: bool = False, error: RuntimeError = TORCHS_OWN
    ) -> None:
        self.num_tokens, self.num_failures, self.error = num_tokens, 0, error
        self.shapes: list[int] = []  # of training batches that fitted
        self._model, self._is_too_big = trainer.model, False
        if in_backward:  # after some gradients are there already
            weights = dict(trainer.model.encoder.named_parameters())
            norm = weights["backbone.embeddings.LayerNorm.weight"]
            norm.register_hook(lambda gradient: self._fail() if self._is_too_big else gradient)
        trainer.model.register_forward_pre_hook(lambda _, inputs: self._look(inputs[0], fail=not in_backward))

    def _look(self, batch: Any, *, fail: bool) -> None:
        self._is_too_big = batch.input_ids_BS.numel() > self.num_tokens
        if self._is_too_big and fail:
            self._fail()
        if self._model.training and not self._is_too_big:
            self.shapes.append(batch.input_ids_BS.numel())

    def _fail(self) -> None:
        self.num_failures += 1
        raise self.error


@pytest.mark.parametrize("in_backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_smaller_micro_batches_after_running_out_of_memory_learn_the_same(
    make_config: MakeConfig, layout: str, in_backward: bool
) -> None:
    config = make_config(dropout=0.0, layout=layout, max_steps=6)
    whole = Trainer.from_config(config)
    whole.train()
    trainer = Trainer.from_config(config)
    memory = SmallMemory(trainer, 30, in_backward=in_backward)
    trainer.train()
    assert memory.num_failures > 0
    assert_same_weights(whole.model.state_dict(), trainer.model.state_dict())


@pytest.mark.parametrize("error", OTHERS, ids=["cublas", "driver", "cpu"])
def test_every_kind_of_out_of_memory_error_is_recognised(make_config: MakeConfig, error: RuntimeError) -> None:
    trainer = Trainer.from_config(make_config(max_steps=3))
    memory = SmallMemory(trainer, 30, error=error)
    trainer.train()
    assert memory.num_failures > 0


def test_other_errors_of_a_forward_pass_are_raised_unchanged(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    memory = SmallMemory(trainer, 30, error=RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(RuntimeError, match="device-side assert"):
        trainer.train()
    with pytest.raises(RuntimeError, match="device-side assert"):
        trainer.evaluate()
    assert memory.num_failures == 2


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_reduced_limit_holds_for_the_rest_of_the_run(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture, num_workers: int
) -> None:
    """With dropout, too, the run is the same as one that has this limit from the start."""
    trainer = Trainer.from_config(make_config(num_workers=num_workers))
    memory = SmallMemory(trainer, 40)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    (warning,) = [record.message for record in caplog.records if record.message.startswith("step ")]
    num_tokens = int(warning.rpartition("=")[2].split()[0])
    assert max(memory.shapes) <= num_tokens <= 40
    asked = Trainer.from_config(make_config(micro_batch_tokens=num_tokens))
    asked.train()
    for name, weight in asked.model.state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], weight), name


def test_an_optimizer_that_does_not_fit_is_an_error_with_the_way_out(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TORCHS_OWN

    trainer = Trainer.from_config(make_config())
    monkeypatch.setattr(torch.optim.AdamW, "step", fail)
    with pytest.raises(InputError, match=r"out of memory: AdamW keeps numbers .*optimizer=sgd"):
        trainer.train()


def test_an_example_that_does_not_fit_alone_is_an_error_with_the_way_out(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    SmallMemory(trainer, 3)
    with pytest.raises(InputError, match=r"one example of . tokens does not fit .*gradient_checkpointing=true"):
        trainer.train()


def test_an_evaluation_out_of_memory_continues_in_smaller_batches(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    expected = trainer.evaluate()
    memory, was_training = SmallMemory(trainer, 60), trainer.model.train().training
    assert trainer.evaluate(test=False) == pytest.approx(expected, abs=1e-5)
    assert memory.num_failures > 0
    assert trainer.model.training == was_training
    num_failures = memory.num_failures
    trainer.evaluate()
    assert memory.num_failures == num_failures, "what was found out once is kept"


@pytest.mark.slow
def test_a_resumed_run_has_the_same_micro_batches_as_before(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much memory is free by then: with other micro-batches, dropout would draw other numbers."""
    config = make_config()

    def free(num_tokens: int) -> None:
        monkeypatch.setattr("multitask_bert.model.acceleration.tokens_that_fit", lambda *_, **__: num_tokens)

    free(16)
    whole = Trainer.from_config(config, RunOutput(tmp_path / "whole"))
    whole.train()
    whole.close()
    train_until(config, tmp_path / "stopped", 7)
    free(10**6)
    resumed = Trainer.from_config(replace(config, resume=True), RunOutput(tmp_path / "stopped"))
    resumed.train()
    resumed.close()
    assert_same(whole, resumed)

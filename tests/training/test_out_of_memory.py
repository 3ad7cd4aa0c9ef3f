"""A step that does not fit into a device's memory is made in smaller parts, and the run goes on."""

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
    """Stands for a device: forward passes over more places end as on a GPU whose memory is full."""

    def __init__(
        self, trainer: Trainer, num_places: int, *, in_backward: bool = False, error: RuntimeError = TORCHS_OWN
    ) -> None:
        self.num_places, self.num_failures, self.error = num_places, 0, error
        self.shapes: list[int] = []  # of training batches that fitted
        self._model, self._is_too_big = trainer.model, False
        if in_backward:  # after some gradients are there already
            weights = dict(trainer.model.encoder.named_parameters())
            norm = weights["backbone.embeddings.LayerNorm.weight"]
            norm.register_hook(lambda gradient: self._fail() if self._is_too_big else gradient)
        trainer.model.register_forward_pre_hook(lambda _, inputs: self._look(inputs[0], fail=not in_backward))

    def _look(self, batch: Any, *, fail: bool) -> None:
        self._is_too_big = batch.input_ids_BS.numel() > self.num_places
        if self._is_too_big and fail:
            self._fail()
        if self._model.training and not self._is_too_big:
            self.shapes.append(batch.input_ids_BS.numel())

    def _fail(self) -> None:
        self.num_failures += 1
        raise self.error


@pytest.mark.parametrize("in_backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_the_same_is_learnt_in_smaller_parts(make_config: MakeConfig, layout: str, in_backward: bool) -> None:
    config = make_config(dropout=0.0, layout=layout, max_steps=6)
    whole = Trainer.from_config(config)
    whole.train()
    trainer = Trainer.from_config(config)
    memory = SmallMemory(trainer, 30, in_backward=in_backward)
    trainer.train()
    assert memory.num_failures > 0
    assert_same_weights(whole.model.state_dict(), trainer.model.state_dict())


@pytest.mark.parametrize("error", OTHERS, ids=["cublas", "driver", "cpu"])
def test_memory_that_is_full_is_told_in_several_ways(make_config: MakeConfig, error: RuntimeError) -> None:
    trainer = Trainer.from_config(make_config(max_steps=3))
    memory = SmallMemory(trainer, 30, error=error)
    trainer.train()
    assert memory.num_failures > 0


def test_any_other_error_of_a_forward_pass_stays_what_it_is(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    memory = SmallMemory(trainer, 30, error=RuntimeError("CUDA error: device-side assert triggered"))
    with pytest.raises(RuntimeError, match="device-side assert"):
        trainer.train()
    with pytest.raises(RuntimeError, match="device-side assert"):
        trainer.evaluate()
    assert memory.num_failures == 2


def test_what_was_found_out_once_holds_for_the_rest_of_the_run(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    """And with dropout the run is the one that asks for such parts from the start."""
    trainer = Trainer.from_config(make_config())
    memory = SmallMemory(trainer, 40)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    (warning,) = [record.message for record in caplog.records if record.message.startswith("step ")]
    num_places = int(warning.rpartition("=")[2].split()[0])
    assert max(memory.shapes) <= num_places <= 40
    asked = Trainer.from_config(make_config(micro_batch_tokens=num_places))
    asked.train()
    for name, weight in asked.model.state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], weight), name


def test_an_optimizer_that_does_not_fit_is_told_with_the_way_out(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TORCHS_OWN

    trainer = Trainer.from_config(make_config())
    monkeypatch.setattr(torch.optim.AdamW, "step", fail)
    with pytest.raises(InputError, match=r"out of memory: AdamW keeps numbers .*optimizer=sgd"):
        trainer.train()


def test_an_example_that_does_not_fit_alone_is_told_with_the_way_out(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    SmallMemory(trainer, 3)
    with pytest.raises(InputError, match=r"one example of . places does not fit .*gradient_checkpointing=true"):
        trainer.train()


def test_an_evaluation_goes_on_in_smaller_batches(make_config: MakeConfig) -> None:
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
def test_a_run_that_goes_on_cuts_its_steps_as_it_did_before(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever memory is free by then: dropout would draw other numbers."""
    config = make_config()

    def free(num_places: int) -> None:
        monkeypatch.setattr("multitask_bert.model.acceleration.tokens_that_fit", lambda *_, **__: num_places)

    free(16)
    whole = Trainer.from_config(config, folder=tmp_path / "whole")
    whole.train()
    whole.close()
    train_until(config, tmp_path / "stopped", 7)
    free(10**6)
    resumed = Trainer.from_config(replace(config, resume=True), folder=tmp_path / "stopped")
    resumed.train()
    resumed.close()
    assert_same(whole, resumed)

"""How a step is split, packed, rounded and accelerated changes its cost, not what is learned."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.model import acceleration
from multitask_bert.model.acceleration import fit_batching, tokens_that_fit
from multitask_bert.training.loop import TrainingLoop
from multitask_bert.training.trainer import Trainer
from tests.training.recorded import assert_same_weights, recorded, weights_after_training
from tests.waiting import CountReads

MakeConfig = Callable[..., ExperimentConfig]
EXACT: dict[str, Any] = {"dropout": 0.0, "max_steps": 4, "num_epochs": 1}


@pytest.mark.slow
@pytest.mark.parametrize("update", ["task", "round"])
@pytest.mark.parametrize("options", [
    {"layout": "packed"},
    {"layout": "packed", "micro_batch_size": 3},
    {"layout": "packed", "micro_batch_tokens": 40},
    {"micro_batch_tokens": 40},
    {"micro_batch_tokens": 1},
    {"gradient_checkpointing": True},
    {"tf32": True},
], ids=lambda options: "-".join(f"{name}={value}" for name, value in options.items()))  # fmt: skip
def test_every_way_to_split_or_pack_a_step_learns_the_same(
    make_config: MakeConfig, update: str, options: dict[str, Any]
) -> None:
    plain = weights_after_training(make_config(**EXACT, update=update))
    assert_same_weights(plain, weights_after_training(make_config(**EXACT, update=update, **options)))


def test_a_round_learns_from_a_batch_of_every_task_at_once(make_config: MakeConfig, tmp_path: Any) -> None:
    trainer, recorder = recorded(make_config(update="round", layout="packed"), tmp_path)
    seen: list[set[str]] = []
    trainer.model.register_forward_pre_hook(
        lambda model, inputs: seen.append({task for task, _ in inputs[0].targets}) if model.training else None
    )
    state = trainer.train()
    assert state.num_examples == 2 * (40 + 30)
    assert state.step == len(seen) == 2 * 5  # 40 examples in batches of 8: the larger task has a batch in every round
    assert Counter(len(tasks) for tasks in seen) == {2: 8, 1: 2}
    losses = [recorder.values(f"train_{name}loss") for name in ("", "mood_", "people_")]
    assert losses[0].keys() == losses[2].keys() > losses[1].keys()
    assert all(losses[0][n] == pytest.approx(losses[1].get(n, 0.0) + losses[2][n], rel=1e-5) for n in losses[0])


def test_a_round_is_the_mean_gradient_of_each_task_added(make_config: MakeConfig) -> None:
    """One step of plain SGD on both tasks at once moves as far as one on each from the same start."""
    moves = {}
    start: dict[str, torch.Tensor] | None = None
    for tasks in ("people+mood", "people", "mood"):
        config = make_config(tasks, dropout=0.0, max_steps=1, update="round", max_grad_norm=None)
        config.mixing.when_exhausted = "cycle"  # both tasks in the first round
        config.optimizer._target_, config.optimizer.lr = "torch.optim.SGD", 0.1
        config.optimizer.weight_decay, config.scheduler.shape, config.scheduler.warmup_ratio = 0.0, "constant", 0.0
        trainer = Trainer.from_config(config)
        start = start or {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
        trainer.model.load_state_dict(start, strict=False)
        before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
        trainer.train()
        moves[tasks] = {name: trainer.model.state_dict()[name] - weight for name, weight in before.items()}
    encoder = [name for name in moves["mood"] if name.startswith("encoder")]
    for name in encoder:
        torch.testing.assert_close(
            moves["people+mood"][name], moves["mood"][name] + moves["people"][name], atol=1e-6, rtol=1e-3, msg=name
        )


@pytest.mark.parametrize("max_tokens", [1, 30, 60, 1000])
def test_with_a_budget_of_tokens_every_example_weighs_the_same(make_config: MakeConfig, max_tokens: int) -> None:
    """Each example's loss is divided by the mean number of examples in a batch."""
    trainer = Trainer.from_config(make_config("people", max_tokens=max_tokens, num_epochs=1))
    from multitask_bert.data.streaming import TrainingStream

    stream = TrainingStream(
        trainer.train_datasets, trainer.config.batching, trainer.config.mixing, num_epochs=1, pad_id=0, seed=1
    )
    steps = stream.plan(0)
    examples = [trainer.train_datasets["people"][index] for index in range(40)]
    lengths = [len(example.input_ids) for example in examples]
    for step in steps:
        (indices,) = step.values()
        assert len(indices) == 1 or max(lengths[index] for index in indices) * len(indices) <= max_tokens
    assert sorted(index for step in steps for index in step["people"]) == list(range(40))
    num_words = sum(example.targets["entities"].num_known for example in examples)
    assert stream.mean_counts() == {("people", "entities"): pytest.approx(num_words / len(steps))}


def test_small_sorted_batches_move_as_far_as_one_batch_of_all_words(make_config: MakeConfig) -> None:
    """Ten steps too small to change the gradient, each on a tenth of the examples, and ten times the step on all."""
    changes: dict[int, dict[str, torch.Tensor]] = {}
    for batch_size in (4, 40):
        config = make_config("people", dropout=0.0, num_epochs=1, batch_size=batch_size, max_grad_norm=None)
        config.optimizer._target_, config.optimizer.lr, config.optimizer.weight_decay = "torch.optim.SGD", 1e-4, 0.0
        config.scheduler.shape, config.scheduler.warmup_ratio = "constant", 0.0
        trainer = Trainer.from_config(config)
        before = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
        state = trainer.train()
        times = 10 / state.num_steps
        changes[batch_size] = {
            name: times * (trainer.model.state_dict()[name] - weight) for name, weight in before.items()
        }
    largest = max(float(change.abs().max()) for change in changes[40].values())
    for name, change in changes[40].items():
        torch.testing.assert_close(changes[4][name], change, atol=0.01 * largest, rtol=0.0, msg=name)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns_nearly_the_same_and_keeps_weights_whole(make_config: MakeConfig, precision: str) -> None:
    whole = weights_after_training(make_config(**EXACT))
    half = weights_after_training(make_config(**EXACT, precision=precision))
    assert {weight.dtype for weight in half.values() if weight.is_floating_point()} == {torch.float32}
    assert any(not torch.equal(weight, whole[name]) for name, weight in half.items())
    assert_same_weights(whole, half, atol=1e-3)


def test_the_encoder_is_compiled_where_the_config_asks_for_it(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: asked.append(options))
    Trainer.from_config(make_config())
    assert not asked
    Trainer.from_config(make_config(compile=True))
    assert asked == [{"dynamic": True}]


def test_free_memory_sets_the_size_of_micro_batches(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Trainer.from_config(make_config()).model
    cpu = torch.device("cpu")
    monkeypatch.setattr(acceleration, "_free_bytes", lambda _: 2**30)
    per_place = 2 * (34 * 32 + 5 * 2 * 32) * 2  # two layers, 32 wide, two attention heads, 32 tokens; 32 bits
    assert tokens_that_fit(model, cpu, max_length=32) == 2**16 <= 2**29 // per_place < 2**17
    monkeypatch.setattr(acceleration, "_free_bytes", lambda _: 1000)
    assert tokens_that_fit(model, cpu, max_length=32) == 32


def test_an_encoder_that_cannot_be_packed_warns_that_it_stays_padded(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer.from_config(make_config(layout="packed", max_steps=1))
    monkeypatch.setattr(trainer.model.encoder, "can_pack", False)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert "batching.layout=packed: batches for encoders of type bert stay padded" in caplog.text


def test_a_compiled_encoder_warns_that_it_stays_padded(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = Trainer.from_config(make_config(layout="packed"))
    with caplog.at_level(logging.WARNING):
        fitted = fit_batching(trainer.config.batching, trainer.model, trainer.device, is_compiled=True)
    assert fitted.layout == "padded"
    assert "with trainer.compile=true batches stay padded" in caplog.text


@pytest.mark.parametrize("options", [{}, {"update": "round", "layout": "packed"}], ids=["task", "round-packed"])
def test_no_step_reads_a_value_between_two_log_points(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    config = make_config(**options, max_steps=8, num_epochs=2, eval_every=100, log_every=100)
    config.optimizer.options = {"fused": True}  # as conf/optimizer/adamw.yaml has it
    trainer = Trainer.from_config(config)
    reads: list[int] = []
    step = TrainingLoop._step

    def counting(self: TrainingLoop, *arguments: Any) -> None:
        with CountReads() as counter:
            step(self, *arguments)
            reads.append(counter.num_reads)

    monkeypatch.setattr(TrainingLoop, "_step", counting)
    trainer.train()
    assert reads == [0] * 8
    with CountReads() as counter:
        float(torch.ones(1).sum())
    assert counter.num_reads == 1, "the test itself must see a read"
    with CountReads() as counter:
        torch.ones(3)[torch.ones(3) > 0]
    assert counter.num_reads == 1, "and a choice by mask"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_a_step_on_a_gpu_does_not_wait_for_it(
    make_config: MakeConfig, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(device="cuda", layout=layout, max_steps=8, num_epochs=2, eval_every=100, log_every=100)
    trainer = Trainer.from_config(config)
    step = TrainingLoop._step

    def strict(self: TrainingLoop, *arguments: Any) -> None:
        torch.cuda.set_sync_debug_mode("error")
        try:
            step(self, *arguments)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(TrainingLoop, "_step", strict)
    assert trainer.train().step == 8


def test_evaluation_batches_keep_to_their_budget(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config(eval_max_tokens=40))
    shapes: list[torch.Size] = []
    trainer.model.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].input_ids_BS.shape))
    scores = trainer.evaluate()
    assert all(rows == 1 or rows * columns <= 40 for rows, columns in shapes)
    lengths = [columns for _, columns in shapes]
    assert any(one < other for one, other in itertools.pairwise(lengths)), "two tasks, each from long to short"
    expected = Trainer.from_config(make_config()).evaluate()
    assert scores == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("seconds", "is_warned"), [(9.0, True), (0.4, False)])
def test_a_processor_that_is_slow_in_16_bits_gives_a_warning(
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seconds: float,
    is_warned: bool,
) -> None:
    monkeypatch.setattr(acceleration, "_seconds_of_product", lambda dtype: seconds if dtype == torch.bfloat16 else 1.0)
    with caplog.at_level(logging.WARNING):
        Trainer.from_config(make_config(precision="bf16"))
    assert ("takes 9 times as long for it as for fp32; set trainer.precision=fp32" in caplog.text) == is_warned

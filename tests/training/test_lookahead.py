"""`trainer.lookahead_every`: affinities that equal separate computations, and a run that they do not change."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from multitask_bert.config.schema import ExperimentConfig, ModelConfig, OptimizerConfig
from multitask_bert.config.without_effect import settings_without_effect
from multitask_bert.errors import InputError
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import Batch
from multitask_bert.training.lookahead import LookaheadAffinities, stepped
from multitask_bert.training.task_losses import shared_weights
from multitask_bert.training.trainer import Trainer
from tests.conftest import PACKAGED
from tests.trained_runs import logged, trained_alike

MakeConfig = Callable[..., ExperimentConfig]
SGD = OptimizerConfig(_target_="torch.optim.SGD", options={"momentum": 0.9}, weight_decay=0.5)


class OneWeight(nn.Module):
    """A model whose encoder has a single shared weight, which is 2."""

    def __init__(self) -> None:
        super().__init__()
        self.autocast = None
        self.encoder = nn.Module()
        self.encoder.backbone = nn.Module()
        self.encoder.backbone.get_input_embeddings = lambda: nn.Embedding(1, 1)
        self.encoder.shared = nn.Parameter(torch.tensor(2.0))


class OfOneWeight(LookaheadAffinities):
    """Affinities between tasks whose loss is a function of that weight."""

    def __init__(self, losses: dict[str, Callable[[Tensor], Tensor]], optimizer: OptimizerConfig = SGD) -> None:
        self.model: Any = OneWeight()
        self.datasets: Any = losses
        self.optimizer = optimizer

    def batch(self, task: str, step: int) -> Any:
        return task

    def loss(self, batch: Any) -> Tensor:
        found: Tensor = self.datasets[batch](self.model.encoder.shared)
        return found


def test_the_affinities_of_three_parabolas_are_those_computed_by_hand() -> None:
    found = OfOneWeight({"a": lambda w: w * w, "b": lambda w: (w - 3) ** 2, "c": lambda w: w * w / 4})
    weight = found.model.encoder.shared
    # At 2 the losses are 4, 1 and 1, the gradients 4, -2 and 1; a step of 0.1 leads to 1.6, 2.2 and 1.9.
    assert found.measure(1, {weight: 0.1}) == pytest.approx(
        {
            "train_lookahead_a.b": 1 - 1.4**2 / 1, "train_lookahead_a.c": 1 - 0.8**2 / 1,
            "train_lookahead_b.a": 1 - 2.2**2 / 4, "train_lookahead_b.c": 1 - 1.1**2 / 1,
            "train_lookahead_c.a": 1 - 1.9**2 / 4, "train_lookahead_c.b": 1 - 1.1**2 / 1,
        },
        rel=1e-5,
    )  # fmt: skip
    assert weight.item() == 2.0
    assert found.measure(1, {weight: 0.0}) == {}


def test_adam_makes_steps_of_its_rate_in_the_direction_of_a_single_gradient() -> None:
    found = OfOneWeight({"a": lambda w: w * w, "b": lambda w: (w - 3) ** 2}, OptimizerConfig(weight_decay=0.5))
    # At 2 the losses are 4 and 1; a step leads to 1.9 for a, to 2.1 for b, however large their gradients are.
    assert found.measure(1, {found.model.encoder.shared: 0.1}) == pytest.approx(
        {"train_lookahead_a.b": 1 - 1.1**2 / 1, "train_lookahead_b.a": 1 - 2.1**2 / 4}, rel=1e-5
    )


def test_a_task_without_a_loss_or_a_gradient_on_the_shared_weight_has_no_affinity_onto_others() -> None:
    apart = nn.Parameter(torch.tensor(1.0))
    found = OfOneWeight({"a": lambda w: w * w, "none": lambda w: 0 * w, "apart": lambda w: apart * apart})
    assert found.measure(1, {found.model.encoder.shared: 0.1}) == {"train_lookahead_a.apart": 0.0}


def affinities_of(trainer: Trainer) -> LookaheadAffinities:
    return LookaheadAffinities(
        trainer.model, trainer.train_datasets, weights=trainer.weights, batch_size=4, pad_id=trainer.pad_id, seed=1,
        device=trainer.device, optimizer=SGD,
    )  # fmt: skip


def mean_loss(model: MultiTaskModel, batch: Batch) -> Tensor:
    (output,) = model(batch).values()
    return output.loss_sum / output.count


def test_the_affinity_is_that_of_a_step_of_sgd_on_a_copy_of_the_model(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    affinities = affinities_of(trainer)
    weights = shared_weights(trainer.model)
    rates = {weight: 5.0 if weight.ndim > 1 else 10.0 for weight in weights}
    found = affinities.measure(3, rates)
    assert found.keys() == {"train_lookahead_mood.people", "train_lookahead_people.mood"}
    for source, target in (("mood", "people"), ("people", "mood")):
        model = copy.deepcopy(trainer.model).eval()
        groups = [
            {"params": [weight for weight in shared_weights(model) if (weight.ndim > 1) == is_matrix], "lr": rate}
            for is_matrix, rate in ((True, 5.0), (False, 10.0))
        ]
        before, loss = (mean_loss(model, affinities.batch(task, 3)) for task in (target, source))
        loss.backward()
        torch.optim.SGD(groups).step()
        after = mean_loss(model, affinities.batch(target, 3))
        expected = 1 - float((after / before).detach())
        assert abs(expected) > 1e-4
        assert found[f"train_lookahead_{source}.{target}"] == pytest.approx(expected, rel=1e-3)


def test_measuring_changes_nothing_and_does_not_depend_on_the_precision_of_the_run(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    trainer.model.train()
    rates = dict.fromkeys(shared_weights(trainer.model), 0.1)
    before = torch.get_rng_state(), {name: w.clone() for name, w in trainer.model.state_dict().items()}
    first = affinities_of(trainer).measure(5, rates)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(w, before[1][name]) for name, w in trainer.model.state_dict().items())
    assert all(weight.grad is None for weight in trainer.model.parameters())
    assert trainer.model.training
    trainer.model.autocast = torch.bfloat16
    torch.set_float32_matmul_precision("high")
    try:
        assert affinities_of(trainer).measure(5, rates) == first
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
    assert trainer.model.autocast is torch.bfloat16


def test_weights_and_random_state_are_restored_to_the_bit_after_an_error() -> None:
    weights = [nn.Parameter(torch.tensor([0.1, 1e-8, 3e7])), nn.Parameter(torch.tensor([0.7]))]
    old = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.SGD(weights, lr=1e-3)
    gradient = [torch.tensor([1.0, 2.0, 3.0]), None]
    rng_state = torch.get_rng_state()
    with contextlib.suppress(MemoryError), torch.no_grad(), stepped(weights, gradient, optimizer):
        assert not torch.equal(weights[0], old[0])
        assert torch.equal(weights[1], old[1])
        torch.rand(1)
        raise MemoryError
    assert all(torch.equal(weight, one) for weight, one in zip(weights, old, strict=True))
    assert all(weight.grad is None for weight in weights)
    assert torch.equal(torch.get_rng_state(), rng_state)


@pytest.mark.slow
def test_a_run_that_measures_affinities_learns_the_same_weights_and_leaves_a_page(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    measured = trained_alike(make_config, tmp_path, lookahead_every=2)
    weights = {name: load_file(tmp_path / name / "model" / "model.safetensors") for name in ("with", "without")}
    assert all(torch.equal(weight, weights["without"][name]) for name, weight in weights["with"].items())
    affinities = {line["step"]: line for line in logged(tmp_path / "with") if "train_lookahead_mood.people" in line}
    assert list(affinities) == list(range(2, measured["steps"], 2))  # after the last step the rate is 0
    assert all(line["train_lookahead_people.mood"] != 0 for line in affinities.values())
    names = {path.name for path in (tmp_path / "with").iterdir()}
    assert names >= {"affinities.html", "affinities_lookahead.png", "affinities.json"}
    assert "affinities.png" not in names


@pytest.mark.parametrize("name", ["cosines_every", "lookahead_every"])
def test_an_encoder_that_is_frozen_is_refused(make_config: MakeConfig, name: str) -> None:
    shape = {"model_type": "distilbert", "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "vocab_size": 30522}
    config = replace(
        make_config(**{name: 2}),
        model=ModelConfig(tokenizer=PACKAGED, architecture=shape, pooling="mean"),
        optimizer=OptimizerConfig(frozen_layers=2, frozen_embeddings=True),
    )
    with pytest.raises(
        InputError, match=rf"trainer\.{name}=2: .* the encoder's are frozen; .*optimizer.frozen_layers below 2"
    ):
        Trainer.from_config(config).train()


def test_a_single_task_has_no_affinities_and_a_warning_says_so(make_config: MakeConfig) -> None:
    config = make_config("mood", lookahead_every=2)
    assert list(settings_without_effect(config)) == [
        "trainer.lookahead_every=2 has no effect: it needs two tasks that have train"
    ]

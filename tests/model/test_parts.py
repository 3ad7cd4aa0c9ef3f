"""Embeddings, layers, top and heads: told apart in every family, frozen and given rates of their own."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch
from torch import nn

from multitask_bert.config.schema import HeadConfig, OptimizerConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import make_head
from multitask_bert.labels import LabelSet
from multitask_bert.model.location import check_layers
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.model.parts import freeze, parts_of
from multitask_bert.training.optimization import make_optimizer
from tests.model.tiny_encoders import SHAPES, make_encoder

LABELS = LabelSet(("bad", "good"))


def make_model(family: str = "bert", task: str = "mood", **heads: HeadConfig) -> MultiTaskModel:
    heads = heads or {"polarity": HeadConfig("classification")}
    return MultiTaskModel(make_encoder(family), {task: {name: make_head(head, LABELS) for name, head in heads.items()}})


def sizes_by_part(model: nn.Module) -> dict[str, int]:
    parts, sizes = parts_of(model), defaultdict[str, int](int)
    for name, weight in model.named_parameters():
        sizes[parts[name].name] += weight.numel()
    return dict(sizes)


def rates_by_part(model: nn.Module, config: OptimizerConfig) -> dict[str, set[float]]:
    parts, rates = parts_of(model), defaultdict[str, set[float]](set)
    rate_of = {id(w): group["lr"] for group in make_optimizer(model, config).param_groups for w in group["params"]}
    for name, weight in model.named_parameters():
        rates[parts[name].name].add(rate_of[id(weight)])
    return dict(rates)


def trained(model: nn.Module) -> set[str]:
    """The parts of which all weights are trained; none may be trained in part."""
    parts, found = parts_of(model), defaultdict[str, set[bool]](set)
    for name, weight in model.named_parameters():
        found[parts[name].name].add(weight.requires_grad)
    assert all(len(states) == 1 for states in found.values()), found
    return {part for part, states in found.items() if states == {True}}


@pytest.mark.parametrize("family", sorted(set(SHAPES) - {"albert"}))
def test_every_layer_of_every_family_is_a_part_of_its_own_size(family: str) -> None:
    model = make_model(family)
    sizes = sizes_by_part(model)
    num_layers = model.encoder.config.num_hidden_layers
    layers: Any = next(
        module for module in model.encoder.modules() if isinstance(module, nn.ModuleList) and len(module) == num_layers
    )
    for number, layer in enumerate(layers):
        assert sizes[f"layer_{number}"] == sum(weight.numel() for weight in layer.parameters())
    embedding = model.encoder.backbone.get_input_embeddings().weight.numel()  # type: ignore[operator]
    assert sizes["embeddings"] >= embedding
    assert sizes["mood.polarity"] == 32 * 2 + 2
    assert sum(sizes.values()) == sum(weight.numel() for weight in model.parameters())


def test_each_layer_learns_at_its_share_of_the_rate_above_it_and_heads_at_their_multiple() -> None:
    model = make_model("bert", polarity=HeadConfig("classification"), slow=HeadConfig("classification", lr_factor=2.0))
    rates = rates_by_part(model, OptimizerConfig(lr=1e-3, head_lr_factor=10.0, layer_decay=0.5))
    assert {part: pytest.approx(rate, rel=1e-12) for part, (rate,) in rates.items()} == {
        "top": 1e-3, "layer_3": 1e-3, "layer_2": 5e-4, "layer_1": 2.5e-4, "layer_0": 1.25e-4, "embeddings": 6.25e-5,
        "mood.polarity": 1e-2, "mood.slow": 2e-3,
    }  # fmt: skip


def test_a_task_called_like_a_layer_is_none() -> None:
    config = OptimizerConfig(lr=1e-3, head_lr_factor=10.0, layer_decay=0.5, unfreezing=[1])
    model = make_model(task="layer_9")
    assert rates_by_part(model, config)["layer_3"] == {1e-3}
    freeze(model, config, epoch=0)
    assert trained(model) == {"layer_3", "top", "layer_9.polarity"}


def test_neutral_rates_make_the_two_groups_of_matrices_and_of_the_rest() -> None:
    model = make_model()
    matrices, others = make_optimizer(model, OptimizerConfig(weight_decay=0.0)).param_groups
    weights = list(model.parameters())
    assert [id(w) for w in matrices["params"]] == [id(weight) for weight in weights if weight.ndim >= 2]
    assert [id(w) for w in others["params"]] == [id(weight) for weight in weights if weight.ndim < 2]


def test_weight_decay_can_differ_by_part_and_spares_biases_everywhere() -> None:
    model = make_model()
    config = OptimizerConfig(weight_decay=0.1, head_weight_decay=0.0, embedding_weight_decay=0.02)
    names = {id(weight): name for name, weight in model.named_parameters()}
    parts, decays = parts_of(model), defaultdict[str, set[float]](set)
    for group in make_optimizer(model, config).param_groups:
        for weight in group["params"]:
            if weight.ndim >= 2:
                decays[parts[names[id(weight)]].name].add(group["weight_decay"])
            else:
                assert group["weight_decay"] == 0.0
    assert (decays["embeddings"], decays["layer_2"], decays["mood.polarity"]) == ({0.02}, {0.1}, {0.0})


def test_frozen_layers_are_the_lowest_and_embeddings_are_frozen_on_their_own() -> None:
    model = make_model()
    freeze(model, OptimizerConfig(frozen_layers=3))
    assert trained(model) == {"embeddings", "layer_3", "top", "mood.polarity"}
    freeze(model, OptimizerConfig(frozen_embeddings=True))
    assert trained(model) == {"layer_0", "layer_1", "layer_2", "layer_3", "top", "mood.polarity"}
    freeze(model, OptimizerConfig())
    assert all(weight.requires_grad for weight in model.parameters())


@pytest.mark.parametrize("family", ["bert", "electra"])  # ELECTRA has nothing above its layers
def test_layers_are_unfrozen_from_the_top_by_epoch_and_what_is_frozen_stays_so(family: str) -> None:
    model, config = make_model(family), OptimizerConfig(unfreezing=[0, 2], frozen_layers=1)
    seen = []
    for epoch in range(3):
        freeze(model, config, epoch=epoch)
        seen.append(trained(model) - {"top", "mood.polarity"})
    assert seen == [set(), {"layer_2", "layer_3"}, {"embeddings", "layer_1", "layer_2", "layer_3"}]


@pytest.mark.parametrize(("config", "message"), [
    (OptimizerConfig(frozen_layers=5), "optimizer.frozen_layers=5: this encoder has 4 layers"),
    (OptimizerConfig(unfreezing=[2, 6]), "optimizer.unfreezing=.2, 6.: 6 top layers"),
])  # fmt: skip
def test_layers_that_an_encoder_does_not_have_are_refused(config: OptimizerConfig, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_layers(config, num_layers=4, model_type="bert")


def test_layers_that_share_weights_cannot_have_rates_of_their_own() -> None:
    every = OptimizerConfig(head_lr_factor=10.0, frozen_layers=4)
    check_layers(every, num_layers=4, model_type="albert")  # all of them, which is possible
    with pytest.raises(InputError, match="layers of albert share their weights"):
        check_layers(OptimizerConfig(layer_decay=0.9), num_layers=4, model_type="albert")


def test_uniform_heads_are_drawn_as_torch_draws_linear_layers_and_a_heads_own_choice_wins() -> None:
    heads = {
        "mood": {
            name: make_head(HeadConfig("classification", init=init), LABELS)
            for name, init in (("as_model", None), ("own", "normal"))
        }
    }
    torch.manual_seed(1)
    modules: Any = MultiTaskModel(make_encoder("bert"), heads, head_init="uniform").head_modules["mood"]
    drawn, own = modules["as_model"][-1], modules["own"][-1]
    bound = 1 / 32**0.5
    assert 0.8 * bound < drawn.weight.abs().max() <= bound
    assert drawn.bias.abs().max() > 0
    assert own.weight.abs().max() < 0.02 * 5
    assert own.bias.abs().max() == 0

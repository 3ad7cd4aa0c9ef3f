"""`trainer.cosines_every`: cosines that equal a separate computation, and a run that they do not change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.without_effect import settings_without_effect
from multitask_bert.training.gradient_cosines import GradientCosines
from multitask_bert.training.trainer import Trainer
from tests.trained_runs import logged, trained_alike

MakeConfig = Callable[..., ExperimentConfig]


def cosines_of(trainer: Trainer, **changes: Any) -> GradientCosines:
    options: dict[str, Any] = {
        "weights": trainer.weights, "batch_size": 4, "pad_id": trainer.pad_id, "seed": 1, "device": trainer.device,
    }  # fmt: skip
    return GradientCosines(trainer.model, trainer.train_datasets, **(options | changes))


def test_the_cosine_is_that_of_the_gradients_of_whole_backward_passes(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    cosines = cosines_of(trainer)
    (key,) = (found := cosines.measure(step=3))
    assert key == "train_cosine_mood.people"
    flat = {}
    for task, dataset in trainer.train_datasets.items():
        chosen = np.random.default_rng([1, 3, *task.encode()]).choice(len(dataset), 4, replace=False)  # type: ignore[arg-type]
        (batch,) = cosines._loader.make({task: chosen.tolist()})
        trainer.model.eval().zero_grad()
        (output,) = trainer.model(batch).values()
        output.loss_sum.backward()
        words = trainer.model.encoder.backbone.get_input_embeddings().weight
        reached = [
            (name, w) for name, w in trainer.model.encoder.named_parameters() if w is not words
        ]  # fmt: skip
        flat[task] = {name: w.grad.double().flatten() for name, w in reached if w.grad is not None}
    shared = sorted(flat["mood"].keys() & flat["people"].keys())
    dot = sum(float(flat["mood"][name] @ flat["people"][name]) for name in shared)
    norms = [sum(float(g @ g) for g in by_name.values()) ** 0.5 for by_name in flat.values()]
    assert found[key] == pytest.approx(dot / (norms[0] * norms[1]), rel=1e-4)


def test_the_weight_of_a_task_does_not_change_its_cosines(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    heavier = {key: 3.0 * weight for key, weight in trainer.weights.items() if key[0] == "mood"}
    weighted = cosines_of(trainer, weights={**trainer.weights, **heavier})
    assert weighted.measure(0) == pytest.approx(cosines_of(trainer).measure(0), rel=1e-4)


def test_measuring_changes_neither_random_state_nor_weights_nor_gradients(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    trainer.model.train()
    before = torch.get_rng_state(), {name: w.clone() for name, w in trainer.model.state_dict().items()}
    first = cosines_of(trainer).measure(5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(w, before[1][name]) for name, w in trainer.model.state_dict().items())
    assert all(weight.grad is None for weight in trainer.model.parameters())
    assert trainer.model.training
    assert cosines_of(trainer).measure(5) == first


@pytest.mark.slow
def test_a_run_that_measures_cosines_learns_the_same_and_leaves_a_page(make_config: MakeConfig, tmp_path: Path) -> None:
    measured = trained_alike(make_config, tmp_path, cosines_every=2)
    steps = [line["step"] for line in logged(tmp_path / "with") if "train_cosine_mood.people" in line]
    assert steps == list(range(2, measured["steps"] + 1, 2))
    names = {path.name for path in (tmp_path / "with").iterdir()}
    assert names >= {"affinities.html", "affinities.png", "affinities.json"}


def test_a_single_task_has_no_cosines_and_a_warning_says_so(make_config: MakeConfig) -> None:
    config = make_config("mood", cosines_every=2)
    assert list(settings_without_effect(config)) == [
        "trainer.cosines_every=2 has no effect: it needs two tasks that have train"
    ]


def test_while_the_whole_encoder_is_frozen_there_are_no_cosines(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    trainer.model.encoder.requires_grad_(False)
    assert cosines_of(trainer).measure(step=3) == {}

"""Training the rows in use is training all rows."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from multitask_bert.config.schema import OptimizerConfig, SchedulerConfig
from multitask_bert.model.embeddings import training_used_rows
from multitask_bert.records import EncodedExample, Example
from multitask_bert.training.optimization import Updater
from tests.model.tiny_encoders import make_batch, make_encoder

PAD, VOCABULARY = 0, 100


def make_examples(ids: range) -> list[EncodedExample]:
    draw = random.Random(1)
    return [
        EncodedExample(Example(f"t:{n}", "", {}), tuple(draw.choices(ids, k=5 + n)), (0,) * (5 + n), (), {})
        for n in range(8)
    ]


def used_by(examples: list[EncodedExample]) -> torch.Tensor:
    return torch.tensor(sorted({PAD, *(token for example in examples for token in example.input_ids)}))


def train(optimizer: OptimizerConfig, *, only_used: bool, ids: range = range(10, 40)) -> dict[str, torch.Tensor]:
    """The weights after a few steps with a look at the evaluation in between."""
    encoder = make_encoder("bert").train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    examples = make_examples(ids)
    used = used_by(examples) if only_used else torch.arange(VOCABULARY)
    with training_used_rows(encoder, used, optimizer) as rows:
        assert (rows is None) == (not only_used)
        updater = Updater(encoder, optimizer, SchedulerConfig(), num_steps=12, max_grad_norm=0.5, rows=rows)
        for step in range(12):
            encoder(make_batch(examples[step % 4 :: 2], "padded")).square().mean().backward()
            updater.clip()
            updater.step()
            if step == 6:
                other = make_batch(make_examples(range(50, 90)), "padded")
                unseen = encoder.eval()(other)
                assert unseen.isfinite().all()
                encoder.train()
    return dict(encoder.state_dict())


@pytest.mark.parametrize("optimizer", [
    OptimizerConfig(lr=1e-2, weight_decay=0.1),
    OptimizerConfig(lr=1e-2, weight_decay=0.0),
    OptimizerConfig(_target_="torch.optim.SGD", lr=0.5, weight_decay=0.0, options={"momentum": 0.9}),
])  # fmt: skip
def test_training_the_used_rows_equals_training_all(optimizer: OptimizerConfig) -> None:
    before = make_encoder("bert").state_dict()
    every, used = (train(optimizer, only_used=only_used) for only_used in (False, True))
    assert every.keys() == used.keys() == before.keys()
    for name, weight in every.items():
        assert torch.allclose(used[name], weight, atol=2e-6), name
    words = "backbone.embeddings.word_embeddings.weight"
    unused, trained = used[words][50], used[words][10:40]
    assert torch.equal(unused, before[words][50]) == (optimizer.weight_decay == 0)
    assert (trained - before[words][10:40]).abs().max() > 1e-3


def test_a_decay_inside_the_gradient_needs_all_rows() -> None:
    sgd = OptimizerConfig(_target_="torch.optim.SGD", weight_decay=0.1)
    with training_used_rows(make_encoder("bert"), used_by(make_examples(range(9))), sgd) as rows:
        assert rows is None


def test_weights_saved_and_loaded_during_training_are_those_of_an_embedding() -> None:
    encoder = make_encoder("bert")
    plain = make_encoder("bert").state_dict()
    with training_used_rows(encoder, used_by(make_examples(range(9))), OptimizerConfig()) as rows:
        assert rows is not None
        with torch.no_grad():
            rows.rows.add_(1.0)
        changed: dict[str, Any] = {name: weight.clone() for name, weight in encoder.state_dict().items()}
        assert changed.keys() == plain.keys()
        encoder.load_state_dict(plain)
        assert torch.equal(rows.rows, rows.table[rows.used])
        encoder.load_state_dict(changed)
    assert all(torch.equal(weight, changed[name]) for name, weight in encoder.state_dict().items())
    assert isinstance(encoder.backbone.get_input_embeddings(), torch.nn.Embedding)  # type: ignore[operator]

"""What heads read is the same, whether the last layer is computed for all tokens or for those alone."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from multitask_bert.model import last_layer
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.families import FAMILIES
from multitask_bert.records import Batch
from tests.model.tiny_encoders import SHAPES, make_batch, make_encoder, make_examples


def read_tokens(batch: Batch) -> Tensor:
    """Every third token of the grid that is not padding."""
    return (batch.sequence_BS.flatten() >= 0).nonzero()[::3, 0]


def gradients_of(encoder: Encoder, hidden_RH: Tensor) -> dict[str, Tensor]:
    encoder.zero_grad()
    hidden_RH.square().sum().backward()
    return {name: weight.grad.clone() for name, weight in encoder.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("family", SHAPES)
def test_states_that_are_read_and_their_gradients_equal_those_of_the_whole_layer(family: str, layout: str) -> None:
    encoder, batch = make_encoder(family), make_batch(make_examples(), layout)
    token_R = read_tokens(batch)
    whole_RH = encoder(batch).flatten(0, 1)[token_R]
    expected = gradients_of(encoder, whole_RH)
    read_RH = encoder.read(batch, token_R)
    assert torch.allclose(read_RH, whole_RH, atol=2e-6)
    found = gradients_of(encoder, read_RH)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=2e-5), name


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.after_attention])
def test_tokens_that_no_head_reads_skip_the_last_layer(family: str) -> None:
    encoder, batch = make_encoder(family), make_batch(make_examples(), "padded")
    rows: list[int] = []
    for layer in encoder.backbone.encoder.layer:  # type: ignore[union-attr]
        layer.output.register_forward_hook(lambda module, given, made: rows.append(made[..., 0].numel()))
    token_R = read_tokens(batch)
    encoder.read(batch, token_R)
    assert rows == [batch.input_ids_BS.numel()] * 3 + [len(token_R)]
    rows.clear()
    encoder(batch)
    assert rows == [batch.input_ids_BS.numel()] * 4


def test_reading_no_token_is_no_error() -> None:
    encoder, batch = make_encoder("bert"), make_batch(make_examples(), "padded")
    assert encoder.read(batch, torch.empty(0, dtype=torch.long)).shape == (0, 32)


def test_another_thread_gets_all_tokens() -> None:
    encoder, batch = make_encoder("bert"), make_batch(make_examples(), "padded")
    shapes: list[torch.Size] = []
    with last_layer.computing_only(read_tokens(batch)):
        thread = threading.Thread(target=lambda: shapes.append(encoder(batch).shape))
        thread.start()
        thread.join()
        shapes.append(encoder(batch).shape)
    assert shapes == [(10, 31, 32), (1, len(read_tokens(batch)), 32)]

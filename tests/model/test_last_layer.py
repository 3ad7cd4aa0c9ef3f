"""What heads read is the same, whether the last layer is finished for all tokens or for those alone."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from multitask_bert.model import last_layer
from multitask_bert.model.encoder import Encoder
from multitask_bert.records import Batch
from tests.model.tiny_encoders import SHAPES, make_batch, make_encoder, make_examples


def read_places(batch: Batch) -> Tensor:
    """Every third place of the grid that is no padding."""
    return (batch.example_BS.flatten() >= 0).nonzero()[::3, 0]


def gradients_of(encoder: Encoder, hidden_RH: Tensor) -> dict[str, Tensor]:
    encoder.zero_grad()
    hidden_RH.square().sum().backward()
    return {name: weight.grad.clone() for name, weight in encoder.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("family", SHAPES)
def test_what_is_read_and_its_gradients_are_those_of_the_whole(family: str, layout: str) -> None:
    encoder, batch = make_encoder(family), make_batch(make_examples(), layout)
    place_R = read_places(batch)
    whole_RH = encoder(batch).flatten(0, 1)[place_R]
    expected = gradients_of(encoder, whole_RH)
    read_RH = encoder.read(batch, place_R)
    assert torch.allclose(read_RH, whole_RH, atol=2e-6)
    found = gradients_of(encoder, read_RH)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=2e-5), name


@pytest.mark.parametrize("family", last_layer.FAMILIES)
def test_the_others_are_not_finished(family: str) -> None:
    encoder, batch = make_encoder(family), make_batch(make_examples(), "padded")
    rows: list[int] = []
    for layer in encoder.backbone.encoder.layer:  # type: ignore[union-attr]
        layer.output.register_forward_hook(lambda module, given, made: rows.append(made[..., 0].numel()))
    place_R = read_places(batch)
    encoder.read(batch, place_R)
    assert rows == [batch.input_ids_BS.numel()] * 3 + [len(place_R)]
    rows.clear()
    encoder(batch)
    assert rows == [batch.input_ids_BS.numel()] * 4


def test_nothing_to_read_is_no_error() -> None:
    encoder, batch = make_encoder("bert"), make_batch(make_examples(), "padded")
    assert encoder.read(batch, torch.empty(0, dtype=torch.long)).shape == (0, 32)


def test_a_reader_in_another_thread_is_not_disturbed() -> None:
    encoder, batch = make_encoder("bert"), make_batch(make_examples(), "padded")
    shapes: list[torch.Size] = []
    with last_layer.finishing(read_places(batch)):
        thread = threading.Thread(target=lambda: shapes.append(encoder(batch).shape))
        thread.start()
        thread.join()
        shapes.append(encoder(batch).shape)
    assert shapes == [(10, 31, 32), (1, len(read_places(batch)), 32)]

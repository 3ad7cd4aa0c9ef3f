"""Packed batches: every text alone is what it is among others in one row, for every family that can be packed."""

from __future__ import annotations

import itertools
import random
import types
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from multitask_bert.data.collation import plan_blocks
from multitask_bert.errors import InputError
from multitask_bert.model import attention
from multitask_bert.records import Batch
from tests.model.tiny_encoders import SHAPES, make_batch, make_encoder, make_examples


def by_sequence(hidden_BSH: Tensor, batch: Batch) -> list[Tensor]:
    hidden, owners = hidden_BSH.flatten(0, 1), batch.sequence_BS.flatten()
    return [hidden[owners == number] for number in range(batch.num_sequences)]


@pytest.mark.parametrize("cost", [0, 4, 1000])
@pytest.mark.parametrize("family", SHAPES)
def test_packed_sequences_equal_each_alone(family: str, cost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_blocks, "__kwdefaults__", {"cost": cost})
    encoder, examples = make_encoder(family), make_examples()
    assert encoder.can_pack
    batch = make_batch(examples, "packed")
    assert (batch.input_ids_BS.shape[0], len(batch.blocks) > 1) == (1, cost < 1000)
    assert cost or batch.input_ids_BS.numel() == batch.num_tokens
    together = by_sequence(encoder(batch), batch)
    for example, found in zip(examples, together, strict=True):
        alone = encoder(make_batch([example], "padded"))[0]
        assert torch.allclose(found, alone, atol=2e-6)


@pytest.mark.parametrize("family", SHAPES)
def test_gradients_of_packed_and_padded_are_equal(family: str) -> None:
    encoder, gradients = make_encoder(family), {}
    for layout in ("padded", "packed"):
        batch = make_batch(make_examples(), layout)
        encoder.zero_grad()
        torch.stack([hidden.square().mean() for hidden in by_sequence(encoder(batch), batch)]).mean().backward()
        gradients[layout] = {n: w.grad.clone() for n, w in encoder.named_parameters() if w.grad is not None}
    assert gradients["padded"].keys() == gradients["packed"].keys()
    for name, gradient in gradients["padded"].items():
        assert torch.allclose(gradients["packed"][name], gradient, atol=1e-6), name


@pytest.mark.parametrize("family", SHAPES)
def test_no_mask_is_made_over_a_packed_row(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would have a place for each pair of tokens of all texts."""
    masks: list[Any] = []
    encoder = make_encoder(family)
    monkeypatch.setattr(attention, "sdpa_mask", lambda *rest, **options: masks.append(options))
    encoder(make_batch(make_examples(), "packed"))
    assert masks == []


def test_dropout_of_attention_is_drawn_in_packed_batches_too() -> None:
    encoder = make_encoder("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5)
    batch = make_batch(make_examples(), "packed")
    torch.manual_seed(1)
    first = encoder.train()(batch)
    assert not torch.allclose(first, encoder(batch))
    torch.manual_seed(1)
    assert torch.equal(first, encoder(batch))


def reference_varlen(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, *rest: Any, **options: Any) -> Tensor:
    """What `varlen_attn` is documented to do, run by run, for (tokens, attention heads, width)."""
    same_ends, longest_q, longest_k = rest
    assert torch.equal(ends, same_ends)
    assert ends.dtype == torch.int32
    assert (longest_q, longest_k) == (int(ends.diff().max()),) * 2
    left, right = options["window_size"]
    attended = []
    for begin, end in itertools.pairwise(ends.tolist()):
        distance = torch.arange(end - begin) - torch.arange(end - begin)[:, None]  # of a key from a query
        far = ((distance < -left) & (left >= 0)) | ((distance > right) & (right >= 0))
        scores = torch.einsum("qhd,khd->hqk", q[begin:end], k[begin:end]) * options["scale"]
        weights = scores.masked_fill(far, -torch.inf).softmax(-1)
        attended.append(torch.einsum("hqk,khd->qhd", weights, v[begin:end]))
    return torch.cat(attended)


@pytest.mark.parametrize("cost", [0, 4, 1000])
@pytest.mark.parametrize("family", SHAPES)
def test_variable_length_attention_sees_each_text_alone(
    family: str, cost: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_blocks, "__kwdefaults__", {"cost": cost})
    encoder, batch = make_encoder(family), make_batch(make_examples(), "packed")
    in_blocks = by_sequence(encoder(batch), batch)
    monkeypatch.setattr(attention, "has_varlen", lambda query, rate: True)
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", reference_varlen)
    for found, expected in zip(by_sequence(encoder(batch), batch), in_blocks, strict=True):
        assert torch.allclose(found, expected, atol=2e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("family", SHAPES)
def test_variable_length_attention_on_cuda_is_near_to_full_precision(family: str) -> None:
    encoder, batch = make_encoder(family), make_batch(make_examples(), "packed")
    whole = by_sequence(encoder(batch), batch)
    encoder, moved = encoder.to("cuda"), batch.to("cuda")
    with torch.autocast("cuda", torch.bfloat16):
        half = by_sequence(encoder(moved).float().cpu(), batch)
    for found, expected in zip(half, whole, strict=True):
        assert torch.allclose(found, expected, atol=0.05)


def test_variable_length_attention_is_used_only_for_what_it_supports(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not attention.has_varlen(torch.zeros(1, dtype=torch.bfloat16), 0.0)  # not on CUDA
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0) if device.index == 0 else (7, 5))
    on_cuda = types.SimpleNamespace(device=torch.device("cuda:0"), dtype=torch.bfloat16, shape=(1, 12, 9, 64))
    assert attention.has_varlen(on_cuda, 0.0)  # type: ignore[arg-type]
    assert not attention.has_varlen(on_cuda, 0.1)  # type: ignore[arg-type]
    on_cuda.dtype = torch.float32
    assert not attention.has_varlen(on_cuda, 0.0)  # type: ignore[arg-type]


def test_deberta_cannot_be_packed() -> None:
    assert not make_encoder("deberta-v2", pos_att_type=["p2c", "c2p"], relative_attention=True).can_pack


def test_an_encoder_that_loses_the_layout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_encoder("bert")
    monkeypatch.setattr(encoder.backbone.config, "_attn_implementation", "eager")
    with pytest.raises(InputError, match=r"batching\.layout=packed: bert does not pass .* set batching=padded"):
        encoder(make_batch(make_examples(), "packed"))


def test_sliding_windows_reach_as_far_as_the_family_says() -> None:
    layout = attention.Layout(make_batch(make_examples([9, 9]), "packed"))
    (mask,) = layout.masks(3, torch.device("cpu"))
    assert mask is not None
    assert mask[0].nonzero().flatten().tolist() == [0, 1, 2]
    assert layout.masks(9, torch.device("cpu")) == layout.masks(None, torch.device("cpu")) == [None]


# Blocks


def brute_force(lengths: Sequence[int], cost: int) -> float:
    """The least tokens over all cuts of the sorted lengths."""
    ordered = sorted(lengths)
    if not ordered:
        return 0.0
    return min(
        brute_force(ordered[:start], cost) + max(ordered[start:]) * len(ordered[start:]) + cost
        for start in range(len(ordered))
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("cost", [0, 4, 9])
def test_blocks_are_the_cheapest_grouping_and_hold_every_sequence_once(seed: int, cost: int) -> None:
    draw = random.Random(seed)
    lengths = [draw.randint(1, 30) for _ in range(draw.randint(1, 9))]
    blocks = plan_blocks(lengths, cost=cost)
    assert sorted(place for members, _ in blocks for place in members) == list(range(len(lengths)))
    assert all(width == max(lengths[place] for place in members) for members, width in blocks)
    assert sum(len(members) * width + cost for members, width in blocks) == brute_force(lengths, cost)

"""Dropout on a CPU: the right share, the right mean, the right gradient, fixed by the seed."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from multitask_bert.model.attention import attend
from multitask_bert.model.dropout import CpuDropout, dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_of_dropped_elements_is_the_rate(rate: float) -> None:
    torch.manual_seed(0)
    num = 1_000_000
    dropped = (dropout(torch.ones(num), rate) == 0).float().mean().item()
    standard_error = (rate * (1 - rate) / num) ** 0.5
    assert abs(dropped - rate) < 4 * standard_error + 1 / 65536


def test_neighbours_are_dropped_independently() -> None:
    torch.manual_seed(0)
    is_dropped = dropout(torch.ones(400_000, 4), 0.3) == 0  # four elements share one random integer
    covariance = torch.cov(is_dropped.T.float())
    assert covariance.fill_diagonal_(0).abs().max() < 4 * 0.21 / 400_000**0.5


def test_kept_elements_are_scaled_so_that_the_mean_stays() -> None:
    torch.manual_seed(0)
    kept = dropout(torch.full((999,), 2.0), 0.25)
    assert kept.unique().tolist() == [0.0, pytest.approx(2.0 / 0.75, rel=1e-4)]


def test_gradient_is_zero_where_dropped_and_scaled_where_kept() -> None:
    torch.manual_seed(0)
    values = torch.randn(50, requires_grad=True)
    result = dropout(values, 0.4)
    result.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, torch.where(result == 0, 0.0, values.grad.max()))
    assert values.grad.max().item() == pytest.approx(1 / 0.6, rel=1e-4)


def test_the_seed_fixes_what_is_dropped() -> None:
    def draw(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return dropout(torch.ones(1000), 0.5)

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_rates_of_nought_and_one_are_exact(rate: float) -> None:
    assert torch.equal(dropout(torch.ones(5), rate), torch.full((5,), 1.0 - rate))


def test_nothing_is_dropped_outside_training() -> None:
    layer = CpuDropout(0.5).eval()
    assert torch.equal(layer(torch.ones(9)), torch.ones(9))


def test_attention_with_next_to_no_dropout_equals_torchs_own() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4) for _ in range(3))
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[1, :, :, 3:] = False
    ours, _ = attend(torch.nn.Module(), query, key, value, mask, dropout=1e-6)  # rounds to no dropped level
    theirs = scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)

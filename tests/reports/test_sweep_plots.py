"""What the plots of a sweep are drawn from: ticks, labels, the surface between the trials."""

from __future__ import annotations

import numpy as np
import pytest

from multitask_bert.reports.sweep import read_sweep
from multitask_bert.reports.sweep_axes import drawable
from multitask_bert.reports.sweep_slices import _log_ticks, _pair, _surface
from tests.reports.sweep_studies import (
    LR,
    WARMUP,
    busy_study,
    make_study,
    make_trial,
)


def test_the_contour_is_of_learning_rate_by_warmup_else_of_two_numbers_that_varied() -> None:
    pair = _pair(read_sweep(busy_study()))
    assert pair is not None
    assert [parameter.name for parameter in pair] == [WARMUP, LR]
    other = make_study()
    other.add_trials(
        [
            make_trial(number, params={LR: 1e-4, WARMUP: 0.01 * number, "adapter.rank": 4 + number})
            for number in range(3)
        ]
    )
    pair = _pair(read_sweep(other))
    assert pair is not None
    assert {parameter.name for parameter in pair} == {WARMUP, "adapter.rank"}
    other = make_study()
    other.add_trials([make_trial(number, params={WARMUP: 0.01 * number}) for number in range(3)])
    assert _pair(read_sweep(other)) is None


def test_the_surface_between_points_of_a_plane_is_the_plane() -> None:
    points = np.array([[(7 * number) % 11, (5 * number) % 13] for number in range(40)], dtype=float)
    surface = _surface(points, 2 * points[:, 0] - 3 * points[:, 1])
    assert surface is not None
    x, y, heights = surface
    expected = 2 * x[None, :] - 3 * y[:, None]
    assert heights.count() > 0
    np.testing.assert_allclose(heights.compressed(), expected[~heights.mask], atol=1e-9)


def test_points_on_a_line_have_no_surface() -> None:
    line = np.array([[number, 2 * number] for number in range(20)], dtype=float)
    assert _surface(line, line[:, 0]) is None


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1e-5, 5e-4, [1e-5, 3e-5, 1e-4, 3e-4]),
        (8, 64, [10, 20, 50]),
        (1e-6, 1e-1, [1e-6, 1e-4, 1e-2]),
        (3e-5, 4e-5, [3e-5, 4e-5]),
    ],
)
def test_logarithmic_ticks_are_few_and_round(low: float, high: float, ticks: list[float]) -> None:
    assert _log_ticks(low, high) == pytest.approx(ticks)


def test_text_in_a_plot_is_one_short_line_of_letters_that_the_font_has() -> None:
    assert drawable("a\n$b$ 中") == r"a \$b\$ □"
    assert drawable("z" * 400) == "z" * 29 + "…"
    assert drawable("\x1b[31m\u202e") == r"\x1b[31m\u202e"

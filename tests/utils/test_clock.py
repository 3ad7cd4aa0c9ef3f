"""Durations."""

from __future__ import annotations

import time

import pytest

from multitask_bert.utils.clock import rough_duration, seconds_since


def test_a_duration_is_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 5.0)
    monkeypatch.setattr(time, "time", lambda: -1e9)
    assert [seconds_since(start) for start in (3.5, 5.0, 7.0)] == [1.5, 0.0, 0.0]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (36_000, "10.0 h")],
)
def test_an_estimate_is_told_in_one_unit(seconds: float, shown: str) -> None:
    assert rough_duration(seconds) == shown

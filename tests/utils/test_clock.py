"""Durations."""

from __future__ import annotations

import time

import pytest

from multitask_bert.utils.clock import seconds_since


def test_a_duration_is_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: 5.0)
    monkeypatch.setattr(time, "time", lambda: -1e9)
    assert [seconds_since(start) for start in (3.5, 5.0, 7.0)] == [1.5, 0.0, 0.0]

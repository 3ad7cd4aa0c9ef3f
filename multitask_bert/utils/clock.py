"""Elapsed time, by a clock that is never set back."""

from __future__ import annotations

import time


def seconds_since(start: float) -> float:
    """Seconds since `start`, a value of `time.perf_counter`; never negative."""
    return max(0.0, time.perf_counter() - start)

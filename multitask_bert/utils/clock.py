"""Elapsed time, by a clock that is never set back."""

from __future__ import annotations

import time


def seconds_since(start: float) -> float:
    """Seconds since `start`, a value of `time.perf_counter`; never negative."""
    return max(0.0, time.perf_counter() - start)


def rough_duration(seconds: float) -> str:
    """`40 s`, `12 min`, `1.6 h`: of an estimate, from which more digits cannot be read."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"

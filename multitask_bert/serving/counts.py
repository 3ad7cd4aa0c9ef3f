"""Counts: how many requests were answered, how, and how long they took, for a monitoring system to fetch."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # of the histogram, in seconds


class Counts:
    """Of one server, since it started."""

    def __init__(self) -> None:
        self.by_status: Counter[int] = Counter()
        self.by_bound = [0] * (len(BOUNDS) + 1)  # requests by the smallest bound that they are within, or none
        self.seconds = 0.0
        self.num_inputs = 0

    def add(self, status: int, seconds: float) -> None:
        """Count a request that was answered with this status after so many seconds."""
        self.by_status[status] += 1
        self.by_bound[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def text(self, *, num_batches: int, num_waiting: int) -> str:
        """All counts in the text format of Prometheus (exposition format 0.0.4)."""
        lines = ["# TYPE multitask_bert_requests_total counter"]
        lines += [
            f'multitask_bert_requests_total{{status="{status}"}} {count}'
            for status, count in sorted(self.by_status.items())
        ]
        lines.append("# TYPE multitask_bert_request_seconds histogram")
        total = 0
        for bound, count in zip((*BOUNDS, "+Inf"), self.by_bound, strict=True):
            total += count
            lines.append(f'multitask_bert_request_seconds_bucket{{le="{bound}"}} {total}')
        lines += [
            f"multitask_bert_request_seconds_sum {self.seconds:.6f}",
            f"multitask_bert_request_seconds_count {total}",
        ]
        for name, kind, value in (
            ("inputs_total", "counter", self.num_inputs),
            ("batches_total", "counter", num_batches),
            ("inputs_waiting", "gauge", num_waiting),
        ):
            lines += [f"# TYPE multitask_bert_{name} {kind}", f"multitask_bert_{name} {value}"]
        return "\n".join(lines) + "\n"

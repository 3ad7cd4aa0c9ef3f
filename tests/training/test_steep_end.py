"""Runs that end while their score rises fast get advice; others do not."""

from __future__ import annotations

import math

from multitask_bert.training.steep_end import advice_on_steep_end


def test_a_run_that_ends_while_its_score_rises_steeply_gets_advice() -> None:
    assert advice_on_steep_end([0.1, 0.3, 0.34]) is not None
    assert "by 4.0 points" in str(advice_on_steep_end([0.1, 0.3, 0.34]))
    for scores in ([0.1, 0.3, 0.305], [0.3, 0.1, 0.34], [0.5], [], [0.5, 0.5, 0.9], [0.1, math.nan, 0.9]):
        assert advice_on_steep_end(scores) is None

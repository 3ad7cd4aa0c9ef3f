"""`python slow_sweep.py SECONDS ARGUMENTS`: a sweep whose fake trainings take so long, for tests that kill it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from multitask_bert import actions
from tests.sweeps.support import FakeTraining, near

if __name__ == "__main__":
    seconds = float(sys.argv.pop(1))

    def slow(config, step):  # type: ignore[no-untyped-def]
        time.sleep(seconds / 3)
        return near(1e-4)(config, step)

    actions.train = FakeTraining(slow)  # type: ignore[assignment]
    from tests.composing import run_line

    run_line(*sys.argv[1:])

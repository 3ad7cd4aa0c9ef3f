"""A callback of Hydra that fakes the training in worker processes, too."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from tests.sweeps.support import FakeTraining, near


class UseFakeTraining(Callback):
    """`dies`: the process of trial 1 kills itself during its training."""

    def __init__(self, dies: bool = False) -> None:
        self.dies = dies

    def on_job_start(self, config: Any, **kwargs: Any) -> None:
        from multitask_bert import actions

        def score(config: Any, step: int) -> float:
            if self.dies and os.environ["MULTITASK_BERT_TRIAL"] == "1" and step == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            Path("threads").write_text(os.environ.get("OMP_NUM_THREADS", ""), encoding="utf-8")
            return near(1e-4)(config, step)

        actions.train = FakeTraining(score)  # type: ignore[assignment]

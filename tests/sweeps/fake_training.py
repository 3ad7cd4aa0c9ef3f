"""Callbacks of Hydra that fake the training in worker processes, or disturb it there."""

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


class DisturbRanks(Callback):
    """Of trials with two processes each, trial 1 is pruned at its first evaluation, rank 1 of trial 2 meets an error
    there, and that of trial 3 kills itself."""

    def on_job_start(self, config: Any, **kwargs: Any) -> None:
        from optuna.trial import Trial

        from multitask_bert import actions

        trial, train = os.environ["MULTITASK_BERT_TRIAL"], actions.train

        def train_disturbed(config: Any, folder: Path, watcher: Any) -> float:
            def watch(*arguments: Any) -> bool:
                if os.environ["RANK"] == "1" and trial == "2":
                    raise ValueError("no luck")
                if os.environ["RANK"] == "1" and trial == "3":
                    os.kill(os.getpid(), signal.SIGKILL)
                return bool(watcher(*arguments))

            return train(config, folder, watch)

        actions.train = train_disturbed  # type: ignore[assignment]
        Trial.should_prune = lambda self: trial == "1"  # type: ignore[method-assign]

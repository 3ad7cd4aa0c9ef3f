"""A run in a process of its own that kills itself with SIGKILL at a randomly chosen function call."""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.saving.best_model import BestModel
from multitask_bert.saving.store import CheckpointStore
from multitask_bert.tracking.reporter import Reporter
from multitask_bert.training import provenance, run_files
from multitask_bert.training.loop import TrainingLoop
from multitask_bert.training.run import run_training
from multitask_bert.training.trainer import Trainer

# The phases of a run, and the functions that each consists of.
PHASES: dict[str, list[tuple[Any, str]]] = {
    "training": [(TrainingLoop, "_step")],
    "evaluating": [(Trainer, "evaluate")],
    "saving": [(CheckpointStore, "write"), (BestModel, "save")],
    "logging": [(Reporter, "log")],
    "publishing": [
        (BestModel, "publish"), (run_files, "write_results"), (provenance, "write_end"), (CheckpointStore, "remove"),
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Blow:
    """When to send a signal: in the `call`-th call (from 1) of a phase in this process, after a share of that call."""

    phase: str
    call: int
    share: float  # of the mean number of function calls within one call of the phase
    name: str = "SIGKILL"


def run(config: ExperimentConfig, folder: Path, blow: Blow | None, mean_events: dict[str, int], told: Any) -> None:
    """Train, evaluate, publish. Sends through the pipe `told` the phase in which it is about to be killed; without a
    `blow`, the number of calls of each phase, and of function calls within them."""
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    struck = Struck(blow, mean_events, told)
    for phase, functions in PHASES.items():
        for owner, name in functions:
            setattr(owner, name, struck.wrapped(phase, getattr(owner, name)))
    run_training(config, folder, tags={})
    if blow is None:
        told.send((dict(struck.num_calls), dict(struck.num_events)))


class Struck:
    """Counts calls of phases, and function calls within them; sends the signal when the time of the blow has come."""

    def __init__(self, blow: Blow | None, mean_events: dict[str, int], told: Any) -> None:
        self.blow, self.told = blow, told
        self.num_calls: Counter[str] = Counter()
        self.num_events: Counter[str] = Counter()
        self._num_counted = 0
        self._strikes_at = None if blow is None else 1 + int(blow.share * mean_events[blow.phase])

    def wrapped(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any, **options: Any) -> Any:
            self.num_calls[phase] += 1
            blow = self.blow
            if blow is not None and (phase, self.num_calls[phase]) != (blow.phase, blow.call):
                return function(*values, **options)
            before, num_before = sys.getprofile(), self._num_counted  # phases lie within each other
            sys.setprofile(self._count)
            try:
                return function(*values, **options)
            finally:
                if blow is not None:
                    self._strike()  # if there were fewer function calls than usual
                sys.setprofile(before)
                self.num_events[phase] += self._num_counted - num_before

        return call

    def _count(self, frame: Any, event: str, argument: Any) -> None:
        self._num_counted += 1
        if self._num_counted == self._strikes_at:
            self._strike()

    def _strike(self) -> None:
        blow, self.blow = self.blow, None
        if blow is not None:
            sys.setprofile(None)
            self.told.send(blow.phase)
            os.kill(os.getpid(), getattr(signal, blow.name))

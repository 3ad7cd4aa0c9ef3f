"""Where a run stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class TrainState:
    """Counts since the start of the run."""

    step: int = 0  # optimizer updates
    epoch: int = 0  # finished ones
    epoch_progress: float = 0.0  # share (0 to 1) of the current epoch's steps that is done
    num_steps: int = 0  # updates that the whole run will make
    num_skipped: int = 0  # steps among them that were left out, since their loss was no number
    skipped_in_a_row: int = 0  # just now
    num_examples: int = 0  # seen in training
    num_tokens: int = 0  # seen in training; real ones, without padding
    train_seconds: float = 0.0  # wall time in training, without evaluations
    best_score: float | None = None  # of trainer.metric_for_best
    best_step: int = 0
    best_epoch: float = 0.0  # epochs at the best step, with fractions
    best_metrics: dict[str, float] = field(default_factory=dict)
    best_weights: str = "plain"  # plain | average: which of the two are the best
    best_by_head: dict[str, dict[str, float]] = field(default_factory=dict)  # by task.head: best headline and its step
    evaluations_since_best: int = 0
    num_evaluations: int = 0
    num_collapses: dict[str, int] = field(default_factory=dict)  # evaluations at which a head had learnt nothing
    score_history: list[float] = field(default_factory=list)  # of trainer.metric_for_best, one per evaluation
    is_evaluation_due: bool = False  # after this step; a run that is stopped over it makes it when it goes on
    stopped_early: bool = False
    pruned: bool = False  # ended by its sweep, since others do better

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.train_seconds if self.train_seconds else 0.0


OF_BEST = ("best_score", "best_step", "best_epoch", "best_metrics", "best_weights", "evaluations_since_best")


def without_best(state: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a state, as if nothing had been evaluated yet."""
    new = asdict(TrainState())
    return {name: new[name] if name in OF_BEST else value for name, value in state.items()}

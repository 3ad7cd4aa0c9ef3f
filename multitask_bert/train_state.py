"""How far a run is: counts, the best score so far, why it ended. Saved in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class TrainState:
    """How far a run is, counted from its start."""

    step: int = 0  # optimizer updates
    epoch: int = 0  # finished epochs
    epoch_progress: float = 0.0  # share (0 to 1) of the current epoch's steps that is done
    num_steps: int = 0  # updates that the whole run will make
    num_skipped: int = 0  # skipped steps among them, whose loss was not finite
    skipped_in_a_row: int = 0  # the last steps, if they were all skipped
    num_examples: int = 0  # seen in training
    num_tokens: int = 0  # seen in training, without padding
    train_seconds: float = 0.0  # wall time in training, without evaluations
    best_score: float | None = None  # of trainer.metric_for_best
    best_step: int = 0
    best_epoch: float = 0.0  # epochs at the best step, with fractions
    best_metrics: dict[str, float] = field(default_factory=dict)
    best_weights: str = "plain"  # plain | average: which weights the best model has
    best_by_head: dict[str, dict[str, float]] = field(default_factory=dict)  # by task.head: best headline and its step
    evaluations_since_best: int = 0
    num_evaluations: int = 0
    num_collapses: dict[str, int] = field(default_factory=dict)  # by task.head: evaluations with nothing learned
    score_history: list[float] = field(default_factory=list)  # of trainer.metric_for_best, one per evaluation
    is_evaluation_due: bool = False  # after this step; a run that was stopped during it evaluates when it is resumed
    stopped_early: bool = False
    pruned: bool = False  # ended by its sweep, since other trials do better

    @property
    def tokens_per_second(self) -> float:
        return self.num_tokens / self.train_seconds if self.train_seconds else 0.0


BEST_FIELDS = ("best_score", "best_step", "best_epoch", "best_metrics", "best_weights", "evaluations_since_best")


def without_best(state: Mapping[str, Any]) -> dict[str, Any]:
    """A saved state with the fields of the best model as at the start of a run."""
    new = asdict(TrainState())
    return {name: new[name] if name in BEST_FIELDS else value for name, value in state.items()}

"""What a training costs: its work, which is counted, and the speed at which a machine does it, which is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """What one whole training does."""

    num_steps: int  # optimizer updates
    num_tokens: int  # learnt from in all steps, without padding
    num_evaluations: int  # on dev
    num_dev_tokens: int  # of one evaluation on dev
    num_test_tokens: int  # of the evaluation on test after the last step


@dataclass(frozen=True)
class Speed:
    """How fast one machine does it; tokens without padding."""

    tokens_per_second: float  # in training
    eval_tokens_per_second: float
    num_steps: int  # that were measured

    def seconds(self, work: Work) -> float:
        """How long a whole training takes, without loading."""
        num_eval_tokens = work.num_evaluations * work.num_dev_tokens + work.num_test_tokens
        return work.num_tokens / self.tokens_per_second + num_eval_tokens / self.eval_tokens_per_second

"""The cost of a training: its work, which is counted, and a machine's speed, which is measured."""

from __future__ import annotations

from dataclasses import dataclass

EVALUATION_SPEEDUP = 3  # of evaluating over training, per token, as a first guess: it has no backward pass


@dataclass(frozen=True)
class Work:
    """The work of one whole training."""

    num_steps: int  # optimizer updates
    num_tokens: int  # learned from in all steps, without padding
    num_dev_passes: int  # one per evaluation, two where an average of the weights is evaluated, too
    num_dev_tokens: int  # of one pass
    num_test_tokens: int  # of the evaluation on test after the last step


@dataclass(frozen=True)
class Speed:
    """The measured speed of one machine; tokens without padding."""

    tokens_per_second: float  # in training
    eval_tokens_per_second: float
    num_steps: int  # that were measured

    def seconds(self, work: Work) -> float:
        """The time of a whole training, without loading."""
        num_eval_tokens = work.num_dev_passes * work.num_dev_tokens + work.num_test_tokens
        return work.num_tokens / self.tokens_per_second + num_eval_tokens / self.eval_tokens_per_second

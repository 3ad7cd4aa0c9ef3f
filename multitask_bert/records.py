"""The nouns that travel from file to score.

Legend of shapes, used as suffixes everywhere:
    B rows of a batch, S tokens per row, H hidden width, N examples in the batch,
    M targets of one head in the batch (one per example, or one per word), L labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = -100  # the id of a target that is missing: it counts neither in a loss nor in a score


@dataclass(frozen=True, slots=True)
class Example:
    """One record of a task as its file has it."""

    where: str  # file and line, as in "train.txt:418"
    text: str  # the text, or the words joined by spaces
    labels: Mapping[str, Any]  # by head: a name, or a tuple of tags; None where the label is missing
    text_pair: str | None = None  # the second text, where there are two
    words: tuple[str, ...] | None = None  # where the file has words rather than text


@dataclass(frozen=True, slots=True)
class Target:
    """What one head has to predict for one example: a value at each anchor."""

    anchors: tuple[int, ...]  # positions in input_ids from which the head reads
    values: tuple[int, ...]  # class ids; UNKNOWN where the label is missing


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One example as word pieces, with a target per head."""

    example: Example
    input_ids: tuple[int, ...]  # special tokens included
    token_type_ids: tuple[int, ...]  # 0 for the first text, 1 for the second
    word_starts: tuple[int, ...]  # position of each word's first piece, -1 where it has none; empty for a text
    targets: Mapping[str, Target]  # by head
    is_cut: bool = False  # some pieces did not fit in max_length


@dataclass(slots=True)
class TargetBatch:
    """The targets of one head for a batch."""

    anchor_M: Tensor  # index into the B*S grid, read row by row
    example_M: Tensor  # which of the N examples the target belongs to
    value_M: Tensor  # class ids; UNKNOWN where the label is missing
    num_known: int  # targets that count in the loss


@dataclass(slots=True)
class Batch:
    """Examples of one or several tasks that go through the encoder together.

    `example_BS` holds the number (0 to N-1) of the example that owns each token and -1 on padding; who may attend to
    whom follows from it.
    """

    input_ids_BS: Tensor
    position_BS: Tensor  # place of the token in its own example, from 0
    token_type_BS: Tensor
    example_BS: Tensor
    num_examples: int
    num_tokens: int  # real ones, without padding
    targets: dict[tuple[str, str], TargetBatch]  # by (task, head)

    def to(self, device: Any) -> Batch:
        """The same batch on another device."""
        move = {"device": device, "non_blocking": True}
        return Batch(
            self.input_ids_BS.to(**move),
            self.position_BS.to(**move),
            self.token_type_BS.to(**move),
            self.example_BS.to(**move),
            self.num_examples,
            self.num_tokens,
            {
                key: TargetBatch(t.anchor_M.to(**move), t.example_M.to(**move), t.value_M.to(**move), t.num_known)
                for key, t in self.targets.items()
            },
        )


@dataclass(slots=True)
class HeadOutput:
    """What a head makes of a batch. The loss is a sum and a count: the division happens once per step."""

    logits_ML: Tensor
    loss_sum: Tensor  # scalar, over known targets
    count: int  # known targets


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a head says of one example."""

    value: Any  # a label's name, or a tuple of tags, one per word of the example
    scores: tuple[float, ...] = ()  # probabilities in the order of the head's labels, where the head gives them

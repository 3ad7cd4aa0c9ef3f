"""The records that travel from file to score.

Legend of shapes, used as suffixes everywhere:
    B rows of a batch, S tokens per row, H hidden width, N sequences in the batch (token sequences that attend to
    themselves only: one per example, or one per choice or window of an example), M targets of one head in the batch
    (one per example, per word, per choice, or per token at which an answer may begin or end), R tokens of the batch
    that any head reads, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from multitask_bert.utils.bootstrap import Counts

UNKNOWN = -100  # the id of a missing label: it counts neither in a loss nor in a score
CONTINUES_WORD = -2  # in `word_starts`: this part of a word takes its tag from the part before it
POOLED = "pooled"  # `task.pooled`: the scores of the task's heads over all tasks that share them
Offset = tuple[int, int]  # begin and end in characters; (-1, -1): nowhere in the text


@dataclass(frozen=True, slots=True)
class Example:
    """One record of a task as its file has it."""

    where: str  # file and line, as in "train.txt:418"
    text: str  # the text, or the words joined by spaces
    labels: Mapping[str, Any]  # by head, as `Head.parse` gives them; None where the label is missing
    text_pair: str | None = None  # the second text, where there are two (for `span`: the context of a question)
    words: tuple[str, ...] | None = None  # where the file has words rather than text
    word_offsets: tuple[Offset, ...] | None = None  # of each word, where words were split from a text
    choices: tuple[str, ...] | None = None  # second texts to choose from, each with a sequence of its own
    spans: Mapping[str, tuple[Offset, ...]] | None = None  # of entities given by characters, by head

    @property
    def input_type(self) -> str:
        """`text`, `pair` or `choices`: which inputs a head can predict for that learned from such examples."""
        if self.choices is not None:
            return "choices"
        return "text" if self.text_pair is None else "pair"


@dataclass(frozen=True, slots=True)
class Target:
    """What one head has to predict for one example: a value at each of some tokens."""

    token_indices: tuple[int, ...]  # into `input_ids`: the tokens from which the head reads
    values: tuple[Any, ...]  # one per token: a class id (UNKNOWN if missing), a number or a tuple of numbers (NaN)
    num_known: int  # labels that are not missing: what the loss of this example is divided by


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text, or a window of it, after tokenization, with special tokens."""

    input_ids: tuple[int, ...]
    token_type_ids: tuple[int, ...]  # 0 for the first text, 1 for the second
    offsets: tuple[Offset, ...]  # of each token, in its own text
    is_second_text: tuple[bool, ...]  # whether a token belongs to the second text
    word_starts: tuple[int, ...] = ()  # index of each word's first token; -1: it has none; or CONTINUES_WORD
    sequence_starts: tuple[int, ...] = (0,)  # index of the first token of each sequence: of each choice, each window
    second_text: str | None = None  # the text that the second text's offsets refer to, where a head reads windows


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """The tokens of one example, or of a window of it, with a target per head."""

    example: Example
    input_ids: tuple[int, ...]  # special tokens included
    token_type_ids: tuple[int, ...]  # 0 for the first text, 1 for the second
    word_starts: tuple[int, ...]  # as in `Tokens`; empty for a text without words
    targets: Mapping[str, Target]  # by head
    is_truncated: bool = False  # some tokens did not fit in max_length
    sequence_starts: tuple[int, ...] = (0,)  # index of each sequence's first token: several for choices and windows
    offsets: tuple[Offset, ...] = ()  # of each token in characters, where a head needs them to decode

    @property
    def is_in_windows(self) -> bool:
        """Whether its sequences are windows of a long text."""
        return len(self.sequence_starts) > 1 and self.example.choices is None


@dataclass(slots=True)
class TargetBatch:
    """The targets of one head for a batch."""

    token_M: Tensor  # index into the B*S grid of tokens, row by row
    sequence_M: Tensor  # which of the N sequences the target belongs to
    example_M: Tensor  # which of the batch's examples it belongs to: equals sequence_M, except for choices and windows
    value_M: Tensor  # class ids (UNKNOWN where missing), numbers, or rows of numbers (NaN where missing)
    num_known: int  # labels that are not missing: what the summed loss is divided by

    def to(self, **move: Any) -> TargetBatch:
        """The same targets on another device."""
        return TargetBatch(
            self.token_M.to(**move),
            self.sequence_M.to(**move),
            self.example_M.to(**move),
            self.value_M.to(**move),
            self.num_known,
        )


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a packed batch: sequences of similar length, one after the other, each padded to `num_columns`."""

    num_rows: int
    num_columns: int
    is_full: bool  # it holds no padding

    @property
    def size(self) -> int:
        """Tokens, padding included."""
        return self.num_rows * self.num_columns


@dataclass(slots=True)
class Batch:
    """Examples of one or several tasks that go through the encoder together.

    A padded batch has a row per sequence; a packed one has a single row, made of `blocks`. `sequence_BS` says which
    tokens may attend to each other: those of one sequence.
    """

    input_ids_BS: Tensor
    position_BS: Tensor  # index of the token in its own sequence
    token_type_BS: Tensor
    sequence_BS: Tensor  # which of the N sequences owns each token; -1 on padding
    num_examples: int
    num_sequences: int  # N
    num_tokens: int  # without padding
    targets: dict[tuple[str, str], TargetBatch]  # by (task, head)
    token_R: Tensor  # the tokens of all targets, each once, sorted: all that heads read, except those that pool
    blocks: tuple[Block, ...] = ()  # of a packed batch; empty: padded
    boundaries: Tensor | None = None  # int32, of a packed batch (`cu_seqlens`): where each sequence and each stretch of
    # padding begins, and where the row ends
    first_N: Tensor | None = None  # each sequence's first token, as in `token_M`; None: no text is in windows
    example_N: Tensor | None = None  # which of the batch's examples each sequence belongs to; None as for `first_N`

    def to(self, device: Any) -> Batch:
        """The same batch on another device."""
        move = {"device": device, "non_blocking": True}
        return Batch(
            self.input_ids_BS.to(**move),
            self.position_BS.to(**move),
            self.token_type_BS.to(**move),
            self.sequence_BS.to(**move),
            self.num_examples,
            self.num_sequences,
            self.num_tokens,
            {key: target.to(**move) for key, target in self.targets.items()},
            self.token_R.to(**move),
            self.blocks,
            *(None if one is None else one.to(**move) for one in (self.boundaries, self.first_N, self.example_N)),
        )


@dataclass(slots=True)
class HeadOutput:
    """A head's logits and loss for a batch. The loss is a sum and a count: the division happens once per step."""

    logits_ML: Tensor
    loss_sum: Tensor  # scalar, over known targets
    count: int  # known targets


@dataclass(frozen=True, slots=True)
class Prediction:
    """A head's prediction for one example."""

    value: Any  # a label's name, a tuple of them, a tuple of tags (one per word), a number, an answer or a choice
    scores: tuple[float, ...] = ()  # by label or choice: probabilities; `span`: see heads/span.py
    span: Offset | None = None  # `span`: the answer's begin and end in characters of the second text
    uncalibrated: tuple[float, ...] = ()  # of heads that calibrate: `scores` at temperature 1


@dataclass
class TaskResult:
    """The result of evaluating one task, one of its named test sets, or all tasks that share its heads."""

    losses: dict[str, float] = field(default_factory=dict)  # mean loss by head
    scores: dict[str, dict[str, float]] = field(default_factory=dict)  # by head, by metric; the first is the headline
    predictions: dict[str, list[Prediction]] = field(default_factory=dict)  # by head, in the order of the split
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # by head: 95%, of its headline score
    counts: dict[str, Counts] = field(default_factory=dict)  # by head: per test example, where its headline has them
    joint_accuracy: float | None = None  # share of examples for which every head is right; None: not computed
    joint_interval: tuple[float, float] | None = None  # its 95% interval
    collapsed: dict[str, str] = field(default_factory=dict)  # by head that has learned nothing: the symptom

    def summary(self) -> dict[str, Any]:
        """Losses and scores as JSON types; `TaskResult(**summary)` restores them, without predictions."""
        return {
            "losses": self.losses, "scores": self.scores, "joint_accuracy": self.joint_accuracy,
            "collapsed": self.collapsed,
        }  # fmt: skip


def task_of(name: str) -> str:
    """The task of a test set, which is named `task` or `task.name`, or of a result."""
    return name.partition(".")[0]

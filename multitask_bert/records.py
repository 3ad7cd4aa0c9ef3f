"""The nouns that travel from file to score.

Legend of shapes, used as suffixes everywhere:
    B rows of a batch, S tokens per row, H hidden width, N sequences in the batch (texts that attend to themselves only:
    one per example, or one per choice of an example), M targets of one head in the batch (one per example, per word,
    per choice, or per place where an answer may begin or end), L labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = -100  # the id of a target that is missing: it counts neither in a loss nor in a score
GOES_ON = -2  # in `word_starts`: this part of a word takes its tag from the part before it
Offset = tuple[int, int]  # begin and end in characters; (-1, -1): nowhere in the text


@dataclass(frozen=True, slots=True)
class Example:
    """One record of a task as its file has it."""

    where: str  # file and line, as in "train.txt:418"
    text: str  # the text, or the words joined by spaces
    labels: Mapping[str, Any]  # by head, as `Head.parse` gives them; None where the label is missing
    text_pair: str | None = None  # the second text, where there are two (for `span`: the context of a question)
    words: tuple[str, ...] | None = None  # where the file has words rather than text
    word_offsets: tuple[Offset, ...] | None = None  # where words were cut from a text: each word's place in it
    choices: tuple[str, ...] | None = None  # second texts to choose from, each with a sequence of its own
    spans: Mapping[str, tuple[Offset, ...]] | None = None  # entities by characters, by head: the place of each

    @property
    def kind(self) -> str:
        """text, pair or choices: what a head that learnt from such examples can predict for."""
        if self.choices is not None:
            return "choices"
        return "text" if self.text_pair is None else "pair"


@dataclass(frozen=True, slots=True)
class Target:
    """What one head has to predict for one example: a value at each anchor."""

    anchors: tuple[int, ...]  # positions in input_ids from which the head reads
    values: tuple[Any, ...]  # one per anchor: a class id (UNKNOWN where missing), a number or a tuple of numbers (NaN)
    num_known: int  # what the loss of this example is divided by: labels that are not missing


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text, or a window of it, as the tokenizer cuts it; special tokens included."""

    input_ids: tuple[int, ...]
    token_type_ids: tuple[int, ...]  # 0 for the first text, 1 for the second
    offsets: tuple[Offset, ...]  # of each piece, in its own text
    is_second: tuple[bool, ...]  # whether a piece belongs to the second text
    word_starts: tuple[int, ...] = ()  # position of each word's first piece, -1: it has none, or GOES_ON; text: empty
    sequence_starts: tuple[int, ...] = (0,)  # where each choice's sequence begins
    second_text: str | None = None  # what the offsets of the second text count in, where a head reads windows


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One example, or a window of it, as word pieces, with a target per head."""

    example: Example
    input_ids: tuple[int, ...]  # special tokens included
    token_type_ids: tuple[int, ...]  # 0 for the first text, 1 for the second
    word_starts: tuple[int, ...]  # position of each word's first piece, -1: it has none, or GOES_ON; text: empty
    targets: Mapping[str, Target]  # by head
    is_cut: bool = False  # some pieces did not fit in max_length
    sequence_starts: tuple[int, ...] = (0,)  # where each sequence begins in input_ids: several only for `choices`
    offsets: tuple[Offset, ...] = ()  # of each piece in characters, where a head needs them to decode


@dataclass(slots=True)
class TargetBatch:
    """The targets of one head for a batch."""

    anchor_M: Tensor  # index into the B*S grid, read row by row
    sequence_M: Tensor  # which of the N sequences the target belongs to
    example_M: Tensor  # which of the batch's examples it belongs to: the same, but for choices
    value_M: Tensor  # class ids (UNKNOWN where missing), numbers, or rows of numbers (NaN where missing)
    num_known: int  # labels that are not missing: what the summed loss is divided by

    def to(self, **move: Any) -> TargetBatch:
        """The same targets on another device."""
        return TargetBatch(
            self.anchor_M.to(**move),
            self.sequence_M.to(**move),
            self.example_M.to(**move),
            self.value_M.to(**move),
            self.num_known,
        )


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a packed batch: sequences of like length, one after the other, each `num_columns` tokens wide."""

    num_rows: int
    num_columns: int
    is_full: bool  # no token of it is padding

    @property
    def num_places(self) -> int:
        """Tokens, padding included."""
        return self.num_rows * self.num_columns


@dataclass(slots=True)
class Batch:
    """Examples of one or several tasks that go through the encoder together.

    `example_BS` holds the number (0 to N-1) of the sequence that owns each token and -1 on padding; who may attend to
    whom follows from it. A padded batch has a row per sequence; a packed one has a single row, made of `blocks`.
    """

    input_ids_BS: Tensor
    position_BS: Tensor  # place of the token in its own example, from 0
    token_type_BS: Tensor
    example_BS: Tensor
    num_examples: int
    num_sequences: int  # N
    num_tokens: int  # real ones, without padding
    targets: dict[tuple[str, str], TargetBatch]  # by (task, head)
    anchor_R: Tensor  # the anchors of all targets, each once, sorted: all that heads read, but for those that pool
    blocks: tuple[Block, ...] = ()  # of a packed batch; none: padded
    boundaries: Tensor | None = None  # of a packed batch (int32): where each sequence and each run of padding begins,
    # and where the row ends

    def to(self, device: Any) -> Batch:
        """The same batch on another device."""
        move = {"device": device, "non_blocking": True}
        return Batch(
            self.input_ids_BS.to(**move),
            self.position_BS.to(**move),
            self.token_type_BS.to(**move),
            self.example_BS.to(**move),
            self.num_examples,
            self.num_sequences,
            self.num_tokens,
            {key: target.to(**move) for key, target in self.targets.items()},
            self.anchor_R.to(**move),
            self.blocks,
            None if self.boundaries is None else self.boundaries.to(**move),
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

    value: Any  # a label's name, a tuple of them, a tuple of tags (one per word), a number, an answer or a choice
    scores: tuple[
        float, ...
    ] = ()  # probabilities in the order of the head's labels or choices; span: see heads/span.py
    place: Offset | None = None  # span: the answer's begin and end in characters of the second text


@dataclass
class TaskResult:
    """What one task's evaluation gave."""

    losses: dict[str, float] = field(default_factory=dict)  # mean loss by head
    scores: dict[str, dict[str, float]] = field(default_factory=dict)  # by head, by metric; the first is the headline
    predictions: dict[str, list[Prediction]] = field(default_factory=dict)  # by head, in the order of the data set
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)  # by head: 95% of its headline score
    joint_accuracy: float | None = None  # share of examples for which every head is right; None: not asked for
    joint_interval: tuple[float, float] | None = None  # 95% of it
    collapsed: dict[str, str] = field(default_factory=dict)  # by head that has learnt nothing: in what way

    def summary(self) -> dict[str, Any]:
        """Losses and scores, of JSON types; `TaskResult(**summary)` has them, and no predictions."""
        return {
            "losses": self.losses, "scores": self.scores, "joint_accuracy": self.joint_accuracy,
            "collapsed": self.collapsed,
        }  # fmt: skip

"""What every head type can do, in five verbs: encode, build, loss, decode, score.

The spine (data, model, training) knows heads only through this class. A head object is light: the weights are in the
module that `build` returns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from multitask_bert.config import HeadConfig, InputError
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, Example, HeadOutput, Prediction, Target, TargetBatch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


class Head(ABC):
    """One prediction over a task's text."""

    known_metrics: ClassVar[tuple[str, ...]]  # names that `metrics:` may hold
    reads_words: ClassVar[bool]  # True: one target per word; False: one per text

    def __init__(self, config: HeadConfig, labels: LabelSet) -> None:
        self.config = config
        self.labels = labels
        self.metrics = self.metrics_of(config)

    # What the type says of a config, before there are labels.

    @classmethod
    @abstractmethod
    def default_metrics(cls, config: HeadConfig) -> tuple[str, ...]:
        """The metrics reported where the config names none; the first is the headline."""

    @classmethod
    def metrics_of(cls, config: HeadConfig) -> tuple[str, ...]:
        return tuple(config.metrics) or cls.default_metrics(config)

    @classmethod
    def problems(cls, config: HeadConfig) -> Iterator[str]:
        """Settings that cannot work, each as `field=value: why and the way out`."""
        for metric in cls.metrics_of(config):
            if metric not in cls.known_metrics:
                yield f"metrics: {config.type} does not report {metric}; choose from {', '.join(cls.known_metrics)}"
        if repeated := sorted({label for label in config.labels or () if (config.labels or []).count(label) > 1}):
            yield f"labels: {', '.join(repeated)} is named more than once"
        if config.dropout is not None and not 0 <= config.dropout < 1:
            yield f"dropout={config.dropout}: must be at least 0 and less than 1"

    # What the type makes of labels.

    @classmethod
    @abstractmethod
    def collect(cls, config: HeadConfig, values: Iterable[Any]) -> LabelSet:
        """The label set of the training labels (or of `config.labels`, where it names them)."""

    @abstractmethod
    def check_label(self, value: Any, example: Example) -> None:
        """Refuse a label that this head cannot learn or score.

        Raises:
            InputError: names the example's file and line, the label, and the way out.
        """

    # The five verbs.

    @abstractmethod
    def encode(self, value: Any, word_starts: Sequence[int]) -> Target:
        """The target for one example. `word_starts`: position of each word's first piece, -1 where it has none."""

    def build(self, hidden_size: int, dropout_rate: float) -> nn.Module:
        """Features of width H to logits of width L, drawn like the encoder's own layers (normal, 0.02)."""
        from torch import nn

        linear = nn.Linear(hidden_size, len(self.labels))
        nn.init.normal_(linear.weight, std=0.02)
        nn.init.zeros_(linear.bias)
        return nn.Sequential(nn.Dropout(dropout_rate), linear)

    def loss(self, logits_ML: Tensor, target: TargetBatch) -> HeadOutput:
        """Cross-entropy summed over known targets."""
        from torch.nn.functional import cross_entropy

        total = cross_entropy(logits_ML.float(), target.value_M, ignore_index=UNKNOWN, reduction="sum")
        return HeadOutput(logits_ML, total, target.num_known)

    @abstractmethod
    def decode(self, logits_ML: np.ndarray, word_starts: Sequence[int]) -> Prediction:
        """What the logits of one example say."""

    @abstractmethod
    def score(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, float]:
        """The configured metrics; examples with a missing label do not count."""

    def refuse_unseen(self, label: str, example: Example, known: Iterable[str]) -> InputError:
        return InputError(
            f"{example.where}: label '{label}' does not occur in the training data, so it cannot be learnt "
            f"(known: {', '.join(known)}); correct it, or name all labels in the head's `labels:`"
        )

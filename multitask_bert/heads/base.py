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
from multitask_bert.records import UNKNOWN, EncodedExample, Example, HeadOutput, Pieces, Prediction, Target, TargetBatch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn


class Head(ABC):
    """One prediction over a task's text."""

    known_metrics: ClassVar[tuple[str, ...]]  # names that `metrics:` may hold
    reads_words: ClassVar[bool] = False  # needs words: one target per word
    pools_text: ClassVar[bool] = True  # reads one vector per sequence (see `pooling`); else the token at each anchor
    reads_windows: ClassVar[bool] = False  # a text that is too long comes in overlapping windows instead of being cut

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
        if config.dropout is not None and not 0 <= config.dropout < 1:
            yield f"dropout={config.dropout}: must be at least 0 and less than 1"

    # What the type makes of labels.

    @classmethod
    def parse(cls, config: HeadConfig, raw: Any, where: str) -> Any:
        """The label that a file's field means; None where it is missing. `where`: file and line, for errors.

        `raw`: a string (None or empty where there is none), a tuple of strings (one per word), a dict by column
        (`config.columns`), or any JSON value, as the format has it.

        Raises:
            InputError: this is no label of this type.
        """
        if raw is None or isinstance(raw, str):
            return (raw or "").strip() or None
        if isinstance(raw, bool | int | float):
            return str(raw)
        raise InputError(f"{where}: {config.type} needs one label, but found {str(raw)[:60]!r}")

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
    def encode(self, value: Any, pieces: Pieces) -> Target:
        """The target for one example (or window of it); `value` as `parse` gave it."""

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
    def decode(self, logits_ML: np.ndarray, encoded: EncodedExample) -> Prediction:
        """What the logits of one example (or window of it) say."""

    def join(self, predictions: Sequence[Prediction]) -> Prediction:
        """One prediction out of those for an example's windows."""
        (prediction,) = predictions
        return prediction

    def present(self, prediction: Prediction, encoded: EncodedExample) -> dict[str, Any]:
        """A prediction as JSON, for who has no labels to compare it with; `encoded`: the example (its first window)."""
        value = list(prediction.value) if isinstance(prediction.value, tuple) else prediction.value
        if len(prediction.scores) != len(self.labels):
            return {"value": value}
        return {"value": value, "probabilities": self.probabilities_by_label(prediction.scores)}

    @abstractmethod
    def score(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, float]:
        """The configured metrics; examples with a missing label do not count."""

    def probabilities_by_label(self, scores: Sequence[float]) -> dict[str, float]:
        """Probabilities by the names of their labels, to six places."""
        return {name: round(score, 6) for name, score in zip(self.labels.names, scores, strict=True)}

    def refuse_unseen(self, label: str, example: Example, known: Iterable[str]) -> InputError:
        return InputError(
            f"{example.where}: label '{label}' does not occur in the training data, so it cannot be learnt "
            f"(known: {', '.join(known)}); correct it, or name all labels in the head's `labels:`"
        )

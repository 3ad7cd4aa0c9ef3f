"""`type: classification`: one label per text, or per pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multitask_bert.config import HeadConfig
from multitask_bert.heads.base import Head
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, Example, Prediction, Target

if TYPE_CHECKING:
    import numpy as np


class ClassificationHead(Head):
    """Dropout and a linear layer over the pooled text, as in `BertForSequenceClassification`."""

    known_metrics = ("f1", "f1_weighted", "f1_micro", "precision", "recall", "accuracy", "matthews_correlation")
    reads_words = False

    @classmethod
    def default_metrics(cls, config: HeadConfig) -> tuple[str, ...]:
        return ("f1", "accuracy")

    @classmethod
    def problems(cls, config: HeadConfig) -> Iterator[str]:
        yield from super().problems(config)
        if config.labels is not None and len(config.labels) < 2:
            yield f"labels: {', '.join(config.labels) or 'none'} leaves nothing to choose between; name two or more"

    @classmethod
    def collect(cls, config: HeadConfig, values: Iterable[Any]) -> LabelSet:
        if config.labels is not None:
            return LabelSet(tuple(config.labels))
        return LabelSet.from_names(value for value in values if value is not None)

    def check_label(self, value: Any, example: Example) -> None:
        if value is not None and value not in self.labels:
            raise self.refuse_unseen(value, example, self.labels.names)

    def encode(self, value: Any, word_starts: Sequence[int]) -> Target:
        return Target(anchors=(0,), values=(UNKNOWN if value is None else self.labels.ids[value],))

    def decode(self, logits_ML: np.ndarray, word_starts: Sequence[int]) -> Prediction:
        import numpy as np

        logits_L = logits_ML[0].astype(np.float64)
        scores_L = np.exp(logits_L - logits_L.max())
        scores_L /= scores_L.sum()
        return Prediction(self.labels.names[int(scores_L.argmax())], tuple(scores_L.tolist()))

    def score(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, float]:
        from multitask_bert.utils import metrics

        known = [(g, p.value) for g, p in zip(golds, predictions, strict=True) if g is not None]
        return metrics.compute_all(metrics.CLASSIFICATION, self.metrics, [g for g, _ in known], [p for _, p in known])

"""`type: classification`: one label per text, or per pair of texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multitask_bert.config.schema import HeadConfig
from multitask_bert.heads import options
from multitask_bert.heads.calibration import SoftmaxHead
from multitask_bert.heads.scoring import PER_LABEL, Comparison, only_known
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, EncodedExample, Example, Prediction, Target, Tokens

if TYPE_CHECKING:
    import numpy as np


class ClassificationHead(SoftmaxHead):
    """Dropout and a linear layer over the pooled text, as in `BertForSequenceClassification`."""

    known_metrics = (
        "f1", "f1_weighted", "f1_micro", "precision", "recall", "accuracy", "matthews_correlation", PER_LABEL,
    )  # fmt: skip
    knows_metrics_of_label = True
    own_options = ("class_weights", "label_smoothing", "names", "unknown_labels", "calibrate")

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
        found = [value for value in values if value is not None]
        labels = LabelSet.from_names(found) if config.labels is None else LabelSet(tuple(config.labels))
        return labels.counted(found)

    def spelled(self, value: Any) -> Any:
        return None if value is None else self.labels.spelled(value)

    def check_label(self, value: Any, example: Example) -> None:
        if value is not None and value not in self.labels:
            raise self.refuse_unseen(value, example, self.labels.names)

    def encode(self, value: Any, tokens: Tokens) -> Target:
        if value is None or value not in self.labels:
            return Target(token_indices=(0,), values=(UNKNOWN,), num_known=0)
        return Target(token_indices=(0,), values=(self.labels.ids[value],), num_known=1)

    def decode(self, logits_ML: np.ndarray, encoded: EncodedExample) -> Prediction:
        best, scores, uncalibrated = self.decide(logits_ML[0])
        return Prediction(self.labels.names[best], scores, uncalibrated=uncalibrated)

    def index_of(self, gold: Any) -> int | None:
        return self.labels.ids.get(gold)

    def label_probabilities(self, logits_ML: np.ndarray, target: Target) -> np.ndarray | None:
        is_over_labels = self.num_outputs == len(self.labels)  # not in a type that derives from this one
        return options.probabilities_of(target.values, logits_ML) if is_over_labels else None

    def present(self, prediction: Prediction, encoded: EncodedExample) -> dict[str, Any]:
        return {"label": prediction.value, "probabilities": self.probabilities_by_label(prediction.scores)}

    def compare(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> Comparison:
        from multitask_bert.utils import metrics

        known = only_known(golds, predictions)
        return Comparison(metrics.CLASSIFICATION, [gold for gold, _ in known], [found.value for _, found in known])

    def dummy_examples(self) -> Sequence[tuple[Any, Any]]:
        return [(name, name) for name in self.labels.names[:2]]

    def frequency_logits(self) -> tuple[float, ...] | None:
        is_over_labels = self.num_outputs == len(self.labels)  # not in a type that derives from this one
        return options.frequency_logits(self.config, self.labels) if is_over_labels else None

    def for_module(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
        """Class ids, as most public modules take them; a label that the head does not know has the next id."""
        names = super().for_module(golds, predictions)
        return {side: [self.labels.ids.get(n, len(self.labels)) for n in values] for side, values in names.items()}

"""`type: choice`: which of several second texts fits the first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import options
from multitask_bert.heads.calibration import SoftmaxHead
from multitask_bert.heads.scoring import Comparison, only_known
from multitask_bert.heads.segments import segment_log_softmax, segment_sizes
from multitask_bert.labels import LabelSet, without_zeros
from multitask_bert.records import UNKNOWN, EncodedExample, Example, HeadOutput, Prediction, Target, TargetBatch, Tokens

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


DIGITS = re.compile(r"\d{1,9}", re.ASCII)


class ChoiceHead(SoftmaxHead):
    """Dropout and a linear layer with one output over each pooled pair, as `BertForMultipleChoice`.

    A label is the number of the right choice, from 0. The number of choices may differ between examples.
    """

    known_metrics = ("accuracy",)
    own_options = ("label_smoothing", "calibrate")
    reads_choices = True
    fewest_labels = 0

    @classmethod
    def default_metrics(cls, config: HeadConfig) -> tuple[str, ...]:
        return ("accuracy",)

    @classmethod
    def parse(cls, config: HeadConfig, raw: Any, where: str) -> int | None:
        """The choice's index; with `labels: [A, B, …]`, the names of the choices, the index of the name."""
        text = super().parse(config, raw, where)
        if text is None:
            return None
        if config.labels is not None:
            name = LabelSet(tuple(config.labels)).find(text)
            if name is None:
                raise InputError(f"{where}: '{text[:60]}' is none of the choices' names ({', '.join(config.labels)})")
            return config.labels.index(name)
        text = without_zeros(text)
        if not DIGITS.fullmatch(text):
            raise InputError(
                f"{where}: choice needs the number of the right choice, from 0, but found {text[:60]!r}; where choices "
                f"have names, name them in order in the head's `labels: [A, B, …]`"
            )
        return int(text)

    @classmethod
    def collect(cls, config: HeadConfig, values: Iterable[Any]) -> LabelSet:
        return LabelSet(tuple(config.labels or ()))

    @property
    def num_outputs(self) -> int:
        return 1

    def check_label(self, value: Any, example: Example) -> None:
        if example.choices is None:
            raise InputError(f"{example.where}: choice needs several texts to choose from; name them in source.choices")
        if value is not None and value >= len(example.choices):
            raise InputError(
                f"{example.where}: choice {value} is right, but there are only {len(example.choices)}, counted from 0"
            )

    def encode(self, value: Any, tokens: Tokens) -> Target:
        firsts = tokens.sequence_starts
        if value is None:
            return Target(firsts, (UNKNOWN,) * len(firsts), num_known=0)
        return Target(firsts, tuple(int(choice == value) for choice in range(len(firsts))), num_known=1)

    def loss(self, logits_ML: Tensor, target: TargetBatch) -> HeadOutput:
        """Cross-entropy over the choices of each example, summed over examples whose right choice is known."""
        log_M = segment_log_softmax(logits_ML.float(), target.example_M)[:, 0]
        share = self.config.label_smoothing
        wanted_M = (1 - share) * target.value_M + share / segment_sizes(target.example_M)
        total = -(wanted_M * log_M).masked_fill(target.value_M == UNKNOWN, 0.0).sum()
        return HeadOutput(logits_ML, total, target.num_known)

    def decode(self, logits_ML: np.ndarray, encoded: EncodedExample) -> Prediction:
        best, scores, uncalibrated = self.decide(logits_ML[:, 0])
        return Prediction(best, scores, uncalibrated=uncalibrated)

    def index_of(self, gold: Any) -> int | None:
        return None if gold is None else int(gold)

    def label_probabilities(self, logits_ML: np.ndarray, target: Target) -> np.ndarray:
        gold = target.values.index(1) if 1 in target.values else UNKNOWN
        return options.probabilities_of([gold], logits_ML.T)

    def present(self, prediction: Prediction, encoded: EncodedExample) -> dict[str, Any]:
        """The number of the choice, its name where choices have names, its text, and the probability of each."""
        named = {"label": self.labels.names[prediction.value]} if prediction.value < len(self.labels) else {}
        text = (encoded.example.choices or ())[prediction.value]
        scores = [round(score, 6) for score in prediction.scores]
        return {"choice": prediction.value, **named, "text": text, "probabilities": scores}

    def compare(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> Comparison:
        from multitask_bert.utils import metrics

        known = only_known(golds, predictions)
        return Comparison(metrics.CLASSIFICATION, [str(gold) for gold, _ in known], [str(f.value) for _, f in known])

    def for_module(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
        known = only_known(golds, predictions)
        return {"references": [gold for gold, _ in known], "predictions": [found.value for _, found in known]}

    def dummy_examples(self) -> Sequence[tuple[Any, Any]]:
        return [(0, 0), (1, 1)]

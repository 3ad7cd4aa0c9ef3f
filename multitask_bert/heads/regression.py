"""`type: regression`: one number per text, or per pair of texts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads.base import Head
from multitask_bert.heads.scoring import Comparison, only_known
from multitask_bert.labels import NUMBER, LabelSet
from multitask_bert.records import EncodedExample, Example, HeadOutput, Prediction, Target, TargetBatch, Tokens
from multitask_bert.utils.metric_names import ERRORS

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


class RegressionHead(Head):
    """Dropout and a linear layer with one output, as `BertForSequenceClassification` with `num_labels=1`."""

    known_metrics = ("pearson", "spearman", *ERRORS)
    own_options = ("range", "clip")
    fewest_labels = 0
    can_be_right = False

    @classmethod
    def default_metrics(cls, config: HeadConfig) -> tuple[str, ...]:
        return ("pearson", "spearman", "mse")

    @classmethod
    def problems(cls, config: HeadConfig) -> Iterator[str]:
        yield from super().problems(config)
        bounds = config.range
        if bounds is not None and (len(bounds) != 2 or not all(map(math.isfinite, bounds)) or bounds[0] >= bounds[1]):
            yield f"range={bounds}: must be the lowest and the highest value, as in [0, 5]"
        if config.clip and bounds is None:
            yield "clip=True: has no effect without range; name the lowest and the highest value"
        if config.labels is not None:
            yield "labels: regression has none; remove it"

    @classmethod
    def parse(cls, config: HeadConfig, raw: Any, where: str) -> float | None:
        text = super().parse(config, raw, where)
        if text is None:
            return None
        value = float(text) if NUMBER.fullmatch(text) else math.nan
        if not math.isfinite(value):
            what = "found" if config.column is None else f"column {config.column!r} has"
            raise InputError(f"{where}: regression needs a number, but {what} {text[:60]!r}; empty means unknown")
        if config.range is not None and not config.range[0] <= value <= config.range[1]:
            raise InputError(
                f"{where}: {value:g} is outside `range: [{config.range[0]:g}, {config.range[1]:g}]`; "
                f"correct one of them"
            )
        return value

    @classmethod
    def collect(cls, config: HeadConfig, values: Iterable[Any]) -> LabelSet:
        return LabelSet(())

    @property
    def num_outputs(self) -> int:
        return 1

    def check_label(self, value: Any, example: Example) -> None:
        """Nothing to do: `parse` has checked the number and its range."""

    def encode(self, value: Any, tokens: Tokens) -> Target:
        if value is None:
            return Target(token_indices=(0,), values=(math.nan,), num_known=0)
        low, high = self._range
        return Target(token_indices=(0,), values=((value - low) / (high - low),), num_known=1)

    def loss(self, logits_ML: Tensor, target: TargetBatch) -> HeadOutput:
        """Squared error summed over known targets, in units of the range."""
        wanted_M = target.value_M.float()
        error_M = (logits_ML.float()[:, 0] - wanted_M.nan_to_num(nan=0.0)).masked_fill(wanted_M.isnan(), 0.0)
        return HeadOutput(logits_ML, error_M.square().sum(), target.num_known)

    def decode(self, logits_ML: np.ndarray, encoded: EncodedExample) -> Prediction:
        low, high = self._range
        value = low + float(logits_ML[0, 0]) * (high - low)
        return Prediction(min(max(value, low), high) if self.config.clip else value)

    def present(self, prediction: Prediction, encoded: EncodedExample) -> dict[str, Any]:
        """The number, to six decimal places."""
        return {"value": round(prediction.value, 6)}

    def compare(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> Comparison:
        from multitask_bert.utils import metrics

        known = only_known(golds, predictions)
        return Comparison(metrics.NUMBERS, [gold for gold, _ in known], [found.value for _, found in known])

    def dummy_examples(self) -> Sequence[tuple[Any, Any]]:
        return [(value, value) for value in self._range]

    @property
    def _range(self) -> tuple[float, float]:
        """The values that are learned as 0 and as 1."""
        low, high = self.config.range or (0.0, 1.0)
        return low, high

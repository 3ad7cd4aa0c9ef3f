"""`type: multilabel`: any number of labels per text, from columns of 0 and 1 or from a list of names.

A label is a dict from name to True, False or None (unknown); names that are not in it are False.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads.base import Head
from multitask_bert.heads.scoring import PER_LABEL, Comparison, only_known
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample, Example, HeadOutput, Prediction, Target, TargetBatch, Tokens

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

TUNED, TUNED_PER_LABEL = "tuned", "tuned_per_label"
CELLS: Mapping[str, bool | None] = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False}
UNTUNED = 0.5
log = logging.getLogger(__name__)

GRID = tuple(step / 100 for step in range(1, 100))  # thresholds that are tried
THRESHOLDS = "threshold_L"
SEPARATORS = ",;|/+"
AVERAGES = ("f1", "f1_micro", "f1_samples", "f1_weighted")


class MultilabelHead(Head):
    """Dropout and a linear layer over the pooled text, each output a yes or no of its own.

    As `BertForSequenceClassification` with `problem_type="multi_label_classification"`. A tuned threshold is a buffer
    of the head's module, so it is kept, saved and restored with the weights that it was chosen for.
    """

    known_metrics = (
        "f1", "f1_micro", "f1_samples", "f1_weighted", "exact_match", "precision", "recall", PER_LABEL,
    )  # fmt: skip
    own_options = ("columns", "separator", "threshold", "names", "unknown_labels")
    fewest_labels = 1

    def __init__(self, config: HeadConfig, labels: LabelSet) -> None:
        super().__init__(config, labels)
        self._module: nn.Module | None = None  # the last that was built, which holds tuned thresholds

    @classmethod
    def default_metrics(cls, config: HeadConfig) -> tuple[str, ...]:
        return ("f1", "f1_micro", "exact_match")

    @classmethod
    def problems(cls, config: HeadConfig) -> Iterator[str]:
        yield from super().problems(config)
        if config.threshold not in (TUNED, TUNED_PER_LABEL) and not _is_probability(config.threshold):
            yield f"threshold={config.threshold}: must be between 0 and 1, {TUNED} or {TUNED_PER_LABEL}"
        if config.column is not None and config.columns is not None:
            yield "columns: has no effect beside `column`; keep one of them"
        if config.columns is not None and config.labels is not None:
            yield "labels: the labels are the names of `columns`; remove it"
        if config.columns is not None and (not config.columns or len({*config.columns}) < len(config.columns)):
            yield f"columns={config.columns}: needs at least one name, and each only once"
        if config.columns is not None and config.names is not None:
            yield "names: the labels are the names of `columns`; remove it"
        if not config.separator:
            yield "separator: must not be empty"

    @classmethod
    def parse(cls, config: HeadConfig, raw: Any, where: str) -> dict[str, bool | None] | None:
        if isinstance(raw, Mapping):
            cells = {str(name): _cell(name, cell, where) for name, cell in raw.items()}
            return None if all(cell is None for cell in cells.values()) else cells
        if isinstance(raw, str):
            raw = raw.strip()
            if raw.startswith("["):
                try:
                    raw = json.loads(raw)
                except (ValueError, RecursionError) as error:  # no JSON, too deep, or a number of thousands of digits
                    raise InputError(f"{where}: {raw[:60]!r} begins like a JSON list but is none ({error})") from error
        if raw is None or raw == "":
            return None
        if isinstance(raw, str):
            return dict.fromkeys((name for part in raw.split(config.separator) if (name := part.strip())), True)
        if isinstance(raw, list | tuple) and all(isinstance(name, str | int | float) for name in raw):
            return dict.fromkeys((str(name).strip() for name in raw), True)
        raise InputError(
            f"{where}: multilabel needs names with '{config.separator}' between them or a list of names, "
            f"but found {str(raw)[:60]!r}"
        )

    @classmethod
    def collect(cls, config: HeadConfig, values: Iterable[Any]) -> LabelSet:
        """The columns in their order, or all names that train has; counted where they are 1."""
        known = [value for value in values if value is not None]
        fixed = config.columns if config.columns is not None else config.labels
        labels = LabelSet.from_names(name for value in known for name in value)
        if fixed is not None:
            labels = LabelSet(tuple(fixed))
        elif config.column is not None:
            _warn_of_separators(labels, config.separator)
        return labels.counted(name for value in known for name, cell in value.items() if cell)

    def spelled(self, value: Any) -> Any:
        return None if value is None else {self.labels.spelled(name): cell for name, cell in value.items()}

    def check_label(self, value: Any, example: Example) -> None:
        for name in value or ():
            if name not in self.labels:
                raise self.refuse_unseen(name, example, self.labels.names)

    def encode(self, value: Any, tokens: Tokens) -> Target:
        cells = self._cells(value)
        return Target(
            token_indices=(0,),
            values=(tuple(math.nan if cell is None else float(cell) for cell in cells),),
            num_known=sum(cell is not None for cell in cells),
        )

    def build(self, hidden_size: int, dropout_rate: float) -> nn.Module:
        import torch

        self._module = super().build(hidden_size, dropout_rate)
        if self._is_tuned:
            self._module.register_buffer(THRESHOLDS, torch.full((len(self.labels),), UNTUNED))
        return self._module

    def share(self, other: Head) -> None:
        assert isinstance(other, MultilabelHead)
        self._module = other._module

    def loss(self, logits_ML: Tensor, target: TargetBatch) -> HeadOutput:
        """Binary cross-entropy summed over known cells."""
        from torch.nn.functional import binary_cross_entropy_with_logits

        wanted_ML = target.value_M.float()
        loss_ML = binary_cross_entropy_with_logits(logits_ML.float(), wanted_ML.nan_to_num(nan=0.0), reduction="none")
        return HeadOutput(logits_ML, loss_ML.masked_fill(wanted_ML.isnan(), 0.0).sum(), target.num_known)

    def decode(self, logits_ML: np.ndarray, encoded: EncodedExample) -> Prediction:
        import numpy as np

        scores_L = np.exp(-np.logaddexp(0.0, -logits_ML[0].astype(np.float64)))  # sigmoid that cannot overflow
        return self._chosen(tuple(scores_L.tolist()), self.thresholds)

    def label_probabilities(self, logits_ML: np.ndarray, target: Target) -> np.ndarray:
        import numpy as np

        (cells,) = target.values
        cells_L = np.array(cells)
        logits_L = np.where(cells_L == 1, logits_ML[0], -logits_ML[0]).astype(np.float64)
        return np.where(np.isnan(cells_L), np.nan, np.exp(-np.logaddexp(0.0, -logits_L)))

    def present(self, prediction: Prediction, encoded: EncodedExample) -> dict[str, Any]:
        return {"labels": list(prediction.value), "probabilities": self.probabilities_by_label(prediction.scores)}

    @property
    def thresholds(self) -> list[float]:
        """The probability from which each label is predicted."""
        if not self._is_tuned:
            return [float(self.config.threshold)] * len(self.labels)
        if self._module is None:
            return [UNTUNED] * len(self.labels)
        return [float(value) for value in self._module.get_buffer(THRESHOLDS).tolist()]

    def tune(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> list[Prediction]:
        """Choose the thresholds with the best F1: of each label, or (`tuned`) of the head.

        The head's F1 is the first of its metrics that is an average F1, else the macro average. Of equally good
        thresholds, the one nearest to 0.5.
        """
        known = only_known(golds, predictions)
        if not self._is_tuned or not known:
            return list(predictions)
        assert self._module is not None, "build() makes the module that keeps the thresholds"
        buffer_L = self._module.get_buffer(THRESHOLDS)
        buffer_L.copy_(buffer_L.new_tensor(self._best_thresholds(known)))
        thresholds = self.thresholds
        return [self._chosen(prediction.scores, thresholds) for prediction in predictions]

    def compare(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> Comparison:
        from multitask_bert.utils import metrics

        known = only_known(golds, predictions)
        # Labels that the head does not know come last, each in a column of its own that is never predicted.
        others = sorted({name for gold, _ in known for name, cell in gold.items() if cell and name not in self.labels})
        gold_rows = [
            [-1 if cell is None else int(cell) for cell in self._cells(gold)]
            + [int(gold.get(o) is True) for o in others]
            for gold, _ in known
        ]
        found_rows = [[int(name in found.value) for name in (*self.labels.names, *others)] for _, found in known]
        return Comparison(metrics.MULTILABEL, gold_rows, found_rows)

    def for_module(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
        """Rows of 0 and 1; examples with an unknown cell are left out, as public modules know of none."""
        compared = self.compare(golds, predictions)
        whole = [(gold, found) for gold, found in zip(compared.golds, compared.found, strict=True) if -1 not in gold]
        return {"references": [gold for gold, _ in whole], "predictions": [found for _, found in whole]}

    def dummy_examples(self) -> Sequence[tuple[Any, Any]]:
        return [(dict.fromkeys(self.labels.names[:1], True), self.labels.names[:1]), ({}, ())]

    def metrics_by_label(self) -> dict[str, str]:
        return {f"f1_of_{name}": f"f1_of_{column}" for column, name in enumerate(self.labels.names)}

    def is_right(self, gold: Any, prediction: Prediction) -> bool:
        return all(name in self.labels or not cell for name, cell in gold.items()) and all(
            cell is None or cell == (name in prediction.value)
            for name, cell in zip(self.labels.names, self._cells(gold), strict=True)
        )

    @property
    def _is_tuned(self) -> bool:
        return self.config.threshold in (TUNED, TUNED_PER_LABEL)

    def _cells(self, value: Mapping[str, bool | None] | None) -> list[bool | None]:
        """The cells in the order of the labels."""
        if value is None:
            return [None] * len(self.labels)
        return [value.get(name, False) for name in self.labels.names]

    def _chosen(self, scores: tuple[float, ...], thresholds: Sequence[float]) -> Prediction:
        names = zip(self.labels.names, scores, thresholds, strict=True)
        return Prediction(tuple(name for name, score, threshold in names if score >= threshold), scores)

    def _best_thresholds(self, known: Sequence[tuple[Any, Prediction]]) -> list[float]:
        import numpy as np

        from multitask_bert.utils.metrics import MULTILABEL

        gold_NL = np.array([[-1 if cell is None else int(cell) for cell in self._cells(gold)] for gold, _ in known])
        scores_NL = np.array([found.scores for _, found in known])
        if self.config.threshold == TUNED_PER_LABEL:
            names = [f"f1_of_{column}" for column in range(len(self.labels))]
        else:
            names = [next((name for name in self.metrics if name in AVERAGES), "f1")]
        best = []
        for name in names:
            metric = MULTILABEL.make(name)
            sums_RK = np.stack([metric.rows(gold_NL, scores_NL >= threshold).sum(axis=0) for threshold in GRID])
            found_R = metric.statistic(sums_RK)
            best.append(min((-score, abs(t - UNTUNED), t) for score, t in zip(found_R.tolist(), GRID, strict=True))[2])
        return best if len(best) == len(self.labels) else best * len(self.labels)


def _cell(name: str, raw: Any, where: str) -> bool | None:
    text = "" if raw is None else str(raw).strip().lower()
    if not text:
        return None
    if text not in CELLS:
        raise InputError(f"{where}: column '{name}' holds {text[:60]!r}, but a cell is 0, 1 or empty (unknown)")
    return CELLS[text]


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _warn_of_separators(labels: LabelSet, separator: str) -> None:
    """Log labels that look like several joined ones: probably another separator is meant."""
    for other in SEPARATORS:
        if other != separator and (joined := [name for name in labels.names if other in name.strip(other)]):
            log.warning("the label %r holds a %r; if it separates labels, set `separator: %r`",
                        joined[0], other, other)  # fmt: skip

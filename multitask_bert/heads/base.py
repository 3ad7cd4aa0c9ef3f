"""The interface of every head type, in five verbs: encode, build, loss, decode, score (scoring.py).

Data, model and training know heads only through this class. A head object is light: the weights are in the module that
`build` returns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import options, scoring
from multitask_bert.heads.scoring import PER_LABEL, Comparison, key_of, keys_by_label
from multitask_bert.labels import LabelSet, about_quotes, folded
from multitask_bert.records import UNKNOWN, EncodedExample, Example, HeadOutput, Prediction, Target, TargetBatch, Tokens
from multitask_bert.utils.metric_names import label_named

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from multitask_bert.utils.bootstrap import Counts


class UnknownLabelError(InputError):
    """A label, by its name `label`, that the head does not know."""

    def __init__(self, label: str, message: str) -> None:
        super().__init__(message)
        self.label = label


class Head(ABC):
    """One prediction over a task's text."""

    known_metrics: ClassVar[tuple[str, ...]]  # names that `metrics:` may hold
    knows_metrics_of_label: ClassVar[bool] = False  # it may also hold those about one label, as recall_of_<label>
    own_options: ClassVar[tuple[str, ...]] = ()  # fields of HeadConfig that this type reads beside those of all types
    pair_fields: ClassVar[tuple[str, str]] = ("text", "text_pair")  # names of two texts to predict for
    reads_words: ClassVar[bool] = False  # needs words: one target per word
    pools_text: ClassVar[bool] = True  # reads one vector per sequence (see `pooling`); else the tokens of its targets
    reads_windows: ClassVar[bool] = False  # each window of a long text is an example to it, whatever `windows` says
    reads_choices: ClassVar[bool] = False  # reads every choice of an example, not the one text
    fewest_labels: ClassVar[int] = 2  # in train; with fewer, there is nothing to learn
    can_be_right: ClassVar[bool] = True  # a prediction is right or wrong, so that a joint accuracy is defined

    def __init__(self, config: HeadConfig, labels: LabelSet) -> None:
        if config.class_weights is not None:
            # As numbers, so that the saved model says what `balanced` came to.
            config = replace(config, class_weights=options.class_weights(config.class_weights, labels))
        self.config = config
        self.labels = labels
        self._weight_L: Tensor | None = None
        self.metrics = self.metrics_of(config)
        if strangers := [name for name in map(label_named, self.metrics) if name is not None and name not in labels]:
            raise InputError(f"metrics: there is no label {', '.join(strangers)} (known: {', '.join(labels.names)})")

    # What follows from a config, before labels are known.

    @classmethod
    @abstractmethod
    def default_metrics(cls, config: HeadConfig) -> tuple[str, ...]:
        """The metrics reported where the config names none; the first is the headline."""

    @classmethod
    def metrics_of(cls, config: HeadConfig) -> tuple[str, ...]:
        return tuple(config.metrics) or cls.default_metrics(config)

    @classmethod
    def keys_of(cls, config: HeadConfig) -> tuple[str, ...]:
        """The names of the scores, as far as the config alone determines them: those by label need `labels`."""
        return tuple(
            key
            for metric in cls.metrics_of(config)
            for key in (keys_by_label(config.labels or ()) if metric == PER_LABEL else (key_of(metric),))
        )

    @classmethod
    def problems(cls, config: HeadConfig) -> Iterator[str]:
        """Why settings cannot work, each problem as `field=value: why and the way out`."""
        yield from scoring.metric_problems(cls, config)
        if repeated := sorted({label for label in config.labels or () if (config.labels or []).count(label) > 1}):
            yield f"labels: {', '.join(repeated)} is named more than once"
        of_users_type = ("options",) if "." in config.type else ()
        yield from options.problems(config, (*cls.own_options, *of_users_type), pools_text=cls.pools_text)

    # Labels.

    @classmethod
    def parse(cls, config: HeadConfig, raw: Any, where: str) -> Any:
        """The label that a file's field holds; None where it is missing. `where`: file and line, for errors.

        `raw`: a string (None or empty where there is none), a tuple of strings (one per word), a dict by column
        (`config.columns`), or any JSON value, as the format has it.

        Raises:
            InputError: it is not a label of this type.
        """
        if raw is None or isinstance(raw, str):
            return (raw or "").strip() or None
        if isinstance(raw, bool | int | float):
            return str(raw)
        raise InputError(
            f"{where}: {config.type} needs one label (a string, a number or a truth value), but found "
            f"{type(raw).__name__} {str(raw)[:60]!r}"
        )

    @classmethod
    @abstractmethod
    def collect(cls, config: HeadConfig, values: Iterable[Any]) -> LabelSet:
        """The label set of the training labels (or of `config.labels`, where it names them), with their counts."""

    @classmethod
    def join_labels(cls, label_sets: Sequence[LabelSet]) -> LabelSet:
        """The label set of a head that several tasks share, from that of each one's training set; in order of names."""
        return LabelSet.joined(label_sets)

    def spelled(self, value: Any) -> Any:
        """A label in this head's spelling (`1` where a file has `1.0`), in which it is learned and scored."""
        return value

    @abstractmethod
    def check_label(self, value: Any, example: Example) -> None:
        """Refuse a label that this head cannot learn or score.

        Raises:
            UnknownLabelError: it is not one of the head's; names the example's file and line, and the way out.
            InputError: it does not fit the example.
        """

    # The five verbs.

    @abstractmethod
    def encode(self, value: Any, tokens: Tokens) -> Target:
        """The target for one example (or window of it); `value`: from `spelled`. Unknown labels count as missing."""

    def build(self, hidden_size: int, dropout_rate: float) -> nn.Module:
        """The module from features of width H to logits of width L, initialized like the encoder (normal, 0.02)."""
        return options.build(self.config, hidden_size, self.num_outputs, dropout_rate)

    def share(self, other: Head) -> None:  # noqa: B027 - most types keep nothing outside of the config
        """Use what `other`, whose module this head uses, keeps there, such as thresholds; after `other.build`."""

    @property
    def num_outputs(self) -> int:
        """L: logits per target."""
        return len(self.labels)

    def loss(self, logits_ML: Tensor, target: TargetBatch) -> HeadOutput:
        """Cross-entropy summed over known targets, each times its label's class weight."""
        from torch.nn.functional import cross_entropy

        total = cross_entropy(
            logits_ML.float(), target.value_M, weight=self._class_weights(logits_ML.device), ignore_index=UNKNOWN,
            reduction="sum", label_smoothing=self.config.label_smoothing,
        )  # fmt: skip
        return HeadOutput(logits_ML, total, target.num_known)

    def _class_weights(self, device: torch.device) -> Tensor | None:
        """weight_L; copied to a device once, since the host waits for such a copy."""
        import torch

        weights = self.config.class_weights
        if weights is None:
            return None
        if self._weight_L is None or self._weight_L.device != device:
            self._weight_L = torch.tensor([weights[name] for name in self.labels.names], device=device)
        return self._weight_L

    @abstractmethod
    def decode(self, logits_ML: np.ndarray, encoded: EncodedExample) -> Prediction:
        """The prediction that follows from the logits of one example (or window of it)."""

    def label_probabilities(self, logits_ML: np.ndarray, target: Target) -> np.ndarray | None:
        """The probability of each value of one example's label (of each word, each label; NaN: missing) by its logits;
        None: the type has no probabilities.
        """
        return None

    def join(self, predictions: Sequence[Prediction]) -> Prediction:
        """Combine the predictions for an example's windows into one."""
        (prediction,) = predictions
        return prediction

    def tune(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> list[Prediction]:
        """Choose what the config leaves to be chosen on dev (a threshold); the predictions that follow from it."""
        return list(predictions)

    def present(self, prediction: Prediction, encoded: EncodedExample) -> dict[str, Any]:
        """A prediction as JSON, as `action=predict` writes it; `encoded`: the example (its first window)."""
        value = list(prediction.value) if isinstance(prediction.value, tuple) else prediction.value
        if not prediction.scores or len(prediction.scores) != len(self.labels):
            return {"value": value}
        return {"value": value, "probabilities": self.probabilities_by_label(prediction.scores)}

    def score(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, float]:
        """The configured metrics; examples with a missing label do not count."""
        return scoring.score(self, golds, predictions)

    def interval(
        self, golds: Sequence[Any], predictions: Sequence[Prediction], **options: Any
    ) -> tuple[float, float] | None:
        """95% bootstrap interval of the headline score (options: seed, num_resamples, share); None for a module's."""
        return scoring.interval(self, golds, predictions, **options)

    def counts(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> Counts | None:
        """The counts of each example, from whose sums the headline score follows; None if it does not follow so."""
        return scoring.counts(self, golds, predictions)

    # What scoring needs to know of the type.

    @abstractmethod
    def compare(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> Comparison:
        """Golds and predictions in the form that the type's metrics take."""

    def for_module(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
        """`references` and `predictions` in the form that public `evaluate` modules take."""
        compared = self.compare(golds, predictions)
        return {"references": compared.golds, "predictions": compared.found}

    def dummy_examples(self) -> Sequence[tuple[Any, Any]]:
        """Two invented labels, as `parse` gives them, each with the right `Prediction.value`, to try metrics on.

        Empty: the type has none.
        """
        return ()

    def metrics_by_label(self) -> dict[str, str]:
        """For `f1_per_label`: the key of each label's score, and the name that the family of metrics has for it."""
        return {key: key for key in keys_by_label(self.labels.names)}

    # How a collapsed head is recognised: one that has learned nothing (training/collapse.py).

    def answers_in(self, prediction: Prediction) -> Iterable[Hashable]:
        """The single answers that a prediction is made of: itself, or one per word."""
        return (prediction.value,)

    def frequency_logits(self) -> tuple[float, ...] | None:
        """logits_L of the label frequencies in train, whatever the example; None: not defined for this type."""
        return None

    def always(self, answer: Hashable, gold: Any) -> Prediction:
        """The prediction that consists of one answer only, for the example with the label `gold`."""
        return Prediction(answer)

    def is_right(self, gold: Any, prediction: Prediction) -> bool:
        """Whether the prediction equals the whole gold label, which is not missing."""
        return bool(prediction.value == gold)

    @property
    def names_shown(self) -> tuple[str, ...]:
        """The labels as a user names them (for entities: their types)."""
        return self.labels.names

    def probabilities_by_label(self, scores: Sequence[float]) -> dict[str, float]:
        """Probabilities by the names of their labels, to six places."""
        return {name: round(score, 6) for name, score in zip(self.labels.names, scores, strict=True)}

    def refuse_unseen(self, label: str, example: Example, known: Iterable[str]) -> UnknownLabelError:
        """The error for a label that is not one of the head's, with the most likely way out."""
        known = list(known)
        like = next((name for name in known if folded(name) == folded(label)), None)
        meant = "" if like is None else f". Is it '{like}'?"
        if self.config.labels is not None:
            return UnknownLabelError(
                label,
                f"{example.where}: label '{label}' is not among the head's `labels:` ({', '.join(known)}); "
                f"add it there, or correct it{meant or about_quotes(self.config.labels, [label])}",
            )
        return UnknownLabelError(
            label,
            f"{example.where}: label '{label}' does not occur in the training data, so it cannot be learned "
            f"(known: {', '.join(known)}); correct it, name all labels in the head's `labels:`, or set "
            f"`unknown_labels: wrong` where it is in dev or test only{meant}",
        )

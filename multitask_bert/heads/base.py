"""What every head type can do, in five verbs: encode, build, loss, decode, score.

The spine (data, model, training) knows heads only through this class. A head object is light: the weights are in the
module that `build` returns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import options
from multitask_bert.labels import LabelSet, about_quotes, folded
from multitask_bert.records import UNKNOWN, EncodedExample, Example, HeadOutput, Pieces, Prediction, Target, TargetBatch
from multitask_bert.trust.classes import NOT_OPENED, users_code
from multitask_bert.trust.config_files import metric_problem
from multitask_bert.trust.permissions import is_allowed, opened
from multitask_bert.utils.files import expand_user_path
from multitask_bert.utils.metric_names import SHOWN, label_named

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor, nn

    from multitask_bert.utils.metrics import Family

PER_LABEL = "f1_per_label"  # in `metrics:`, stands for `f1_of_<label>` of every label


@dataclass(frozen=True)
class Comparison:
    """Golds beside predictions, as a family of metrics takes them; examples with a missing label are left out."""

    family: Family
    golds: list[Any]
    found: list[Any]


class UnknownLabelError(InputError):
    """A label that the head does not know; `label` is its name."""

    def __init__(self, label: str, message: str) -> None:
        super().__init__(message)
        self.label = label


class Head(ABC):
    """One prediction over a task's text."""

    known_metrics: ClassVar[tuple[str, ...]]  # names that `metrics:` may hold
    knows_metrics_of_label: ClassVar[bool] = False  # and those about one label, as recall_of_<label>
    own_options: ClassVar[tuple[str, ...]] = ()  # fields of HeadConfig that this type reads beside those of all types
    reads_words: ClassVar[bool] = False  # needs words: one target per word
    pools_text: ClassVar[bool] = True  # reads one vector per sequence (see `pooling`); else the token at each anchor
    reads_windows: ClassVar[bool] = False  # a text that is too long comes in overlapping windows instead of being cut
    reads_choices: ClassVar[bool] = False  # reads every choice of an example, not the one text
    fewest_labels: ClassVar[int] = 2  # in train; with fewer there is nothing to learn
    can_be_right: ClassVar[bool] = True  # a prediction is right or wrong, so that a joint accuracy is defined

    def __init__(self, config: HeadConfig, labels: LabelSet) -> None:
        if config.class_weights is not None:
            # Written out, so that the saved model says what `balanced` came to.
            config = replace(config, class_weights=options.class_weights(config.class_weights, labels))
        self.config = config
        self.labels = labels
        self._weight_L: Tensor | None = None
        self.metrics = self.metrics_of(config)
        if strangers := [name for name in map(label_named, self.metrics) if name is not None and name not in labels]:
            raise InputError(f"metrics: there is no label {', '.join(strangers)} (known: {', '.join(labels.names)})")

    # What the type says of a config, before there are labels.

    @classmethod
    @abstractmethod
    def default_metrics(cls, config: HeadConfig) -> tuple[str, ...]:
        """The metrics reported where the config names none; the first is the headline."""

    @classmethod
    def metrics_of(cls, config: HeadConfig) -> tuple[str, ...]:
        return tuple(config.metrics) or cls.default_metrics(config)

    @classmethod
    def keys_of(cls, config: HeadConfig) -> tuple[str, ...]:
        """The names of the scores, as far as the config alone tells them: those by label need `labels`."""
        return tuple(
            key
            for metric in cls.metrics_of(config)
            for key in (_keys_by_label(config.labels or ()) if metric == PER_LABEL else (key_of(metric),))
        )

    @classmethod
    def problems(cls, config: HeadConfig) -> Iterator[str]:
        """Settings that cannot work, each as `field=value: why and the way out`."""
        metrics = cls.metrics_of(config)
        for metric in metrics:
            if is_function(metric):
                if not is_allowed(metric):
                    yield f"metrics={metric}: {NOT_OPENED}{opened(metric)}"
            elif is_module(metric):
                if metric.startswith((".", "/", "~", "$")) and not Path(expand_user_path(metric)).exists():
                    yield f"metrics: there is no folder {metric}"
                elif (problem := metric_problem(metric)) is not None:
                    yield f"metrics: {problem}"
            elif metric not in cls.known_metrics and not (cls.knows_metrics_of_label and label_named(metric)):
                known = (*cls.known_metrics, *(SHOWN if cls.knows_metrics_of_label else ()))
                yield f"metrics: {config.type} does not report {metric}; choose from {', '.join(known)}"
        if repeated := sorted({label for label in config.labels or () if (config.labels or []).count(label) > 1}):
            yield f"labels: {', '.join(repeated)} is named more than once"
        keys = [key_of(metric) for metric in metrics]
        if twice := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
            yield f"metrics: {', '.join(twice)} would be reported twice; name each once"
        if metrics[0] == PER_LABEL:
            yield f"metrics: {PER_LABEL} is several scores; name the headline before it, as in [f1, {PER_LABEL}]"
        of_users_type = ("options",) if "." in config.type else ()
        yield from options.problems(config, (*cls.own_options, *of_users_type), pools_text=cls.pools_text)

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
        raise InputError(
            f"{where}: {config.type} needs one label (a string, a number or a truth value), but found "
            f"{type(raw).__name__} {str(raw)[:60]!r}"
        )

    @classmethod
    @abstractmethod
    def collect(cls, config: HeadConfig, values: Iterable[Any]) -> LabelSet:
        """The label set of the training labels (or of `config.labels`, where it names them), with their counts."""

    def spelled(self, value: Any) -> Any:
        """A label as this head spells it (`1` where a file has `1.0`); what is learnt and scored is spelled so."""
        return value

    @abstractmethod
    def check_label(self, value: Any, example: Example) -> None:
        """Refuse a label that this head cannot learn or score.

        Raises:
            UnknownLabelError: it is none of the head's; names the example's file and line, and the way out.
            InputError: it does not fit the example.
        """

    # The five verbs.

    @abstractmethod
    def encode(self, value: Any, pieces: Pieces) -> Target:
        """The target for one example (or window of it); `value` as `spelled` gives it. Unknown labels teach nothing."""

    def build(self, hidden_size: int, dropout_rate: float) -> nn.Module:
        """Features of width H to logits of width L, drawn like the encoder's own layers (normal, 0.02)."""
        return options.build(self.config, hidden_size, self.num_outputs, dropout_rate)

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
        """weight_L; made once for a device, since the host waits for such a copy."""
        import torch

        weights = self.config.class_weights
        if weights is None:
            return None
        if self._weight_L is None or self._weight_L.device != device:
            self._weight_L = torch.tensor([weights[name] for name in self.labels.names], device=device)
        return self._weight_L

    @abstractmethod
    def decode(self, logits_ML: np.ndarray, encoded: EncodedExample) -> Prediction:
        """What the logits of one example (or window of it) say."""

    def join(self, predictions: Sequence[Prediction]) -> Prediction:
        """One prediction out of those for an example's windows."""
        (prediction,) = predictions
        return prediction

    def tune(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> list[Prediction]:
        """Set what the config leaves to be chosen on dev; the predictions as they are with it."""
        return list(predictions)

    def present(self, prediction: Prediction, encoded: EncodedExample) -> dict[str, Any]:
        """A prediction as JSON, for who has no labels to compare it with; `encoded`: the example (its first window)."""
        value = list(prediction.value) if isinstance(prediction.value, tuple) else prediction.value
        if not prediction.scores or len(prediction.scores) != len(self.labels):
            return {"value": value}
        return {"value": value, "probabilities": self.probabilities_by_label(prediction.scores)}

    def score(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, float]:
        """The configured metrics; examples with a missing label do not count."""
        from multitask_bert.utils import metrics

        compared = self.compare(golds, predictions)
        scores: dict[str, float] = {}
        for name in self.metrics:
            if is_custom(name):
                scores[key_of(name)] = self._custom_score(name, golds, predictions)
            elif name == PER_LABEL:
                by_label = self.metrics_by_label()
                found = metrics.compute_all(compared.family, list(by_label.values()), compared.golds, compared.found)
                scores |= {key: found[inner] for key, inner in by_label.items()}
            else:
                scores |= metrics.compute_all(compared.family, [name], compared.golds, compared.found)
        return scores

    def interval(
        self, golds: Sequence[Any], predictions: Sequence[Prediction], **options: Any
    ) -> tuple[float, float] | None:
        """95% bootstrap interval of the headline score (options: seed, num_resamples, share); None: not ours."""
        from multitask_bert.utils import metrics

        if is_custom(self.metrics[0]):
            return None
        compared = self.compare(golds, predictions)
        return metrics.interval(compared.family, self.metrics[0], compared.golds, compared.found, **options)

    # What score and interval need to know of the type.

    @abstractmethod
    def compare(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> Comparison:
        """Golds and predictions in the form that the type's metrics take."""

    def for_module(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
        """`references` and `predictions` in the form that public `evaluate` modules take."""
        compared = self.compare(golds, predictions)
        return {"references": compared.golds, "predictions": compared.found}

    def metrics_by_label(self) -> dict[str, str]:
        """For `f1_per_label`: the key of each label's score, and the name that the family of metrics has for it."""
        return {key: key for key in _keys_by_label(self.labels.names)}

    # How a head that has learnt nothing is recognised (training/collapse.py).

    def answers_in(self, prediction: Prediction) -> Iterable[Hashable]:
        """The single answers that a prediction is made of: itself, or one per word."""
        return (prediction.value,)

    def frequency_logits(self) -> tuple[float, ...] | None:
        """logits_L that say how often each label occurs in train, and nothing of the example; None: not defined."""
        return None

    def always(self, answer: Hashable, gold: Any) -> Prediction:
        """The prediction that is made of one answer only, for the example with this label."""
        return Prediction(answer)

    def is_right(self, gold: Any, prediction: Prediction) -> bool:
        """Whether the prediction is the gold label, all of it; `gold` is not missing."""
        return bool(prediction.value == gold)

    @property
    def names_shown(self) -> tuple[str, ...]:
        """The labels as a user names them."""
        return self.labels.names

    def probabilities_by_label(self, scores: Sequence[float]) -> dict[str, float]:
        """Probabilities by the names of their labels, to six places."""
        return {name: round(score, 6) for name, score in zip(self.labels.names, scores, strict=True)}

    def refuse_unseen(self, label: str, example: Example, known: Iterable[str]) -> UnknownLabelError:
        """The error for a label that is not among the head's; whether train holds it or not."""
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
            f"{example.where}: label '{label}' does not occur in the training data, so it cannot be learnt "
            f"(known: {', '.join(known)}); correct it, name all labels in the head's `labels:`, or set "
            f"`unknown_labels: wrong` where it is in dev or test only{meant}",
        )

    def _custom_score(self, place: str, golds: Sequence[Any], predictions: Sequence[Prediction]) -> float:
        """The score of an `evaluate` module, or of a function of the user's own."""
        from multitask_bert.utils import metrics

        if is_function(place):
            function = users_code("metrics", place)
            inputs = self.for_module(golds, predictions)
            return float(function(**inputs)) if inputs["references"] else 0.0
        if (problem := metric_problem(place)) is not None:  # a model's folder names metrics, too
            raise InputError(f"metrics: {problem}")
        inputs = self.for_module(golds, predictions)
        if not inputs["references"]:
            return 0.0
        try:
            return metrics.compute_module(expand_user_path(place), inputs)
        except ValueError as error:
            raise InputError(str(error)) from error


def only_known(golds: Sequence[Any], predictions: Sequence[Prediction]) -> list[tuple[Any, Prediction]]:
    """Pairs of those examples whose label is not missing."""
    return [(gold, found) for gold, found in zip(golds, predictions, strict=True) if gold is not None]


def is_module(metric: str) -> bool:
    """Whether a name in `metrics:` is a place (a folder, or owner/name on the hub) rather than a metric of ours."""
    return "/" in metric


def is_function(metric: str) -> bool:
    """Whether a name in `metrics:` is a function of the user's own, as `my_module.my_metric`."""
    return "." in metric and not is_module(metric) and label_named(metric) is None


def is_custom(metric: str) -> bool:
    """Whether a metric is somebody else's code, so that it is tried before training."""
    return is_module(metric) or is_function(metric)


def key_of(metric: str) -> str:
    """Under which name a metric's score is reported."""
    if is_function(metric):
        return metric.rpartition(".")[2]
    return Path(metric).stem if is_module(metric) else metric


def _keys_by_label(names: Iterable[str]) -> list[str]:
    return [f"f1_of_{name}" for name in names]

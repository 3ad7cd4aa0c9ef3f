"""How a head's predictions are scored: by metrics of ours, an `evaluate` module, or a function of the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.records import Prediction
from multitask_bert.trust.classes import own_code_problem, users_code
from multitask_bert.trust.config_files import metric_problem
from multitask_bert.utils.files import expand_user_path
from multitask_bert.utils.metric_names import ERRORS, SHOWN, label_named

if TYPE_CHECKING:
    from multitask_bert.heads.base import Head
    from multitask_bert.utils.bootstrap import Counts
    from multitask_bert.utils.metrics import Family

PER_LABEL = "f1_per_label"  # in `metrics:`, stands for `f1_of_<label>` of every label


@dataclass(frozen=True)
class Comparison:
    """Gold labels beside predictions, as a family of metrics takes them; examples with a missing label are left out."""

    family: Family
    golds: list[Any]
    found: list[Any]


def score(head: Head, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, float]:
    """The head's configured metrics; examples with a missing label do not count."""
    from multitask_bert.utils import metrics

    compared = head.compare(golds, predictions)
    scores: dict[str, float] = {}
    for name in head.metrics:
        if is_custom(name):
            scores[key_of(name)] = _custom_score(name, head.for_module(golds, predictions))
        elif name == PER_LABEL:
            by_label = head.metrics_by_label()
            found = metrics.compute_all(compared.family, list(by_label.values()), compared.golds, compared.found)
            scores |= {key: found[inner] for key, inner in by_label.items()}
        else:
            scores |= metrics.compute_all(compared.family, [name], compared.golds, compared.found)
    return scores


def interval(
    head: Head, golds: Sequence[Any], predictions: Sequence[Prediction], **options: Any
) -> tuple[float, float] | None:
    """95% bootstrap interval of the headline score (options: seed, num_resamples, share); None for a custom metric."""
    from multitask_bert.utils import metrics

    if is_custom(head.metrics[0]):
        return None
    compared = head.compare(golds, predictions)
    return metrics.interval(compared.family, head.metrics[0], compared.golds, compared.found, **options)


@dataclass(frozen=True)
class Gain:
    """How much better one model's predictions are than another's, for the same examples."""

    metric: str
    before: float
    after: float
    interval: tuple[float, float]  # 95%, of after - before; paired bootstrap over examples


def gain(metric: str, before: Comparison, after: Comparison, **options: Any) -> Gain:
    """The gain in one metric of ours; options as in `interval`. Both sides hold the same examples, in one order."""
    made = before.family.make(metric)
    sides = (before.golds, before.found), (after.golds, after.found)
    return Gain(metric, made.value(*sides[0]), made.value(*sides[1]), made.gain_interval(*sides, **options))


def comparable_metric(head: Head) -> str | None:
    """The first of a head's metrics that is one score and of ours, so that it has intervals; None: there is none."""
    return next((name for name in head.metrics if name != PER_LABEL and not is_custom(name)), None)


def counts(head: Head, golds: Sequence[Any], predictions: Sequence[Prediction]) -> Counts | None:
    """The counts of each example, from whose sums the headline score follows; None if it does not follow from sums."""
    from multitask_bert.utils import metrics

    if is_custom(head.metrics[0]):
        return None
    compared = head.compare(golds, predictions)
    return metrics.counts(compared.family, head.metrics[0], compared.golds, compared.found)


def metric_problems(head_type: type[Head], config: HeadConfig) -> Iterator[str]:
    """Why `metrics:` cannot work, each problem as `metrics: why and the way out`."""
    metrics = head_type.metrics_of(config)
    for metric in metrics:
        if is_function(metric):
            ours = f"one of {', '.join(head_type.known_metrics)}"
            if (problem := own_code_problem("metrics", metric, ours)) is not None:
                yield problem
        elif is_module(metric):
            if metric.startswith((".", "/", "~", "$")) and not Path(expand_user_path(metric)).exists():
                yield f"metrics: there is no folder {metric}"
            elif (problem := metric_problem(metric)) is not None:
                yield f"metrics: {problem}"
        elif metric not in head_type.known_metrics and not (head_type.knows_metrics_of_label and label_named(metric)):
            known = (*head_type.known_metrics, *(SHOWN if head_type.knows_metrics_of_label else ()))
            yield f"metrics: {config.type} does not report {metric}; choose from {', '.join(known)}"
    keys = [key_of(metric) for metric in metrics]
    if twice := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
        yield f"metrics: {', '.join(twice)} would be reported twice; name each once"
    if metrics[0] in ERRORS:
        others = " or ".join(metric for metric in head_type.known_metrics if metric not in ERRORS) or "another"
        yield f"metrics: the first is the headline, of which higher is better; put {others} before {metrics[0]}"
    if metrics[0] == PER_LABEL:
        yield f"metrics: {PER_LABEL} is several scores; name the headline before it, as in [f1, {PER_LABEL}]"


def check_custom_metrics(heads: Mapping[str, Mapping[str, Head]]) -> None:
    """Load every custom metric, and let it score the head's `dummy_examples`, before any training.

    A head type without dummy examples is first scored at the first evaluation.

    Raises:
        InputError: a metric cannot be loaded or gives no score; names task, head and metric, and the way out.
    """
    for task, by_name in heads.items():
        for name, head in by_name.items():
            if any(map(is_custom, head.metrics)) and (pairs := head.dummy_examples()):
                with naming(task, name):
                    head.score([gold for gold, _ in pairs], [Prediction(value) for _, value in pairs])


@contextmanager
def naming(task: str, head: str) -> Iterator[None]:
    """Prefix the message of an `InputError` with the names of task and head."""
    try:
        yield
    except InputError as error:
        raise InputError(f"task {task}: heads.{head}.{error}") from error


def only_known(golds: Sequence[Any], predictions: Sequence[Prediction]) -> list[tuple[Any, Prediction]]:
    """The pairs of those examples whose label is not missing."""
    return [(gold, found) for gold, found in zip(golds, predictions, strict=True) if gold is not None]


def is_module(metric: str) -> bool:
    """Whether a name in `metrics:` is a module (a folder, or owner/name on the hub) rather than a metric of ours."""
    return "/" in metric


def is_function(metric: str) -> bool:
    """Whether a name in `metrics:` is a function of the user's own, as `my_module.my_metric`."""
    return "." in metric and not is_module(metric) and label_named(metric) is None


def is_custom(metric: str) -> bool:
    """Whether a metric is somebody else's code, which is tried before training."""
    return is_module(metric) or is_function(metric)


def key_of(metric: str) -> str:
    """The name under which a metric's score is reported."""
    if is_function(metric):
        return metric.rpartition(".")[2]
    return Path(metric).stem if is_module(metric) else metric


def keys_by_label(names: Iterable[str]) -> list[str]:
    """The names under which `f1_per_label` reports its scores."""
    return [f"f1_of_{name}" for name in names]


def _custom_score(metric: str, inputs: Mapping[str, Sequence[Any]]) -> float:
    from multitask_bert.utils import metrics

    if is_function(metric):
        function = users_code("metrics", metric, otherwise="a metric of ours")
        return float(function(**inputs)) if inputs["references"] else 0.0
    if (problem := metric_problem(metric)) is not None:  # the metric may come from a saved model's folder
        raise InputError(f"metrics: {problem}")
    if not inputs["references"]:
        return 0.0
    try:
        return metrics.compute_module(expand_user_path(metric), inputs)
    except ValueError as error:
        raise InputError(str(error)) from error

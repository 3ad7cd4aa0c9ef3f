"""Metrics, as `evaluate` modules that load without a network.

`evaluate.load("f1")` fetches a script from the hub; these are classes, so nothing is fetched. Classification and
multi-label metrics equal scikit-learn's, correlations scipy's. Entity metrics count whole spans of words: `f1`,
`precision` and `recall` in the default mode of conlleval and seqeval (an I- after O or after another type begins an
entity), `…_strict` in strict IOB2 (only B- begins one), as `seqeval(mode="strict", scheme=IOB2)`; averages are over
all entities (micro). Answers are scored as SQuAD's script does. Where a ratio is 0/0 it counts as 0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import evaluate

from multitask_bert.utils.bootstrap import Counts, Floats, Interval
from multitask_bert.utils.metrics.answers import AnswerMetric
from multitask_bert.utils.metrics.base import CountedMetric, Family
from multitask_bert.utils.metrics.entities import EntityMetric, default_spans, strict_spans
from multitask_bert.utils.metrics.labels import NO_PREDICTION, LabelMetric, TagMetric
from multitask_bert.utils.metrics.multilabel import MultilabelMetric
from multitask_bert.utils.metrics.regression import NumberMetric

__all__ = [
    "ANSWERS", "CLASSIFICATION", "ENTITIES", "MULTILABEL", "NO_PREDICTION", "NUMBERS", "TAGS",
    "AnswerMetric", "CountedMetric", "EntityMetric", "Family", "LabelMetric", "MultilabelMetric", "NumberMetric",
    "TagMetric", "compute_all", "compute_module", "counts", "default_spans", "interval", "scores_of_sums",
    "strict_spans",
]  # fmt: skip

FORMAT_PROBLEM = "match the expected format"  # in the error of `evaluate` where features and inputs differ
_OF_LABELS = ("f1", "f1_weighted", "f1_micro", "precision", "recall", "accuracy", "matthews_correlation")
CLASSIFICATION = Family(LabelMetric, _OF_LABELS)
TAGS = Family(TagMetric, _OF_LABELS)
ENTITIES = Family(
    EntityMetric, ("f1", "precision", "recall", "f1_strict", "precision_strict", "recall_strict", "accuracy")
)
MULTILABEL = Family(
    MultilabelMetric, ("f1", "f1_micro", "f1_samples", "f1_weighted", "exact_match", "precision", "recall")
)
NUMBERS = Family(NumberMetric, ("pearson", "spearman", "mse", "mae"))
ANSWERS = Family(AnswerMetric, ("exact_match", "f1"))


def compute_all(family: Family, names: Sequence[str], golds: Sequence[Any], found: Sequence[Any]) -> dict[str, float]:
    """The named metrics of `found` against `golds`, in the order of the names; 0.0 where there is nothing to score."""
    if not golds:
        return dict.fromkeys(names, 0.0)
    return {name: family.make(name).value(golds, found) for name in names}


def interval(family: Family, name: str, golds: Sequence[Any], found: Sequence[Any], **options: Any) -> Interval:
    """95% bootstrap interval of the named metric; options as in `multitask_bert.utils.bootstrap`."""
    return family.make(name).interval(golds, found, **options) if golds else (0.0, 0.0)


def counts(family: Family, name: str, golds: Sequence[Any], found: Sequence[Any]) -> Counts | None:
    """The counts of each example, from whose sums the named metric follows; None if it does not follow from sums."""
    metric = family.make(name)
    if not golds or not metric.is_of_sums:
        return None
    return Counts(type(metric).__name__, name, metric.rows(golds, found))


def scores_of_sums(counted: Counts, sums_RK: Floats) -> Floats:
    """The scores that follow from sums of `counted.rows_NK`.

    Raises:
        KeyError: there is no such family of metrics.
    """
    families = {
        family.metric.__name__: family for family in (CLASSIFICATION, TAGS, ENTITIES, MULTILABEL, NUMBERS, ANSWERS)
    }
    return families[counted.family].make(counted.metric).statistic(sums_RK)


def compute_module(module: str, inputs: Mapping[str, Sequence[Any]]) -> float:
    """The score of an `evaluate` module that is not ours (a folder, a file or a hub name); its code is run.

    Of several numbers that a module returns, the one with the module's name is the score.

    Raises:
        ValueError: it cannot be loaded, fails, or returns no such number; the message tells the way out.
    """
    try:
        loaded = evaluate.load(module)
    except Exception as error:  # the module's own code may raise anything
        raise ValueError(f"metrics: {module} cannot be loaded ({_in_a_line(error)}); {_way_in(error)}") from error
    try:
        scores = loaded.compute(**inputs)
    except Exception as error:  # as above
        if FORMAT_PROBLEM in str(error):
            raise ValueError(
                f"metrics: {module} takes {_begin(loaded.features)}, but this head gives {_shown(inputs)}; change the "
                f"`features` in its `_info` (see Metrics in docs/tasks/options.md)"
            ) from error
        raise ValueError(
            f"metrics: {module} fails on {_shown(inputs)} ({_in_a_line(error)}); correct its `_compute`, or remove it"
        ) from error
    return _score_named(Path(module).stem, module, scores)


def _score_named(name: str, module: str, scores: Any) -> float:
    """The number called `name` among what a module returned, or its only one."""
    wanted = f"its `_compute` must return a dict with a number called {name}, as in {{'{name}': 0.5}}"
    if not isinstance(scores, Mapping):
        raise ValueError(f"metrics: {module} returns {str(scores)[:60]!r}, which is no dict; {wanted}")
    numbers = {key: value for key, value in scores.items() if isinstance(value, Real) and not isinstance(value, bool)}
    if name in scores and name not in numbers:
        raise ValueError(f"metrics: {module} returns {name}={str(scores[name])[:60]!r}, which is no number; {wanted}")
    if not numbers:
        returned = ", ".join(f"{key}={str(value)[:60]!r}" for key, value in scores.items()) or "nothing"
        raise ValueError(f"metrics: {module} returns {returned}, and no number; {wanted}")
    if name not in numbers and len(numbers) > 1:
        raise ValueError(f"metrics: {module} returns {', '.join(numbers)}; one of them must be called {name}")
    return float(numbers.get(name, next(iter(numbers.values()))))


def _way_in(error: Exception) -> str:
    """The way out for a module that cannot be loaded."""
    if isinstance(error, FileNotFoundError | ConnectionError):
        return "name a folder that holds one"
    missing = re.search(r"install the following dependencies\[(.*?)\]", str(error))
    if missing is None:
        return "correct its file, or remove it"
    if "," in missing[1].replace("', '", ""):  # `import a, b` is read as one library of the name `a,`
        return "write one import per line in its file"
    return "install what it imports"


def _in_a_line(error: Exception) -> str:
    """The type and first line of an error."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def _shown(inputs: Mapping[str, Sequence[Any]]) -> str:
    """As in `references [0, 1] and predictions [0, 0]`; the first two."""
    return " and ".join(f"{side} {_begin(list(values[:2]))}" for side, values in inputs.items())


def _begin(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:200]}…"

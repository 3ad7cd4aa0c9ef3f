"""Bootstrap intervals beside plain recomputation of resampled examples, and beside what theory says."""

from __future__ import annotations

import time
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
import scipy.stats

from multitask_bert.config.schema import HeadConfig
from multitask_bert.heads import HEAD_TYPES, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import Prediction
from multitask_bert.utils import metrics
from multitask_bert.utils.bootstrap import interval_by_recomputing, interval_of_counts


def some_data(family: str, num_examples: int, random: Random) -> tuple[list[Any], list[Any]]:
    """Golds and mostly right predictions."""

    def tags() -> list[str]:
        return [random.choice(["O", "O", "B-PER", "I-PER", "B-LOC"]) for _ in range(random.randint(1, 6))]

    make = {
        "classification": lambda: random.choice("aaabc"),
        "tags": tags,
        "entities": tags,
        "multilabel": lambda: [random.choice([0, 1, 1, -1]) for _ in range(3)],
        "numbers": lambda: random.choice([1.0, 2.0, 3.5, 4.0]),
        "answers": lambda: [random.choice(["a cat", "black dog", "two dogs"])],
    }[family]
    golds = [make() for _ in range(num_examples)]
    found = []
    for gold in golds:
        other = gold if random.random() < 0.6 else make()
        if family in ("tags", "entities"):
            other = [random.choice([tag, tag, "O"]) for tag in gold]
        elif family == "multilabel":
            other = [abs(cell) for cell in other]
        elif family == "answers":
            other = other[0]
        elif family == "numbers":
            other = other + random.random()
        found.append(other)
    return golds, found


FAMILIES = {
    "classification": metrics.CLASSIFICATION, "tags": metrics.TAGS, "entities": metrics.ENTITIES,
    "multilabel": metrics.MULTILABEL, "numbers": metrics.NUMBERS, "answers": metrics.ANSWERS,
}  # fmt: skip
EVERY_METRIC = [(family, name) for family, table in FAMILIES.items() for name in table.names]


@pytest.mark.parametrize(("family", "name"), [pair for pair in EVERY_METRIC if pair[1] != "spearman"])
def test_the_score_of_a_resample_follows_from_the_sums_of_its_examples(family: str, name: str) -> None:
    """What resampling rests on: rows that are drawn several times sum to the score of the repeated examples."""
    random = Random(3)
    golds, found = some_data(family, 25, random)
    metric = FAMILIES[family].make(name)
    rows_NK = metric.rows(golds, found)
    for _ in range(5):
        drawn = random.choices(range(25), k=25)
        from_sums = metric.statistic(rows_NK[drawn].sum(axis=0, keepdims=True))[0]
        again = metrics.compute_all(FAMILIES[family], [name], [golds[i] for i in drawn], [found[i] for i in drawn])
        assert from_sums == pytest.approx(again[name], abs=1e-9)


@pytest.mark.parametrize(("family", "name"), EVERY_METRIC)
def test_a_metric_used_as_an_evaluate_module_gives_the_score_of_a_run_to_the_bit(family: str, name: str) -> None:
    golds, found = some_data(family, 40, Random(2))
    as_module = FAMILIES[family].make(name).compute(references=golds, predictions=found)
    assert as_module == metrics.compute_all(FAMILIES[family], [name], golds, found)


@pytest.mark.parametrize("family", FAMILIES)
def test_intervals_from_counts_agree_with_plain_recomputation(family: str) -> None:
    golds, found = some_data(family, 60, Random(1))
    name = FAMILIES[family].names[0]
    metric = FAMILIES[family].make(name)
    rows_NK = metric.rows(golds, found)

    def score(indices: Sequence[int]) -> float:
        return float(metric.statistic(rows_NK[indices].sum(axis=0, keepdims=True))[0])

    fast = metrics.interval(FAMILIES[family], name, golds, found, num_resamples=4000)
    plain = interval_by_recomputing(score, len(golds), num_resamples=4000)
    assert fast == pytest.approx(plain, abs=0.25 * (plain[1] - plain[0]))
    value = metrics.compute_all(FAMILIES[family], [name], golds, found)[name]
    assert fast[0] < value < fast[1]


def test_the_interval_of_spearman_ranks_each_resample_anew() -> None:
    gold, found = some_data("numbers", 30, Random(5))
    ours = metrics.interval(metrics.NUMBERS, "spearman", gold, found, seed=3, num_resamples=50)

    def score(indices: Any) -> float:
        return float(scipy.stats.spearmanr(np.array(gold)[indices], np.array(found)[indices]).statistic)

    assert ours == pytest.approx(interval_by_recomputing(score, 30, seed=3, num_resamples=50))


def test_the_interval_of_an_accuracy_is_near_the_normal_one() -> None:
    right_N = (np.arange(1000) < 700).astype(float)
    lower, upper = interval_of_counts(
        np.stack([right_N, np.ones(1000)], axis=1), lambda sums_RK: sums_RK[:, 0] / sums_RK[:, 1], num_resamples=5000
    )
    half = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert (lower, upper) == pytest.approx((0.7 - half, 0.7 + half), abs=0.003)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(0)
    num_covered = 0
    for trial in range(300):
        right_N = (generator.random(200) < 0.7).astype(float)
        rows = np.stack([right_N, np.ones(200)], axis=1)
        lower, upper = interval_of_counts(rows, lambda sums: sums[:, 0] / sums[:, 1], seed=trial, num_resamples=400)
        num_covered += lower <= 0.7 <= upper
    assert 0.91 <= num_covered / 300 <= 0.98


def test_a_seed_decides_the_interval_and_a_larger_share_widens_it() -> None:
    golds, found = some_data("classification", 50, Random(2))

    def of(**options: Any) -> tuple[float, float]:
        return metrics.interval(metrics.CLASSIFICATION, "f1", golds, found, **options)

    assert of(seed=5) == of(seed=5) != of(seed=6)
    assert of(share=0.99)[0] < of()[0] < of()[1] < of(share=0.99)[1]


@pytest.mark.parametrize(("family", "name"), EVERY_METRIC)
def test_one_example_has_an_interval_of_no_width(family: str, name: str) -> None:
    golds, found = some_data(family, 1, Random(0))
    lower, upper = metrics.interval(FAMILIES[family], name, golds, found, num_resamples=20)
    assert lower == upper == metrics.compute_all(FAMILIES[family], [name], golds, found)[name]


def test_no_example_has_the_interval_of_its_score() -> None:
    assert metrics.interval(metrics.ENTITIES, "f1", [], []) == (0.0, 0.0)


@pytest.mark.parametrize(("family", "name"), [("entities", "f1"), ("classification", "f1"), ("answers", "f1")])
def test_a_thousand_resamples_of_five_thousand_examples_take_less_than_two_seconds(family: str, name: str) -> None:
    golds, found = some_data(family, 5000, Random(0))
    start = time.process_time()
    metrics.interval(FAMILIES[family], name, golds, found)
    assert time.process_time() - start < 2.0


def test_a_head_gives_the_interval_of_its_headline_without_missing_labels() -> None:
    golds, found = some_data("classification", 40, Random(4))
    head = make_head(HeadConfig("classification", metrics=["accuracy", "f1"]), LabelSet(("a", "b", "c")))
    predictions = [Prediction(value) for value in found]
    expected = metrics.interval(metrics.CLASSIFICATION, "accuracy", golds, found, seed=7)
    assert head.interval([*golds, None], [*predictions, Prediction("a")], seed=7) == expected


@pytest.mark.parametrize("kind", HEAD_TYPES)
def test_a_headline_from_a_custom_module_has_no_interval(kind: str) -> None:
    head = make_head(HeadConfig(kind, metrics=["owner/metric"]), LabelSet(("a", "b")))
    assert head.interval([], []) is None

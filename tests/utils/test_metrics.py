"""Our metrics beside the libraries that define them, on random input and at the edges."""

from __future__ import annotations

import warnings
from random import Random

import pytest
import seqeval.metrics
import sklearn.metrics
from seqeval.scheme import IOB2

from multitask_bert.utils import metrics

TAGS = ("O", "O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG-X", "I-ORG-X")
SEEDS = range(30)


def random_tags(random: Random) -> tuple[list[list[str]], list[list[str]]]:
    """Gold and predicted tags of a few sentences; most predictions are right, all kinds of wrong ones occur."""
    gold = [[random.choice(TAGS) for _ in range(random.randint(1, 9))] for _ in range(random.randint(1, 6))]
    found = [[tag if random.random() < 0.7 else random.choice(TAGS) for tag in sentence] for sentence in gold]
    return gold, found


def of_seqeval(name: str, gold: list[list[str]], found: list[list[str]]) -> float:
    name, _, mode = name.partition("_")
    options = {"mode": "strict", "scheme": IOB2} if mode else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "ill-defined" where there is no entity: a zero for us, too
        function = getattr(seqeval.metrics, f"{name}_score")
        return float(function(gold, found, **options))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["f1", "precision", "recall", "f1_strict", "precision_strict", "recall_strict"])
def test_entity_scores_equal_seqeval(name: str, seed: int) -> None:
    gold, found = random_tags(Random(seed))
    ours = metrics.compute_all(metrics.ENTITIES, [name], gold, found)
    assert ours == {name: pytest.approx(of_seqeval(name, gold, found), abs=1e-12)}


EDGES = {
    "all O": ([["O", "O"]], [["O", "O"]]),
    "nothing found": ([["B-PER", "O"]], [["O", "O"]]),
    "nothing to find": ([["O", "O"]], [["B-PER", "O"]]),
    "everything right": ([["B-PER", "I-PER"], ["B-LOC"]], [["B-PER", "I-PER"], ["B-LOC"]]),
    "I- after O": ([["O", "I-PER", "I-PER"]], [["O", "B-PER", "I-PER"]]),
    "I- after another type": ([["B-PER", "I-LOC"]], [["B-PER", "B-LOC"]]),
    "B- after B-": ([["B-PER", "B-PER"]], [["B-PER", "I-PER"]]),
    "one word": ([["B-PER"]], [["B-LOC"]]),
}


@pytest.mark.parametrize("case", EDGES)
@pytest.mark.parametrize("name", ["f1", "f1_strict"])
def test_entity_scores_equal_seqeval_at_the_edges(case: str, name: str) -> None:
    gold, found = EDGES[case]
    ours = metrics.compute_all(metrics.ENTITIES, [name], gold, found)[name]
    assert ours == pytest.approx(of_seqeval(name, gold, found), abs=1e-12)


def test_default_and_strict_mode_differ_where_an_entity_begins_with_i() -> None:
    gold, found = [["B-PER", "O"]], [["I-PER", "O"]]
    ours = metrics.compute_all(metrics.ENTITIES, ["f1", "f1_strict"], gold, found)
    assert ours == {"f1": 1.0, "f1_strict": 0.0}


def of_sklearn(name: str, gold: list[str], found: list[str]) -> float:
    if name == "accuracy":
        return float(sklearn.metrics.accuracy_score(gold, found))
    if name == "matthews_correlation":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of a single class
            return float(sklearn.metrics.matthews_corrcoef(gold, found))
    name, _, average = name.partition("_")
    function = getattr(sklearn.metrics, f"{name}_score")
    return float(function(gold, found, average=average or "macro", zero_division=0))


@pytest.mark.parametrize("seed", SEEDS)
def test_classification_scores_equal_scikit_learn(seed: int) -> None:
    random = Random(seed)
    labels = ["negative", "neutral", "positive", "Ü"][: random.randint(1, 4)]
    gold = [random.choice(labels) for _ in range(random.randint(1, 40))]
    found = [label if random.random() < 0.6 else random.choice(labels) for label in gold]
    ours = metrics.compute_all(metrics.CLASSIFICATION, list(metrics.CLASSIFICATION), gold, found)
    assert ours == {name: pytest.approx(of_sklearn(name, gold, found), abs=1e-12) for name in metrics.CLASSIFICATION}


@pytest.mark.parametrize("table", [metrics.CLASSIFICATION, metrics.ENTITIES])
def test_nothing_to_score_is_zero_and_no_error(table: dict[str, object]) -> None:
    assert metrics.compute_all(table, list(table), [], []) == dict.fromkeys(table, 0.0)  # type: ignore[arg-type]


def test_batches_added_one_by_one_score_like_all_at_once() -> None:
    gold, found = random_tags(Random(5))
    metric = metrics.EntityMetric("f1")
    for one_gold, one_found in zip(gold, found, strict=True):
        metric.add_batch(references=[one_gold], predictions=[one_found])
    assert metric.compute() == metrics.compute_all(metrics.ENTITIES, ["f1"], gold, found)

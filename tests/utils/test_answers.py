"""Answers beside SQuAD's published script, by a table of cases and by the script's own functions."""

from __future__ import annotations

import collections
import re
import string
from random import Random

import pytest

from multitask_bert.utils import metrics
from multitask_bert.utils.metrics.answers import normalise


def of_script(golds: list[str], found: str) -> tuple[float, float]:
    """Exact match and F1 of one question, by the functions of SQuAD's evaluate-v2.0.py."""

    def normalize_answer(s: str) -> str:
        def remove_articles(text: str) -> str:
            return re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)

        def remove_punc(text: str) -> str:
            exclude = set(string.punctuation)
            return "".join(ch for ch in text if ch not in exclude)

        return " ".join(remove_articles(remove_punc(s.lower())).split())

    def compute_f1(a_gold: str, a_pred: str) -> float:
        gold_toks = normalize_answer(a_gold).split()
        pred_toks = normalize_answer(a_pred).split()
        common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
        num_same = sum(common.values())
        if len(gold_toks) == 0 or len(pred_toks) == 0:
            return int(gold_toks == pred_toks)
        if num_same == 0:
            return 0
        precision = 1.0 * num_same / len(pred_toks)
        recall = 1.0 * num_same / len(gold_toks)
        return (2 * precision * recall) / (precision + recall)

    gold_answers = [a for a in golds if normalize_answer(a)] or [""]
    exact = max(int(normalize_answer(a) == normalize_answer(found)) for a in gold_answers)
    return float(exact), max(compute_f1(a, found) for a in gold_answers)


CASES: list[tuple[list[str], str, float, float]] = [
    (["Denver Broncos"], "Denver Broncos", 1.0, 1.0),
    (["Denver Broncos"], "the Denver Broncos!", 1.0, 1.0),
    (["Denver Broncos"], "DENVER  broncos", 1.0, 1.0),
    (["Denver Broncos"], "Broncos", 0.0, 2 / 3),
    (["Denver Broncos"], "Carolina Panthers", 0.0, 0.0),
    (["Santa Clara, California"], "Santa Clara California", 1.0, 1.0),
    (["1,000"], "1000", 1.0, 1.0),
    (["don't"], "dont", 1.0, 1.0),
    (["state-of-the-art"], "stateoftheart", 1.0, 1.0),  # punctuation goes before the articles are looked for
    (["a cat", "two cats"], "two black cats", 0.0, 4 / 5),  # the best gold answer counts
    (["one two two"], "two two two", 0.0, 2 / 3),  # bags of words, not sets
    (["anthem"], "them", 0.0, 0.0),  # an article is a whole word
    (["“quoted”"], "quoted", 0.0, 0.0),  # only ASCII punctuation is removed
    (["Élysée"], "élysée", 1.0, 1.0),
    ([], "", 1.0, 1.0),  # no answer, and none predicted
    ([], "Paris", 0.0, 0.0),
    (["Paris"], "", 0.0, 0.0),
    (["the"], "", 1.0, 1.0),  # nothing but an article is no answer
    (["the", "Paris"], "", 0.0, 0.0),
    ([], "the", 1.0, 1.0),
]


@pytest.mark.parametrize(("golds", "found", "exact", "f1"), CASES)
def test_answers_score_as_in_the_published_table_and_script(
    golds: list[str], found: str, exact: float, f1: float
) -> None:
    ours = metrics.compute_all(metrics.ANSWERS, ["exact_match", "f1"], [golds], [found])
    assert ours == pytest.approx({"exact_match": exact, "f1": f1})
    assert of_script(golds, found) == pytest.approx((exact, f1))


@pytest.mark.parametrize("seed", range(30))
def test_random_answers_score_as_by_the_script(seed: int) -> None:
    random = Random(seed)
    words = ["the", "A", "an", "cat", "Cat!", "sat", "on-mat", "", "é", "3.5", "--"]
    questions = [
        ([" ".join(random.choices(words, k=random.randint(0, 4))) for _ in range(random.randint(0, 3))],
         " ".join(random.choices(words, k=random.randint(0, 4))))
        for _ in range(20)
    ]  # fmt: skip
    ours = metrics.compute_all(
        metrics.ANSWERS, ["exact_match", "f1"], [golds for golds, _ in questions], [found for _, found in questions]
    )
    theirs = [of_script(golds, found) for golds, found in questions]
    assert ours["exact_match"] == pytest.approx(sum(exact for exact, _ in theirs) / 20)
    assert ours["f1"] == pytest.approx(sum(f1 for _, f1 in theirs) / 20)


def test_normalising_twice_changes_nothing() -> None:
    for golds, found, *_ in CASES:
        for text in (*golds, found):
            assert normalise(normalise(text)) == normalise(text)

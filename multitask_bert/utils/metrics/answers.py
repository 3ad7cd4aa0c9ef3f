"""Metrics over answers in words: exact match and F1, as SQuAD's published script evaluate-v2.0.py computes them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import numpy as np

from multitask_bert.utils.bootstrap import Floats
from multitask_bert.utils.metrics.base import CountedMetric, ratio

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


class AnswerMetric(CountedMetric):
    """exact_match and f1 from 0 to 1: the best over the gold answers of a question, then the mean over questions.

    An empty string is the prediction "no answer", no gold answer at all the gold one: 1 if both say so, else 0.
    """

    prediction_feature = datasets.Value("string")
    reference_feature = datasets.Sequence(datasets.Value("string"))

    def rows(self, references: Any, predictions: Any) -> Floats:
        score = answer_f1 if self.config_name == "f1" else exact_match
        best = [best_over(score, golds, found) for golds, found in zip(references, predictions, strict=True)]
        return np.stack([np.array(best, dtype=np.float64), np.ones(len(best))], axis=1)

    def statistic(self, sums_RK: Floats) -> Floats:
        return ratio(sums_RK[:, 0], sums_RK[:, 1])


def best_over(score: Callable[[str, str], float], golds: Sequence[str], found: str) -> float:
    """The best score over the gold answers that are more than articles and punctuation."""
    return max(score(gold, found) for gold in [gold for gold in golds if normalise(gold)] or [""])


def exact_match(gold: str, found: str) -> float:
    return float(normalise(gold) == normalise(found))


def answer_f1(gold: str, found: str) -> float:
    """F1 over the bags of normalised words."""
    gold_words, found_words = normalise(gold).split(), normalise(found).split()
    if not gold_words or not found_words:
        return float(gold_words == found_words)
    num_same = (Counter(gold_words) & Counter(found_words)).total()
    return 2 * num_same / (len(gold_words) + len(found_words))


def normalise(text: str) -> str:
    """Lower case, without punctuation (ASCII), without the articles a, an and the, single spaces."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())

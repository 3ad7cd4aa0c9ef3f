"""Calibration: how far confidences are from the share of right answers, and the temperature that brings them closer.

Arrays: N examples, L labels, K bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15  # as in Guo et al. 2017
LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are tried
TINY = 1e-300  # a probability that was rounded to 0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Confidences in bins of equal width, ((k - 1)/K, k/K]; means of an empty bin are 0."""

    count_K: NDArray[np.int64]
    confidence_K: Floats  # mean confidence
    accuracy_K: Floats  # share of right answers

    @property
    def expected_calibration_error(self) -> float:
        """The mean over examples of |accuracy - confidence| of their bins (Naeini et al. 2015; Guo et al. 2017)."""
        gap_K = np.abs(self.accuracy_K - self.confidence_K)
        return float((self.count_K * gap_K).sum() / max(1, self.count_K.sum()))


def reliability(confidences: Sequence[float], are_right: Sequence[bool], *, num_bins: int = NUM_BINS) -> Reliability:
    """Sort answers into bins by the probability that was given to them."""
    confidence_N = np.asarray(confidences, dtype=np.float64)
    bin_N = np.clip(np.ceil(confidence_N * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    count_K = np.bincount(bin_N, minlength=num_bins)
    sums = (np.bincount(bin_N, weights, num_bins) for weights in (confidence_N, np.asarray(are_right, np.float64)))
    confidence_K, accuracy_K = (sum_K / np.maximum(count_K, 1) for sum_K in sums)
    return Reliability(count_K, confidence_K, accuracy_K)


def with_temperature(probabilities: Sequence[float], temperature: float) -> tuple[float, ...]:
    """The probabilities that follow from the same logits divided by a temperature; the greatest one stays greatest."""
    if temperature == 1:
        return tuple(probabilities)
    logits_L = np.log(np.maximum(probabilities, TINY))
    scores_L = np.exp((logits_L - logits_L.max()) / temperature)
    return tuple((scores_L / scores_L.sum()).tolist())


def fit_temperature(probabilities: Sequence[Sequence[float]], golds: Sequence[int]) -> float:
    """The temperature with the least negative log-likelihood of the gold labels (Guo et al. 2017, 1706.04599, 4.2).

    `probabilities`: by example, of each label at temperature 1; their numbers may differ. `golds`: indices into them.
    Without examples, 1.
    """
    if not golds:
        return 1.0
    from scipy.optimize import minimize_scalar

    logits_NL = np.full((len(golds), max(map(len, probabilities))), -np.inf)
    for row_L, of_example in zip(logits_NL, probabilities, strict=True):
        row_L[: len(of_example)] = np.log(np.maximum(of_example, TINY))
    logits_NL -= logits_NL.max(axis=1, keepdims=True)
    gold_N = logits_NL[np.arange(len(golds)), golds]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float((np.log(np.exp(logits_NL * scale).sum(axis=1)) - gold_N * scale).mean())

    # The loss is convex in 1/T, so that it has one minimum in log T, too.
    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0

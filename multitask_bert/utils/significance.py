"""Is the gain of one training over another more than chance? Both sources of chance count: examples and seeds.

The gain is the mean over seeds of the difference between two scores on one test set. Its variance has two parts:
- v, of other test examples: that of the gain over paired bootstrap resamples of the examples (Efron and Tibshirani
  1993; Koehn 2004), with the same resample for every training;
- s^2/n, of other seeds: the variance of a difference by seed, over the number n of seeds. Of two or three seeds alone
  it is too uncertain for strict levels, so it is pooled over all trainings of the study that are scored by this metric,
  assuming that they vary alike; where the n differences themselves vary more, theirs counts.
The test is Student's t on gain / sqrt(v + s^2/n), with the degrees of freedom of Satterthwaite (1946). The noise that
single examples bring to single seeds is in both parts, so the test errs towards "cannot tell".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from multitask_bert.utils.bootstrap import NUM_RESAMPLES, SHARE, Floats, Interval

POWER = 0.8  # with which a gain of the observed size should be found, where more data is advised
LEVEL = 1 - SHARE
CHUNK = 5_000_000  # weights of examples in memory at once


@dataclass(frozen=True)
class PooledVariance:
    """The variance of a score over seeds, pooled over several trainings."""

    variance: float
    freedom: int  # degrees of freedom

    @classmethod
    def of(cls, scores: Sequence[Sequence[float]]) -> PooledVariance:
        """Pool over trainings; `scores`: of each training, by seed."""
        freedom = sum(len(by_seed) - 1 for by_seed in scores if by_seed)
        squares = sum(float(np.var(by_seed)) * len(by_seed) for by_seed in scores if by_seed)
        return cls(squares / freedom if freedom else 0.0, freedom)


@dataclass(frozen=True)
class GainTest:
    """A gain, its intervals and its p-value."""

    gain: float
    num_seeds: int
    num_examples: int | None  # None: the score does not follow from sums over examples, so only the seeds count
    example_variance: float  # v
    seed_variance: float  # s^2, of the difference between two trainings of one seed
    seed_freedom: int  # degrees of freedom of s^2
    over_examples: Interval | None  # 95%, the seeds as they are
    over_seeds: Interval | None  # 95%, the examples as they are; None for one seed
    over_both: Interval | None  # 95%, by which the verdict goes
    p_value: float  # two-sided, before any correction
    is_equal: bool = False  # both scored the same with every seed and in every resample, which no variance explains


def resampled_scores(
    runs: Sequence[tuple[Floats, Callable[[Floats], Floats]]], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> list[Floats]:
    """Scores of bootstrap resamples of one test set -> scores_R of each run; the resamples are the same for all runs.

    `runs`: rows_NK and the score that follows from their sums (sums_RK -> scores_R); N is the same for all.
    """
    num_examples = len(runs[0][0])
    generator = np.random.default_rng(seed)
    parts: list[list[Floats]] = [[] for _ in runs]
    size = max(1, CHUNK // max(1, num_examples))
    for start in range(0, num_resamples, size):
        drawn = [
            np.bincount(generator.integers(num_examples, size=num_examples), minlength=num_examples)
            for _ in range(min(size, num_resamples - start))
        ]
        weight_RN = np.array(drawn, dtype=np.float64)
        for part, (rows_NK, statistic) in zip(parts, runs, strict=True):
            part.append(statistic(weight_RN @ rows_NK))
    return [np.concatenate(part) for part in parts]


def percentile_interval(values_R: Floats) -> Interval:
    low, high = np.quantile(values_R, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


def interval_of_mean(values: Sequence[float]) -> Interval | None:
    """95% interval of the mean of normally distributed values, by Student's t; None for fewer than two."""
    from scipy.stats import sem

    if len(values) < 2:
        return None
    return _t_interval(float(np.mean(values)), float(sem(values)), len(values) - 1)


def gain_test(
    difference_S: Sequence[float],
    resampled_R: Floats | None,
    *,
    num_examples: int | None = None,
    pooled: PooledVariance | None = None,
) -> GainTest:
    """Test whether a gain is other than 0.

    `difference_S`: of the scores, by seed; `resampled_R`: the mean over seeds of the difference in each resample of the
    `num_examples` test examples, None where there is none; `pooled`: of the scores over seeds, None: not known.
    """
    from scipy.stats import t

    differences = np.asarray(difference_S, dtype=np.float64)
    num_seeds, gain = len(differences), float(np.mean(differences))
    seed_variance, seed_freedom = float(np.var(differences, ddof=1)) if num_seeds > 1 else 0.0, num_seeds - 1
    if pooled is not None and pooled.freedom > 0:
        seed_variance, seed_freedom = max(seed_variance, 2 * pooled.variance), pooled.freedom
    example_variance = float(np.var(resampled_R, ddof=1)) if resampled_R is not None else 0.0
    error, freedom = _error((seed_variance / num_seeds, seed_freedom), (example_variance, (num_examples or 0) - 1))
    p_value = float(2 * t.sf(abs(gain) / error, freedom)) if error > 0 else float(gain == 0)
    has_variance = num_seeds > 1 or resampled_R is not None
    is_equal = not differences.any() and (resampled_R is None or not resampled_R.any())
    return GainTest(
        gain, num_seeds, None if resampled_R is None else num_examples, example_variance, seed_variance, seed_freedom,
        over_examples=None if resampled_R is None else percentile_interval(resampled_R),
        over_seeds=interval_of_mean(differences.tolist()),
        over_both=_t_interval(gain, error, freedom) if has_variance else None,
        p_value=p_value,
        is_equal=is_equal,
    )  # fmt: skip


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values corrected for their number (Holm 1979): rejecting those below 5% is wrong in 5% of all studies."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


@dataclass(frozen=True)
class Needed:
    """What it takes to find a gain of the observed size; None: not even a great many would do."""

    seeds: int | None  # with the test set as it is
    examples: int | None  # with the seeds as they are
    times: float | None  # factor on both


MAX_TIMES = 10_000  # so many times the seeds or examples of a study are no advice


def needed(test: GainTest, *, num_tests: int) -> Needed | None:
    """How many seeds or examples it takes to find the observed gain with a power of 80% among `num_tests` tests.

    A gain g is found by n' seeds and N' examples if g >= (t(1 - 0.05/(2 m)) + t(0.8)) sqrt(v N/N' + s^2/n'), with m
    tests (Holm's strictest level) and the quantiles of Student's t with the degrees of freedom that n' and N' bring. So
    it is always more than the study had. None if the gain is 0, or nothing varies.
    """
    from scipy.stats import t

    if test.gain == 0 or test.example_variance + test.seed_variance <= 0:
        return None
    num_examples = test.num_examples or 0

    def is_found(more_seeds: float, more_examples: float) -> bool:
        num_seeds = more_seeds * test.num_seeds
        seed_freedom = test.seed_freedom * (num_seeds - 1) / max(1, test.num_seeds - 1)
        error, freedom = _error(
            (test.seed_variance / num_seeds, seed_freedom),
            (test.example_variance / more_examples, num_examples * more_examples - 1),
        )
        return abs(test.gain) >= float(t.isf(LEVEL / (2 * num_tests), freedom) + t.ppf(POWER, freedom)) * error

    seeds = _least_factor(lambda times: is_found(times, 1))
    examples = _least_factor(lambda times: is_found(1, times)) if test.num_examples is not None else None
    return Needed(
        None if seeds is None else math.ceil(seeds * test.num_seeds),
        None if examples is None else math.ceil(examples * num_examples),
        _least_factor(lambda times: is_found(times, times)),
    )


def _least_factor(is_enough: Callable[[float], bool]) -> float | None:
    """The least factor of at least 1 that is enough, to 0.1%; None above `MAX_TIMES`."""
    low, high = 1.0, 1.0
    while not is_enough(high):
        low, high = high, 2 * high
        if low > MAX_TIMES:
            return None
    while high - low > 0.001 * low:
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _error(*parts: tuple[float, float]) -> tuple[float, float]:
    """Variances and their degrees of freedom -> the standard error of the sum, and its degrees of freedom.

    Satterthwaite (1946); a part without degrees of freedom has no say in the latter.
    """
    variance = sum(part for part, _ in parts)
    below = sum(part**2 / freedom for part, freedom in parts if freedom > 0)
    return math.sqrt(variance), variance**2 / below if below > 0 else 1.0


def _t_interval(mean: float, error: float, freedom: float) -> Interval:
    from scipy.stats import t

    half = float(t.isf(LEVEL / 2, freedom)) * error
    return mean - half, mean + half

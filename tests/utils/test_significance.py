"""Tests of gains: what they call help, and how often they are wrong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from multitask_bert.utils.bootstrap import Floats
from multitask_bert.utils.significance import (
    PooledVariance,
    gain_test,
    holm,
    needed,
    percentile_interval,
    resampled_scores,
)

NUM_SEEDS, NUM_EXAMPLES, NUM_RESAMPLES = 3, 400, 200


def accuracy(sums_R2: Floats) -> Floats:
    return sums_R2[:, 0] / sums_R2[:, 1]


def answers(
    generator: np.random.Generator, difficulty_N: Floats, ability: float, seed_deviation: float = 0.15
) -> list[Floats]:
    """Rows (right, 1) of the examples, for each seed of a training whose accuracy varies over examples and seeds."""
    rows = []
    for _ in range(NUM_SEEDS):
        margin_N = ability + seed_deviation * generator.normal() - difficulty_N + generator.normal(size=NUM_EXAMPLES)
        rows.append(np.stack([(margin_N > 0).astype(float), np.ones(NUM_EXAMPLES)], axis=1))
    return rows


def p_values_of(
    generator: np.random.Generator, abilities: list[float], *, seed: int, seed_deviation: float = 0.15
) -> list[float]:
    """Of the gains of all trainings over the first, as a study computes them: with shared examples, before Holm."""
    difficulty_N = generator.normal(size=NUM_EXAMPLES)
    trainings = [answers(generator, difficulty_N, ability, seed_deviation) for ability in abilities]
    flat = [(rows_N2, accuracy) for rows in trainings for rows_N2 in rows]
    resampled = np.array(resampled_scores(flat, seed=seed, num_resamples=NUM_RESAMPLES))
    scores_TS = np.array([[rows_N2[:, 0].mean() for rows_N2 in rows] for rows in trainings])
    means_TR = resampled.reshape(len(abilities), NUM_SEEDS, NUM_RESAMPLES).mean(axis=1)
    pooled = PooledVariance.of(scores_TS.tolist())
    return [
        gain_test(
            scores - scores_TS[0], means_R - means_TR[0], num_examples=NUM_EXAMPLES, pooled=pooled
        ).p_value
        for scores, means_R in zip(scores_TS[1:], means_TR[1:], strict=True)
    ]  # fmt: skip


@pytest.mark.slow
def test_tasks_that_do_not_help_are_said_to_help_or_hurt_in_at_most_five_percent_of_studies() -> None:
    generator = np.random.default_rng(0)
    studies = [holm(p_values_of(generator, [0.5] * 4, seed=number)) for number in range(200)]
    num_wrong = sum(min(corrected) < 0.05 for corrected in studies)
    assert num_wrong <= 0.05 * len(studies)


def test_a_gain_of_ten_points_is_found_in_most_studies() -> None:
    generator = np.random.default_rng(0)  # an ability of 0.5 answers 64% right, one of 0.95 75%
    found = [p_values_of(generator, [0.5, 0.95], seed=number, seed_deviation=0.05)[0] < 0.05 for number in range(50)]
    assert sum(found) >= 40


@pytest.mark.slow
def test_a_study_without_correction_is_wrong_more_often() -> None:
    generator = np.random.default_rng(0)
    studies = [p_values_of(generator, [0.5] * 9, seed=number) for number in range(100)]
    assert sum(min(study) < 0.05 for study in studies) > sum(min(holm(study)) < 0.05 for study in studies)


def test_equal_trainings_have_no_gain_and_nothing_would_tell_them_apart() -> None:
    rows = answers(np.random.default_rng(0), np.zeros(NUM_EXAMPLES), 0.5)
    first, second = resampled_scores([(rows[0], accuracy), (rows[0].copy(), accuracy)])
    test = gain_test([0.0, 0.0, 0.0], first - second, num_examples=NUM_EXAMPLES)
    assert (test.gain, test.p_value, test.over_examples, test.over_both) == (0.0, 1.0, (0.0, 0.0), (0.0, 0.0))
    assert needed(test, num_tests=3) is None
    assert test.is_equal
    assert not gain_test([0.0, 0.0, 0.1], first - second, num_examples=NUM_EXAMPLES).is_equal
    assert not gain_test([0.0, 0.0, 0.0], second, num_examples=NUM_EXAMPLES).is_equal


def test_without_examples_the_test_is_the_paired_t_test_over_seeds() -> None:
    first, second = np.array([0.61, 0.64, 0.60]), np.array([0.66, 0.66, 0.65])
    test = gain_test(second - first, None)
    assert test.p_value == pytest.approx(ttest_rel(second, first).pvalue)
    assert test.over_seeds == pytest.approx(test.over_both)
    assert test.over_examples is None


def test_seeds_that_vary_more_than_those_of_the_other_trainings_count() -> None:
    calm, wild = [0.0100, 0.0101, 0.0102], [-0.10, 0.01, 0.14]
    pooled = PooledVariance(variance=0.0001, freedom=8)
    assert gain_test(calm, None, pooled=pooled).seed_variance == pytest.approx(0.0002)
    assert gain_test(wild, None, pooled=pooled).seed_variance == pytest.approx(np.var(wild, ddof=1))


def test_the_pooled_variance_is_the_mean_of_those_within_trainings() -> None:
    pooled = PooledVariance.of([[0.1, 0.3], [0.5, 0.9], [0.7], []])
    assert (pooled.variance, pooled.freedom) == (pytest.approx((0.02 + 0.08) / 2), 2)


def test_resamples_are_the_same_for_all_trainings() -> None:
    generator = np.random.default_rng(3)
    rows = answers(generator, generator.normal(size=NUM_EXAMPLES), 0.5)[0]
    better = rows.copy()
    better[np.flatnonzero(rows[:, 0] == 0)[:20], 0] = 1.0  # 20 more are right
    first, second = resampled_scores([(rows, accuracy), (better, accuracy)])
    low, high = percentile_interval(second - first)
    assert 0 < low < 20 / NUM_EXAMPLES < high  # paired: the interval of the difference does not hold 0
    assert percentile_interval(first)[1] > percentile_interval(second)[0]  # unpaired, the two overlap


def test_resamples_in_parts_are_those_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = answers(np.random.default_rng(0), np.zeros(NUM_EXAMPLES), 0.5)[0]
    (whole,) = resampled_scores([(rows, accuracy)], num_resamples=50)
    monkeypatch.setattr("multitask_bert.utils.significance.CHUNK", 7 * NUM_EXAMPLES)
    (in_parts,) = resampled_scores([(rows, accuracy)], num_resamples=50)
    assert (whole == in_parts).all()


def test_holm_multiplies_the_smallest_p_value_by_the_number_of_tests() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # by hand
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_seeds_that_are_said_to_be_needed_find_the_gain_four_times_in_five() -> None:
    generator = np.random.default_rng(0)
    gain, deviation = 0.02, 0.03
    pilot = gain_test([gain - deviation, gain, gain + deviation], None)
    found = needed(pilot, num_tests=1)
    assert found is not None
    assert found.seeds is not None
    assert found.examples is None  # no number of examples would do
    studies = [gain_test(generator.normal(gain, deviation, size=found.seeds), None).p_value for _ in range(2000)]
    assert sum(p_value < 0.05 for p_value in studies) / len(studies) == pytest.approx(0.8, abs=0.05)


def test_where_examples_are_the_uncertain_part_more_examples_are_advised_and_no_seeds() -> None:
    resampled = np.random.default_rng(0).normal(0.02, 0.02, size=1000)
    found = needed(gain_test([0.019, 0.02, 0.021], resampled, num_examples=500), num_tests=1)
    assert found is not None
    assert found.seeds is None
    assert found.examples == pytest.approx(500 * 0.02**2 / (0.02 / 2.80) ** 2, rel=0.1)


def test_what_is_needed_to_tell_is_more_than_a_study_that_cannot_tell_had() -> None:
    generator = np.random.default_rng(0)
    num_short = 0
    for _ in range(200):
        differences, resampled = generator.normal(0.02, 0.01, size=2), generator.normal(0.02, 0.005, size=1000)
        test = gain_test(differences, resampled, num_examples=600, pooled=PooledVariance(0.0001, 2))
        found = needed(test, num_tests=2)
        if holm([test.p_value, 1.0])[0] < 0.05 or found is None:
            continue
        num_short += 1
        assert found.seeds is None or found.seeds > 2
        assert found.examples is None or found.examples > 600
        assert found.times is None or found.times > 1
    assert num_short > 50

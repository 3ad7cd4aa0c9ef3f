"""Expected calibration error, and the temperature with the least negative log-likelihood."""

from __future__ import annotations

import numpy as np
import pytest

from multitask_bert.utils.calibration import fit_temperature, reliability, with_temperature


def softmax(logits_NL: np.ndarray) -> np.ndarray:
    shares_NL = np.exp(logits_NL - logits_NL.max(axis=-1, keepdims=True))
    return np.asarray(shares_NL / shares_NL.sum(axis=-1, keepdims=True))


def loss(probabilities_NL: np.ndarray, golds: list[int], temperature: float) -> float:
    shares_NL = softmax(np.log(probabilities_NL) / temperature)
    return float(-np.log(shares_NL[np.arange(len(golds)), golds]).mean())


def test_the_expected_calibration_error_is_that_worked_out_by_hand() -> None:
    """Two bins: (0, 0.5] has 0.4 and 0.5, one right: |0.5 - 0.45|; (0.5, 1] has 0.9, 0.8, 1.0, one right:
    |1/3 - 0.9|. Weighted by 2/5 and 3/5: 0.02 + 0.34.
    """
    found = reliability([0.4, 0.5, 0.9, 0.8, 1.0], [True, False, True, False, False], num_bins=2)
    assert found.count_K.tolist() == [2, 3]
    assert found.confidence_K == pytest.approx([0.45, 0.9])
    assert found.accuracy_K == pytest.approx([0.5, 1 / 3])
    assert found.expected_calibration_error == pytest.approx(0.36)


def test_answers_as_often_right_as_they_say_have_no_error_and_no_answers_neither() -> None:
    assert reliability([0.5] * 4, [True, False] * 2).expected_calibration_error == 0
    assert reliability([], []).expected_calibration_error == 0


def test_a_temperature_divides_the_logits() -> None:
    logits_L = np.array([2.0, -1.0, 0.5, 40.0])
    assert with_temperature(softmax(logits_L).tolist(), 2.5) == pytest.approx(softmax(logits_L / 2.5).tolist())
    shares = tuple(softmax(logits_L).tolist())
    assert with_temperature(shares, 1.0) == shares


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_the_fitted_temperature_has_the_least_loss_and_is_near_the_true_one(true: float) -> None:
    random = np.random.default_rng(1)
    logits_NL = random.normal(0, 3, (4000, 5))
    golds = [int(random.choice(5, p=shares_L)) for shares_L in softmax(logits_NL / true)]
    probabilities_NL = softmax(logits_NL)
    fitted = fit_temperature(probabilities_NL.tolist(), golds)
    assert fitted == pytest.approx(true, rel=0.1)
    grid = np.geomspace(0.05, 20, 200)
    assert loss(probabilities_NL, golds, fitted) <= min(loss(probabilities_NL, golds, t) for t in grid)


def test_examples_with_other_numbers_of_choices_are_fitted_together() -> None:
    """Two of three answers with 0.9 are right, whatever the number of choices: T with p^(1/T) shares of 2/3."""
    probabilities = [(0.9, 0.1), (0.9, 0.1), (0.9, 0.1)]
    alone = fit_temperature(probabilities, [0, 0, 1])
    assert alone == pytest.approx(np.log(9) / np.log(2), rel=1e-3)
    assert fit_temperature([*probabilities, (0.9, 0.1, 0.0)], [0, 0, 1, 0]) < alone


def test_without_examples_the_temperature_is_one() -> None:
    assert fit_temperature([], []) == 1.0

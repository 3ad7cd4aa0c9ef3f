"""`calibrate: true`: probabilities change, decisions do not."""

from __future__ import annotations

import numpy as np
import pytest

from multitask_bert.config.schema import HeadConfig
from multitask_bert.heads import HEAD_TYPES, Head, make_head
from multitask_bert.heads.calibration import TEMPERATURE, SoftmaxHead
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample, Example, Prediction

LABELS = LabelSet(("a", "b", "c", "d", "e"))
EXAMPLE = EncodedExample(
    Example("x:1", "text", {}), input_ids=(0, 1), token_type_ids=(0, 0), word_starts=(), targets={}
)


def built(kind: str, *, calibrate: bool) -> SoftmaxHead:
    labels = LABELS if kind == "classification" else LabelSet(())
    head = make_head(HeadConfig(kind, calibrate=calibrate), labels)
    head.build(8, 0.0)
    assert isinstance(head, SoftmaxHead)
    return head


def decoded(head: Head, logits_L: np.ndarray) -> Prediction:
    return head.decode(logits_L[None] if head.num_outputs > 1 else logits_L[:, None], EXAMPLE)


def logits_with_ties(number: int) -> np.ndarray:
    """Random logits_NL as a model gives them (fp32), half of them rounded, so that many are equal."""
    random = np.random.default_rng(2)
    logits_NL = random.normal(0, 10 ** random.uniform(-6, 2, (number, 1)), (number, 5))
    logits_NL[::2] = logits_NL[::2].round()
    return np.asarray(logits_NL, dtype=np.float32)


@pytest.mark.parametrize("kind", ["classification", "choice"])
@pytest.mark.parametrize("temperature", [0.05, 0.7, 1.0, 3.0, 20.0])
def test_every_decision_stays_as_it_was_also_among_ties(kind: str, temperature: float) -> None:
    plain, calibrated = built(kind, calibrate=False), built(kind, calibrate=True)
    assert calibrated._module is not None
    calibrated._module.get_buffer(TEMPERATURE).fill_(temperature)
    for logits_L in logits_with_ties(2000):
        before, after = decoded(plain, logits_L), decoded(calibrated, logits_L)
        assert after.value == before.value
        assert after.uncalibrated == before.scores
        index = LABELS.ids[after.value] if kind == "classification" else after.value
        assert after.scores[index] == max(after.scores)
        assert sum(after.scores) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["classification", "choice"])
def test_a_head_that_does_not_calibrate_has_no_temperature_and_stays_as_it_is_when_tuned(kind: str) -> None:
    head = built(kind, calibrate=False)
    assert head._module is not None
    assert dict(head._module.named_buffers()) == {}
    predictions = [decoded(head, logits_L) for logits_L in logits_with_ties(20)]
    assert head.tune([0] * 20, predictions) == predictions
    assert predictions[0].uncalibrated == ()


def test_a_temperature_fitted_again_is_that_of_the_new_logits_alone() -> None:
    head, fresh = built("classification", calibrate=True), built("classification", calibrate=True)
    random = np.random.default_rng(3)
    first_NL, second_NL = random.normal(0, 5, (100, 5)), random.normal(0, 1, (100, 5))
    golds = [LABELS.names[index] for index in random.integers(5, size=100)]
    head.tune(golds, [decoded(head, logits_L) for logits_L in first_NL])
    between = head.temperature
    again = head.tune(golds, [decoded(head, logits_L) for logits_L in second_NL])
    once = fresh.tune(golds, [decoded(fresh, logits_L) for logits_L in second_NL])
    assert between != fresh.temperature
    assert head.temperature == fresh.temperature
    assert again == once == [decoded(fresh, logits_L) for logits_L in second_NL]


def test_missing_and_unknown_labels_do_not_count_in_the_fit() -> None:
    head, fewer = built("classification", calibrate=True), built("classification", calibrate=True)
    predictions = [decoded(head, logits_L) for logits_L in logits_with_ties(30)]
    head.tune(["a", None, "never seen"] * 10, predictions)
    fewer.tune(["a"] * 10, predictions[::3])
    assert head.temperature == fewer.temperature != 1


def test_a_shared_head_has_the_temperature_of_its_owner() -> None:
    owner, other = built("classification", calibrate=True), built("classification", calibrate=True)
    other.share(owner)
    assert owner._module is not None
    owner._module.get_buffer(TEMPERATURE).fill_(2.5)
    assert other.temperature == 2.5


@pytest.mark.parametrize("kind", ["multilabel", "regression", "tagging", "span"])
def test_a_head_type_without_a_softmax_over_labels_refuses_to_calibrate(kind: str) -> None:
    config = HeadConfig(kind, column="x", calibrate=True)
    assert f"calibrate=True: {kind} has no such option; remove it" in list(HEAD_TYPES[kind].problems(config))

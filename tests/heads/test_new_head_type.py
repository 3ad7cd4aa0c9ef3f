"""Another head type takes one file and one line in the list of types, as CONTRIBUTING says.

`FocalHead` stands for the file, `setitem` for the line; what follows is config, training, scores and predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from multitask_bert.config.checks import check
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.heads import HEAD_TYPES, check_heads
from multitask_bert.heads.classification import ClassificationHead
from multitask_bert.inference.predictor import Predictor
from multitask_bert.records import UNKNOWN, HeadOutput, TargetBatch
from tests.trained_runs import trained
from tests.training.recorded import weights_after_training

MakeConfig = Callable[..., ExperimentConfig]


class FocalHead(ClassificationHead):
    """One label per text; examples that are predicted well count less (Lin et al. 2017)."""

    gamma: ClassVar[float] = 2.0

    def loss(self, logits_ML: Tensor, target: TargetBatch) -> HeadOutput:
        loss_M = cross_entropy(logits_ML.float(), target.value_M, ignore_index=UNKNOWN, reduction="none")
        return HeadOutput(logits_ML, ((1 - (-loss_M).exp()) ** self.gamma * loss_M).sum(), target.num_known)


@pytest.fixture
def config(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> ExperimentConfig:
    """A run over `mood` with the new head."""
    monkeypatch.setitem(HEAD_TYPES, "focal", FocalHead)
    config = make_config("mood", dropout=0.0, num_epochs=8)
    config.optimizer.lr = 1e-2
    config.tasks["mood"].heads["polarity"].type = "focal"
    return config


def test_a_new_head_type_is_checked_trained_scored_and_predicts(config: ExperimentConfig, tmp_path: Path) -> None:
    check(config)
    check_heads(config)
    results = trained(config, tmp_path / "run")
    assert results["metrics"]["test"]["eval_mood_polarity_f1"] > 0.9
    (record,) = Predictor.load(tmp_path / "run").predict(["siku 3 mbaya sana"])
    assert record["predictions"]["mood"]["polarity"]["label"] == "bad"


def test_it_is_the_loss_of_the_new_type_that_is_learned_from(
    config: ExperimentConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.trainer.max_steps = 2
    focal = weights_after_training(config)
    monkeypatch.setattr(FocalHead, "gamma", 0.0)
    unfocused = weights_after_training(config)
    config.tasks["mood"].heads["polarity"].type = "classification"
    plain = weights_after_training(config)
    assert any(not torch.equal(weight, plain[name]) for name, weight in focal.items())
    for name, weight in unfocused.items():
        torch.testing.assert_close(weight, plain[name], atol=1e-6, rtol=1e-4, msg=name)

"""Each test works in its own folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from multitask_bert.utils.cost import Speed, Work
from tests.sweeps.support import FakeTraining, near

WORK = Work(num_steps=100, num_tokens=10_000, num_dev_passes=5, num_dev_tokens=400, num_test_tokens=0)
SPEED = Speed(tokens_per_second=100.0, eval_tokens_per_second=200.0, num_steps=7)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def fake_training(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    """Replaces the training of every trial, with scores that are best at a learning rate of 1e-4.

    No data is read, no speed is measured, and no report is drawn.
    """
    training = FakeTraining(near(1e-4))
    monkeypatch.setattr("multitask_bert.actions.train", training)
    monkeypatch.setattr("multitask_bert.actions.write_report", lambda study, folder: None)
    monkeypatch.setattr("multitask_bert.training.cost.count_work", lambda config: WORK)
    monkeypatch.setattr("multitask_bert.training.cost.measure_speed", lambda config, *, num_threads: SPEED)
    return training

"""Each test works in a folder of its own, and nothing is trained unless it says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweeps.sweeping import Pretence, near


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Pretence:
    """The training of every trial; best at a learning rate of 1e-4. No report is drawn, which takes longer."""
    pretence = Pretence(near(1e-4))
    monkeypatch.setattr("multitask_bert.actions.train", pretence)
    monkeypatch.setattr("multitask_bert.actions.write_report", lambda study, folder: None)
    return pretence

"""A run's folder for each module of tests: with a head of every type, or of the module's `TASKS` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.export.run_of_all_heads import make_run


@pytest.fixture(scope="module")
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    make_run(folder, tokenizer, names=getattr(request.module, "TASKS", ()))
    return folder

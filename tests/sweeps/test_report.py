"""`action=report`, at any time of a sweep, out of its folder alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.sweeps.results import study_of


@pytest.mark.parametrize("content", [None, "{", '{"study": "x"}'])
def test_a_folder_without_a_sweep_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "sweep.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=f"run_dir={tmp_path}: not the folder of a sweep"):
        study_of(tmp_path)


def test_a_study_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"study": "gone", "storage": "sqlite:///:memory:"}', encoding="utf-8")
    with pytest.raises(InputError, match="holds no study gone"):
        actions.report(ExperimentConfig(action="report", run_dir=str(tmp_path)), tmp_path)

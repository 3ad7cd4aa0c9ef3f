"""Caches of Hugging Face's libraries in a home that cannot be written; a file stands in the place of a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from multitask_bert.utils import caches
from multitask_bert.utils.caches import use_writable_caches


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    before = dict(os.environ)
    for name in [name for name in before if name.startswith(("HF_", "XDG_"))]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


def set_by_it() -> dict[str, str]:
    before = dict(os.environ)
    use_writable_caches()
    return {name: value for name, value in os.environ.items() if before.get(name) != value}


@pytest.mark.parametrize("variable", ["HOME", "XDG_CACHE_HOME", "HF_HOME"])
def test_a_cache_folder_that_cannot_be_made_is_replaced_by_a_temporary_one(
    variable: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    os.environ[variable] = str(tmp_path / "file" / "home")
    (changed,) = set_by_it().items()
    assert changed[0] == "HF_HOME"
    assert Path(changed[1]).is_dir()
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{tmp_path / 'file' / 'home'}")
    assert "cannot be written" in record.getMessage()
    assert set_by_it() == {}  # in a process that was started by this one


def test_a_cache_folder_that_can_be_made_is_used_and_not_made_yet(tmp_path: Path) -> None:
    os.environ["HOME"] = str(tmp_path)
    assert set_by_it() == {}
    assert not list(tmp_path.iterdir())


def test_models_are_still_read_from_a_cache_that_is_there_and_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.environ["HF_HOME"] = str(tmp_path)
    os.environ["HF_METRICS_CACHE"] = "of the user"
    monkeypatch.setattr(caches.os, "access", lambda place, mode: place != tmp_path)
    changed = set_by_it()
    assert changed.keys() == {"HF_MODULES_CACHE", "HF_EVALUATE_CACHE"}
    assert os.environ["HF_HOME"] == str(tmp_path)

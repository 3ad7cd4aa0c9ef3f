"""On a full disk, a run ends with a message that names the path and the way out, and earlier files stay intact."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.saving.best_model import BestModel
from multitask_bert.train_state import TrainState
from multitask_bert.training import run as running
from multitask_bert.utils import files
from tests.saving.stopped_runs import make_trainer

MakeConfig = Callable[..., ExperimentConfig]
pytestmark = pytest.mark.slow


@contextmanager
def files_limited_to(num_bytes: int) -> Iterator[None]:
    """Limit the size of files: the system writes what fits and refuses the rest, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_earlier_best_model_stays_intact_if_a_new_one_cannot_be_written(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    trainer = make_trainer(make_config("mood"), tmp_path)
    best = BestModel(tmp_path, metric="eval_loss", is_higher_better=False)
    best.save(trainer.model, trainer.tokenizer, TrainState())
    before = contents(tmp_path)
    with (
        files_limited_to(100_000),
        pytest.raises(InputError, match=r"checkpoints/best: the best model cannot be written .*resume=true"),
    ):
        best.save(trainer.model, trainer.tokenizer, TrainState())
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
    best.save(trainer.model, trainer.tokenizer, TrainState())  # there is room again
    assert contents(tmp_path) == before


def test_the_earlier_published_model_stays_intact_if_a_new_one_cannot_be_written(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)  # else there is nothing to write
    trainer = make_trainer(make_config("mood"), tmp_path)
    trainer.best.save(trainer.model, trainer.tokenizer, TrainState())
    trainer.best.publish(tmp_path / "model")
    before = contents(tmp_path)
    with (
        files_limited_to(100_000),
        pytest.raises(InputError, match=r"model: the best model cannot be written there .*it is intact in .*best"),
    ):
        trainer.best.publish(tmp_path / "model")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["reproduce.yaml", "provenance.json", "results.json"])
def test_a_run_that_cannot_write_a_file_says_so_and_can_be_resumed(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    config = make_config("mood", max_steps=2, num_epochs=1)
    write = files.write_parts

    def refuse(path: Path, parts: Iterable[bytes]) -> None:
        write(path, without_space(parts, path) if path.name == name else parts)

    def without_space(parts: Iterable[bytes], path: Path) -> Iterator[bytes]:
        yield next(iter(parts))[:10]
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_parts", refuse)
        with pytest.raises(InputError) as caught:
            running.run_training(config, tmp_path, tags={})
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: a file of the run cannot be written there ([Errno 28] No space left on")
    assert name in message
    assert f"python run.py run_dir={tmp_path} resume=true" in message
    assert not [path for path in contents(tmp_path) if name in path]
    running.run_training(replace(config, resume=True), tmp_path, tags={})
    assert (tmp_path / "results.json").is_file()
    assert (tmp_path / "model" / "model.safetensors").is_file()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 9 MB; the tiny model has 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=9m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_run_ended_by_a_full_disk_can_be_resumed_when_there_is_room(
    make_config: MakeConfig, small_disk: Path, tmp_path: Path
) -> None:
    config = make_config("mood", max_steps=3, num_epochs=1, eval_every=1)
    running.run_training(config, tmp_path / "whole", tags={})
    ballast, folder = small_disk / "ballast", small_disk / "run"
    ballast.write_bytes(bytes(4_500_000))
    with pytest.raises(InputError, match=r"cannot be written .*No space left on device.* resume=true"):
        running.run_training(config, folder, tags={})
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=60m", str(small_disk)], check=True)
    running.run_training(replace(config, resume=True), folder, tags={})
    assert contents(folder / "model") == contents(tmp_path / "whole" / "model")

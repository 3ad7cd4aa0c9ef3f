"""One process at a time writes into a run's folder; a second one, and several that cannot meet, are refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from omegaconf import OmegaConf

from multitask_bert.command_line.early_refusals import refuse_action_of_one_process
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.saving.lock import LOCK_FILE, hold, holding
from multitask_bert.utils.ranks import this_run
from tests.composing import ROOT, error_of, run_line

HOLDER = """
import multiprocessing, pathlib, sys, time
from multitask_bert.saving.lock import hold
def work():  # as a loader's worker
    print("held", flush=True)
    time.sleep(60)
hold(pathlib.Path(sys.argv[1]), "folder")
multiprocessing.get_context("fork").Process(target=work).start()
time.sleep(60)
"""
REFUSED = "another run is writing into this folder; wait for its end, or name another folder"


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process, and one that it forked, lock the folder; both are killed at the end."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # the session that this process leads


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[ExperimentConfig]:
    """The configs that reach `actions.run`, which is replaced by a function that only records them."""
    configs: list[ExperimentConfig] = []
    monkeypatch.setattr("multitask_bert.actions.run", configs.append)
    return configs


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("action", ["train", "evaluate", "resume"])
def test_a_second_run_is_refused_before_it_writes_anything(
    action: str, ran: list[ExperimentConfig], tmp_path: Path
) -> None:
    run_line("tasks=ner", f"hydra.run.dir={tmp_path / 'run'}")
    folder = shutil.copytree(tmp_path / "run", tmp_path / "of_another")  # this process holds the first
    arguments = {
        "train": ["tasks=sentiment", f"hydra.run.dir={folder}"],
        "evaluate": ["action=evaluate", f"run_dir={folder}", f"hydra.run.dir={folder}"],
        "resume": ["tasks=sentiment", f"hydra.run.dir={folder}", "resume=true"],
    }[action]
    with held_elsewhere(folder):
        before = contents(folder)
        assert error_of(*arguments) == f"error: hydra.run.dir={folder}: {REFUSED}"
        assert contents(folder) == before
    assert len(ran) == 1


@pytest.fixture
def _one_of_two(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of one of two processes, which lacks the address at which they meet."""
    this_run.cache_clear()
    monkeypatch.setenv("WORLD_SIZE", "2")
    yield
    this_run.cache_clear()


@pytest.mark.usefixtures("_one_of_two")
@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["tasks=ner"], "several processes, but RANK, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT is not"),
        (["-m", "tasks=ner", "seed=1,2"], "-m starts its runs itself; start it with python run.py -m"),
    ],
)
def test_one_of_several_processes_that_cannot_work_together_is_refused(
    arguments: list[str], problem: str, ran: list[ExperimentConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert problem in error_of(*arguments)
    assert (ran, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.usefixtures("_one_of_two")
@pytest.mark.parametrize(
    ("asked", "named"),
    [({"action": "serve"}, "action=serve"), ({"action": "train", "verify": True}, "verify=true")],
)
def test_several_processes_refuse_what_one_process_does(asked: dict[str, object], named: str) -> None:
    with pytest.raises(InputError, match=f"WORLD_SIZE=2: {named} is done by one process; do it alone"):
        refuse_action_of_one_process(OmegaConf.create(asked), "WORLD_SIZE=2", "do it alone")
    for action in ("train", "evaluate", "predict"):
        refuse_action_of_one_process(OmegaConf.create({"action": action}), "WORLD_SIZE=2", "do it alone")


def test_jobs_of_several_processes_refuse_what_one_process_does(
    ran: list[ExperimentConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    launcher = ("hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2")
    problem = error_of("-m", "action=reproduce", "run_dir=one,two", *launcher)
    assert "hydra.launcher.tasks_per_node=2: action=reproduce is done by one process; leave tasks_per_node" in problem
    assert (ran, list(tmp_path.iterdir())) == ([], [])


def test_a_single_process_of_torchrun_is_a_run(
    ran: list[ExperimentConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    run_line("tasks=ner", f"hydra.run.dir={tmp_path}")
    assert len(ran) == 1


def test_several_jobs_without_a_search_are_refused_together(ran: list[ExperimentConfig], tmp_path: Path) -> None:
    with held_elsewhere(tmp_path):
        message = error_of("-m", "tasks=ner", "seed=1,2", f"hydra.sweep.dir={tmp_path}")
    assert message == f"error: hydra.sweep.dir={tmp_path}: {REFUSED}"
    assert (ran, [path.name for path in tmp_path.iterdir()]) == ([], [LOCK_FILE])


def test_the_lock_file_of_a_killed_run_blocks_nobody(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        with pytest.raises(InputError, match="is writing into this folder"):
            hold(tmp_path, "folder")
        process.kill()
        process.wait()
        with holding(tmp_path):  # though the process that it forked is alive
            assert (tmp_path / LOCK_FILE).exists()


def test_a_folder_is_locked_once_per_process_and_released(tmp_path: Path) -> None:
    def is_free() -> bool:
        lock = FileLock(tmp_path / LOCK_FILE)
        try:
            lock.acquire(timeout=0)
        except TimeoutError:
            return False
        lock.release()
        return True

    with holding(tmp_path):
        with holding(tmp_path / "." / ""):
            assert not is_free()
        assert not is_free()
    assert is_free()


def test_a_locked_folder_that_stays_empty_is_removed(tmp_path: Path) -> None:
    for name in ("deep/empty", "full"):
        with holding(tmp_path / name):
            (tmp_path / "full").mkdir(exist_ok=True)
            (tmp_path / "full" / "file").touch()
    assert sorted(path.name for path in tmp_path.rglob("*")) == [LOCK_FILE, "deep", "file", "full"]


def test_a_file_system_without_locks_gives_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with holding(tmp_path):
        pass
    (record,) = caplog.records
    assert "cannot be locked" in record.getMessage()


@pytest.mark.slow
def test_of_two_runs_that_start_at_once_in_one_folder_one_trains_and_one_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [
        sys.executable, "run.py", "tasks=sentiment", "model=tiny", "trainer=quick", "trainer.max_steps=2",
        "logger=none", f"hydra.run.dir={folder}",
    ]  # fmt: skip
    processes = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert sorted(process.returncode for process in processes) == [0, 1]
    refused = [error for process, error in zip(processes, errors, strict=True) if process.returncode == 1]
    assert refused == [f"error: hydra.run.dir={folder}: {REFUSED}\n"]
    assert (folder / "results.json").is_file()

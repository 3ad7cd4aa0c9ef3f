"""A study in PostgreSQL: a private server on a socket in a temporary folder, where the machine has PostgreSQL."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from multitask_bert.config.sweep_config import SweepConfig
from multitask_bert.sweeps.study import open_storage
from tests.composing import run_line
from tests.sweeps.controllers import running_in, started, wait_until
from tests.sweeps.support import COMMAND, FOLDER, FakeTraining, lr_of, states_of

pytestmark = pytest.mark.slow

USER = "postgres"  # who runs the server where the tests run as root, which PostgreSQL refuses


def program(name: str) -> str | None:
    packaged = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")))  # Debian's are not on the path
    return shutil.which(name) or (packaged[-1] if packaged else None)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of a database of its own."""
    initdb, pg_ctl = program("initdb"), program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL is not installed (initdb and pg_ctl were not found)")
    pytest.importorskip("psycopg2", reason="no driver: pip install 'multitask_bert[cluster]'")
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a socket's path may have 107 characters only
    prefix = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    if prefix:
        shutil.chown(folder, USER)
    data, log = folder / "data", folder / "log"

    def call(*command: str) -> None:
        done = subprocess.run([*prefix, *command], capture_output=True, text=True, timeout=60, cwd=folder)
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        call(initdb, "-D", str(data), "-U", "sweeps", "-A", "trust", "--no-sync")
        call(pg_ctl, "-D", str(data), "-l", str(log), "-w", "-o", f"-k {folder} -c listen_addresses='' -F", "start")
        try:
            yield f"postgresql://sweeps@/postgres?host={folder}"
        finally:
            call(pg_ctl, "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def study_at(url: str) -> optuna.Study:
    return optuna.load_study(study_name=FOLDER.name, storage=open_storage(SweepConfig(storage=url), FOLDER))


def test_two_controllers_one_of_which_is_killed_finish_a_study_in_postgresql(
    server: str, fake_training: FakeTraining
) -> None:
    arguments = (f"hydra.sweeper.storage='{server}'", "hydra.sweeper.n_trials=4", "hydra.sweeper.pruner=none")
    first, second = started(0.4, *arguments), started(0.4, *arguments)
    wait_until(lambda: FOLDER.is_dir() and any(running_in(FOLDER, number) for number in range(4)))
    first.kill()
    first.communicate()
    second.communicate(timeout=120)
    run_line(*COMMAND, *arguments)
    study = study_at(server)
    assert states_of(study).count("complete") == 4
    assert states_of(study).count("fail") <= 1
    assert set(states_of(study)) <= {"complete", "fail"}
    complete = [trial for trial in study.get_trials() if trial.state.name == "COMPLETE"]
    assert len(set(map(lr_of, complete))) == 4

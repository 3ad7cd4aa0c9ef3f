"""The batch scripts for Slurm, run by a real bash, with fake commands of Slurm; `scontrol` records its arguments."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.composing import ROOT

SCRIPT = ROOT / "docs" / "slurm" / "train.sbatch"
SEVERAL = SCRIPT.with_name("train_on_several_nodes.sbatch")
SHORT = ["tasks=sentiment", "model=tiny", "logger=none", "trainer.max_steps=50", "batching.batch_size=4"]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("bash") is None, reason="this system has no bash")]


class Cluster:
    """Starts the script as Slurm does; `asked` has the arguments that `scontrol` got."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commands = folder / "bin"
        self.commands.mkdir()
        self.add_command("scontrol", f'echo "$@" >> {folder}/asked')

    def add_command(self, name: str, body: str) -> Path:
        path = self.commands / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
        return path

    def start(
        self, *arguments: str, python: str | Path = sys.executable, script: Path = SCRIPT, **more: str
    ) -> subprocess.Popen[str]:
        own = {"SLURM_JOB_ID": "17", "PYTHON": str(python), "RUNS": str(self.folder), **more}
        path = f"{self.commands}:{os.environ['PATH']}"
        return subprocess.Popen(
            ["bash", str(script), *arguments], cwd=ROOT, env={**os.environ, "PATH": path, **own}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    @property
    def asked(self) -> str:
        path = self.folder / "asked"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def wait_until(what: Callable[[], bool], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_job_whose_time_is_up_is_queued_again_and_resumed(cluster: Cluster) -> None:
    folder = cluster.folder / "slurm-17"
    metrics = folder / "metrics.jsonl"
    job = cluster.start(*SHORT)
    wait_until(lambda: metrics.is_file() and "train_loss" in metrics.read_text())
    job.send_signal(signal.SIGUSR1)  # to the batch shell alone, as --signal=B:USR1@120 has it
    output, _ = job.communicate(timeout=300)
    assert (job.returncode, cluster.asked) == (75, "requeue 17\n"), output
    assert "stopped by SIGUSR1 at step" in output
    assert not (folder / "results.json").exists()

    job = cluster.start(*SHORT)  # the same command, with the same number
    output, _ = job.communicate(timeout=300)
    assert (job.returncode, cluster.asked) == (0, "requeue 17\n"), output
    assert "resuming from step" in output
    assert (folder / "results.json").exists()


# A program in the run's place, that does one thing.


@pytest.mark.parametrize("status", [0, 1, 3, 75, 130, 137])
def test_the_exit_status_of_the_run_is_that_of_the_job(cluster: Cluster, status: int) -> None:
    job = cluster.start(python=cluster.add_command("ends", f"exit {status}"))
    job.communicate(timeout=60)
    assert (job.returncode, cluster.asked) == (status, "")


@pytest.mark.parametrize(
    ("name", "body", "status", "asked"),
    [
        ("SIGUSR1", "trap 'sleep 0.3; exit 75' USR1", 75, "requeue 17\n"),
        ("SIGUSR1", "trap 'exit 0' USR1", 0, ""),  # it was done in time
        ("SIGUSR1", "trap 'exit 1' USR1", 1, ""),  # a full disk
        ("SIGUSR1", "", 138, "requeue 17\n"),  # it was still loading
        ("SIGTERM", "trap 'sleep 0.3; exit 75' TERM", 75, ""),  # scancel
    ],
)
def test_only_a_run_that_saved_as_time_was_up_is_queued_again(
    cluster: Cluster, name: str, body: str, status: int, asked: str
) -> None:
    body += f"\ntouch {cluster.folder}/began\nfor n in {{1..600}}; do sleep 0.05; done"
    job = cluster.start(python=cluster.add_command("listens", body))
    wait_until((cluster.folder / "began").exists)
    job.send_signal(getattr(signal, name))
    output, _ = job.communicate(timeout=60)
    assert (job.returncode, cluster.asked) == (status, asked), output


def test_the_run_gets_its_settings_and_resume(cluster: Cluster) -> None:
    job = cluster.start("tasks=a b", "seed=2", python=cluster.add_command("tells", 'printf "%s\\n" "$@"'))
    output, _ = job.communicate(timeout=60)
    told = ["run.py", "tasks=a b", "seed=2", f"hydra.run.dir={cluster.folder}/slurm-17", "resume=true"]
    assert output.splitlines() == told


def add_nodes(cluster: Cluster) -> dict[str, str]:
    """Fake commands of Slurm that run two tasks here; returns the variables that Slurm sets for the job."""
    cluster.add_command(
        "scontrol", f'if [ "$1" = show ]; then echo localhost; else echo "$@" >> {cluster.folder}/asked; fi'
    )
    cluster.add_command(
        "srun",
        f"""rm -f {cluster.folder}/pids
        while [[ $1 == --* ]]; do shift; done
        for number in 0 1; do
            SLURM_PROCID=$number SLURM_LOCALID=$number SLURM_NTASKS=2 SLURM_NNODES=1 "$@" &
            echo $! >> {cluster.folder}/pids
        done
        status=0
        for pid in $(cat {cluster.folder}/pids); do wait "$pid" || status=$?; done
        exit $status
        """,
    )
    cluster.add_command("scancel", f'[ "$2" = 17.0 ] && kill "-${{1#--signal=}}" $(cat {cluster.folder}/pids)')
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_CPUS_PER_TASK": "1", "PORT": str(free.getsockname()[1])}


def test_the_processes_of_several_nodes_save_when_time_is_up_and_are_queued_again(cluster: Cluster) -> None:
    folder = cluster.folder / "slurm-17"
    metrics = folder / "metrics.jsonl"
    several = add_nodes(cluster)
    arguments = [*SHORT, "trainer.max_steps=150", "trainer.log_every=1"]
    job = cluster.start(*arguments, script=SEVERAL, **several)
    wait_until(lambda: metrics.is_file() and "train_loss" in metrics.read_text())
    job.send_signal(signal.SIGUSR1)
    output, _ = job.communicate(timeout=300)
    assert (job.returncode, cluster.asked) == (75, "requeue 17\n"), output
    assert output.count("stopped by SIGUSR1 at step") == 1
    job = cluster.start(*arguments, script=SEVERAL, **several)
    output, _ = job.communicate(timeout=300)
    assert (job.returncode, cluster.asked) == (0, "requeue 17\n"), output
    assert output.count("resuming from step") == 1
    assert json.loads((folder / "provenance.json").read_text())["processes"] == 2


def test_a_task_of_srun_has_the_variables_of_torchrun(cluster: Cluster) -> None:
    names = ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS"]
    tells = cluster.add_command("tells", f'echo {" ".join(f"${name}" for name in names)} "$@"')
    several = add_nodes(cluster)
    output, _ = cluster.start("tasks=a b", script=SEVERAL, python=tells, **several).communicate(timeout=60)
    rest = f"localhost {several['PORT']} 1 run.py tasks=a b hydra.run.dir={cluster.folder}/slurm-17 resume=true"
    assert sorted(output.splitlines()) == [f"0 2 0 2 {rest}", f"1 2 1 2 {rest}"]


@pytest.mark.parametrize("script", [SCRIPT, SEVERAL])
def test_a_script_is_one_that_bash_and_shellcheck_accept(script: Path) -> None:
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).stderr == b""
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    assert subprocess.run(["shellcheck", str(script)], capture_output=True, text=True).stdout == ""

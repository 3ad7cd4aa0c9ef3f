"""Runs that are killed without warning at any moment and resumed lose nothing, and their results are the same."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.utils.signals import INTERRUPTED, RESUME_ME
from tests.saving.killing import PHASES, Blow, run
from tests.trained_runs import logged_without_times, without_times

pytestmark = pytest.mark.slow

NUM_KILLS = int(os.environ.get("MULTITASK_BERT_NUM_KILLS", "50"))  # at drawn places; and a fifth as many at drawn times
SIGNALS = {"SIGTERM": RESUME_ME, "SIGUSR1": RESUME_ME, "SIGINT": INTERRUPTED}  # and the exit status after each
PRELOADED = [
    "tests.saving.killing", "torch.utils.tensorboard.summary", "tensorboard.summary.writer.record_writer",
    "evaluate", "datasets", "sklearn.metrics", "seqeval.metrics", "transformers.models.bert.modeling_bert",
    "transformers.models.bert.tokenization_bert",
]  # fmt: skip


@pytest.fixture(scope="module")
def processes() -> Any:
    """A factory of processes that start with everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


@pytest.fixture
def config(make_config: Callable[..., ExperimentConfig]) -> ExperimentConfig:
    """18 steps; the last checkpoint is of step 16."""
    config = make_config(num_epochs=2, eval_every=7, save_every=4, log_every=3)
    return replace(
        config, logger={"tensorboard": {"_target_": "multitask_bert.tracking.tensorboard.TensorBoardLogger"}}
    )


def outcome(folder: Path) -> dict[str, Any]:
    """Final weights, scores, logged metrics and file names of a run, without times."""
    weights = (folder / "model" / "model.safetensors").read_bytes()
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    of_the_moment = ("events.", "changes.diff")  # named after time and process; of a checkout that is being worked on
    files = sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if not path.name.startswith(of_the_moment)
    )
    return {
        "weights": hashlib.sha256(weights).hexdigest(),
        "results": without_times(results),
        "final": provenance["final"],
        "log": [line for line in logged_without_times(folder) if len(line) > 1],
        "files": files,
    }


class Runs:
    """Runs of one config, each in a process of its own."""

    def __init__(self, processes: Any, config: ExperimentConfig) -> None:
        self.processes, self.config = processes, config
        self.mean_events: dict[str, int] = {}

    def start(self, folder: Path, blow: Blow | None = None) -> tuple[Any, Any]:
        """A process that starts or resumes a run in this folder, and the pipe through which it reports."""
        told, to_tell = self.processes.Pipe(duplex=False)
        config = replace(self.config, resume=folder.exists())
        process = self.processes.Process(target=run, args=(config, folder, blow, self.mean_events, to_tell))
        process.start()
        to_tell.close()
        return process, told

    def run_undisturbed(self, folder: Path) -> float:
        """Run without a kill, count the function calls in each phase, and return the seconds that it took."""
        began = time.monotonic()
        process, told = self.start(folder)
        num_calls, num_events = told.recv()
        process.join()
        assert process.exitcode == 0
        self.mean_events = {phase: num_events[phase] // num_calls[phase] for phase in PHASES}
        return time.monotonic() - began

    def run_until(self, folder: Path, blow: Blow | None) -> tuple[int, str | None]:
        """Exit status, and the phase in which the run was killed (None: it ended before)."""
        process, told = self.start(folder, blow)
        process.join()
        return process.exitcode, told.recv() if blow is not None and told.poll() and process.exitcode else None


def draw_blows(draw: random.Random, num_kills: int) -> list[Blow]:
    """Equally many kills in each phase, and some other signals, in random order; publishing comes last of each ten."""
    blows: list[Blow] = []
    for number in range(num_kills):
        phase = list(PHASES)[number % len(PHASES)]
        blows.append(Blow(phase, draw.randint(1, 2 if phase in ("evaluating", "saving") else 4), draw.random()))
    for name in SIGNALS:
        blows += [Blow(phase, 1, draw.random(), name) for phase in ("training", "saving", "publishing")]
    draw.shuffle(blows)
    tens = [blows[first : first + 10] for first in range(0, len(blows), 10)]
    return [blow for ten in tens for blow in sorted(ten, key=lambda blow: blow.phase == "publishing")]


def test_a_run_killed_at_any_function_call_ends_as_if_undisturbed(
    processes: Any, config: ExperimentConfig, tmp_path: Path
) -> None:
    runs = Runs(processes, config)
    runs.run_undisturbed(tmp_path / "whole")
    expected = outcome(tmp_path / "whole")
    blows = draw_blows(random.Random(1), NUM_KILLS)
    num_struck: Counter[str] = Counter()
    num_runs = 0
    while blows:
        num_runs += 1
        folder = tmp_path / f"killed_{num_runs}"
        num_before = len(blows)
        while True:
            blow = blows[0] if blows else None
            status, phase = runs.run_until(folder, blow)
            if phase is None:
                break
            assert blow is not None
            assert status == (-signal.SIGKILL if blow.name == "SIGKILL" else SIGNALS[blow.name]), (num_runs, blow)
            assert phase == blow.phase
            num_struck[phase] += blow.name == "SIGKILL"
            del blows[0]
        assert status == 0, f"run {num_runs}"
        assert outcome(folder) == expected, f"run {num_runs}"
        assert len(blows) < num_before, f"{blows[0]} never falls"
    assert num_struck == dict.fromkeys(PHASES, NUM_KILLS // len(PHASES))


def test_a_run_killed_at_any_time_ends_as_if_undisturbed(
    processes: Any, config: ExperimentConfig, tmp_path: Path
) -> None:
    """The kill comes from another process, and may hit in the middle of a call into C."""
    runs = Runs(processes, config)
    runs.run_undisturbed(tmp_path / "warm-up")
    seconds = runs.run_undisturbed(tmp_path / "whole")
    expected = outcome(tmp_path / "whole")
    draw = random.Random(1)
    num_kills = num_runs = 0
    while num_kills < NUM_KILLS // 5:
        num_runs += 1
        folder = tmp_path / f"killed_{num_runs}"
        while True:
            process, _ = runs.start(folder)
            process.join(draw.uniform(0.2, 1.1) * seconds)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            num_kills += 1
        assert process.exitcode == 0, f"run {num_runs}"
        assert outcome(folder) == expected, f"run {num_runs}"


@pytest.mark.parametrize("name", SIGNALS)
def test_a_run_asked_to_end_saves_a_checkpoint_of_that_step(
    processes: Any, config: ExperimentConfig, tmp_path: Path, name: str
) -> None:
    config = replace(config, trainer=replace(config.trainer, save_every=1000, num_epochs=200))
    folder = tmp_path / "run"
    process, _ = Runs(processes, config).start(folder)
    metrics = folder / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_text(encoding="utf-8").count("train_loss") < 20:
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, getattr(signal, name))
    process.join(30)
    assert process.exitcode == SIGNALS[name]
    (snapshot,) = (folder / "checkpoints" / "last").iterdir()
    lines = metrics.read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert snapshot.name == f"step_{max(steps):08d}"

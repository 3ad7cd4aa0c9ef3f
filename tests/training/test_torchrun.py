"""`torchrun run.py`: one run in one folder, which ends as a whole, whatever happens to one of its processes."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.torchrun import Torchrun

pytestmark = pytest.mark.slow
SHORT = ["tasks=sentiment", "model=tiny", "logger=none", "batching.batch_size=8", "trainer.log_every=1"]


def wait_for_steps(folder: Path, number: int, run: Torchrun) -> None:
    """Wait until a run has logged so many steps."""
    end = time.monotonic() + 300
    while not (folder / "metrics.jsonl").is_file() or (folder / "metrics.jsonl").read_text().count("train_lr") < number:
        assert time.monotonic() < end, run.output
        assert run.process.poll() is None, run.output
        time.sleep(0.05)


def test_a_signal_to_one_process_stops_all_after_one_step_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = Torchrun(tmp_path, *SHORT, "trainer.max_steps=400", f"hydra.run.dir={folder}")
    wait_for_steps(folder, 3, run)
    run.rank(1).send_signal(signal.SIGUSR1)
    run.end()
    assert run.output.count("stopped by SIGUSR1 at step") == 1
    (checkpoint,) = (folder / "checkpoints" / "last").glob("step_*")
    assert f"stopped by SIGUSR1 at step {int(checkpoint.name[5:])};" in run.output
    assert "error" not in (folder / "run.log").read_text()
    assert run.output.count(f"run folder {folder}") == 1

    again = Torchrun(tmp_path, f"run_dir={folder}", "resume=true", "trainer.log_every=50")
    assert again.end() == 0, again.output
    assert again.output.count("resuming from step") == 1
    results = json.loads((folder / "results.json").read_text())
    assert results["steps"] == 400

    scored = Torchrun(tmp_path, "action=evaluate", f"run_dir={folder}", f"hydra.run.dir={tmp_path / 'scored'}")
    assert scored.end() == 0, scored.output
    again_scored = json.loads((tmp_path / "scored" / "results.json").read_text())
    assert again_scored["metrics"]["test"] == pytest.approx(results["metrics"]["test"], abs=1e-6)


def test_all_processes_end_soon_when_one_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = Torchrun(tmp_path, *SHORT, "trainer.max_steps=100000", f"hydra.run.dir={folder}")
    wait_for_steps(folder, 3, run)
    others = [run.rank(number) for number in range(2)]
    run.rank(1).kill()
    assert run.end(seconds=60) == 1
    assert not any(process.is_running() for process in others)
    assert run.output.count("another process of this run has ended") == 1
    assert "rank 0: another process of this run has ended" in run.output


def test_torchrun_restarts_a_run_from_its_last_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = Torchrun(
        tmp_path, *SHORT, "trainer.max_steps=200", "trainer.save_every=2", f"hydra.run.dir={folder}", max_restarts=1
    )
    wait_for_steps(folder, 9, run)
    run.rank(0).kill()
    assert run.end() == 0, run.output
    assert "resuming from step" in run.output
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "train_loss" in line] == list(range(1, 201))


def test_an_error_of_one_process_is_told_once_with_its_rank(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        path = tmp_path / "rank0" / "mood" / f"{split}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text,mood\n" + "".join(f"siku {n},{'good' if n % 2 else 'bad'}\n" for n in range(12)))
    (tmp_path / "conf" / "tasks").mkdir(parents=True)
    (tmp_path / "conf" / "tasks" / "mood.yaml").write_text(
        "mood:\n  source: {format: csv, folder: mood, train: train.csv, dev: dev.csv, test: test.csv, text: text}\n"
        "  heads: {mood_head: {type: classification, column: mood}}\n"
    )
    data = f"data_root={tmp_path}/rank${{oc.env:RANK}}"
    folder = f"hydra.run.dir={tmp_path / 'run'}"
    run = Torchrun(tmp_path, "--config-dir", f"{tmp_path / 'conf'}", "tasks=mood", "model=tiny", data, folder)
    assert run.end() == 1
    errors = [line for line in run.output.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, run.output
    assert errors[0].startswith("error: rank 1: ")
    assert f"{tmp_path}/rank1" in errors[0]
    assert errors[0].removeprefix("error: ") in (tmp_path / "run" / "run.log").read_text()


def test_more_processes_than_examples_in_a_step_are_refused(tmp_path: Path) -> None:
    run = Torchrun(tmp_path, *SHORT, "batching.batch_size=1", f"hydra.run.dir={tmp_path / 'run'}")
    assert run.end() == 1
    assert run.output.count("2 processes, but no step has more than 1 examples; set a larger batching.batch_size") == 1


def test_a_command_that_cannot_be_composed_is_told_once(tmp_path: Path) -> None:
    run = Torchrun(tmp_path, "tasks=no_such_task", f"hydra.run.dir={tmp_path / 'run'}")
    assert run.end() == 1
    assert run.output.count("tasks: there is no 'no_such_task'") == 1
    assert not (tmp_path / "run").exists()


def test_processes_that_end_right_after_their_last_sum_end_in_order(tmp_path: Path) -> None:
    program = tmp_path / "ends_at_once.py"
    program.write_text(
        "import torch\n"
        "from multitask_bert.utils.ranks import this_run\n"
        "for _ in range(3): this_run().sum_in_place(torch.ones(10_000_000))\n"
    )
    for _ in range(3):
        run = Torchrun(tmp_path, program=program)
        assert run.end() == 0, run.output

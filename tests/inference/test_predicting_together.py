"""`torchrun run.py action=predict`: the predictions of one process, and one end for all processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.utils.ranks import Ranks
from tests.torchrun import Torchrun
from tests.trained_runs import trained

pytestmark = pytest.mark.slow
MakeConfig = Callable[..., ExperimentConfig]
NUM_TEXTS = 203


@pytest.fixture(scope="module")
def finished_run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over `people` and `mood` that was trained for a step."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    trained(make_config(max_steps=1), folder)
    return folder


def write_texts(path: Path, number: int = NUM_TEXTS) -> Path:
    """Texts of 2 to 12 words, and an id each."""
    texts = (" ".join([f"siku {n}", *["Amina anaishi Arusha"] * (n % 4)]) for n in range(number))
    path.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts)))
    return path


def predict(
    run: Path, folder: Path, place: str, *arguments: str, processes: int = 2, stdin: Path | None = None
) -> Torchrun:
    """The command that predicts for a file in batches of 4 texts."""
    return Torchrun(
        folder, "action=predict", f"run_dir={run}", f"input={place}", "batching.eval_batch_size=4",
        "trainer.device=cpu", f"hydra.run.dir={folder / f'new_{processes}'}", *arguments,
        processes=processes, stdin=stdin,
    )  # fmt: skip


def test_two_processes_predict_what_one_does_in_order_to_the_byte(finished_run: Path, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.jsonl")
    for processes in (1, 2):
        run = predict(finished_run, tmp_path, str(texts), f"output={tmp_path}/{processes}.jsonl", processes=processes)
        assert run.end() == 0, run.output
        assert run.output.count("203 predictions written to") == 1
    lines = (tmp_path / "2.jsonl").read_bytes().splitlines()
    assert lines == (tmp_path / "1.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["id"] for line in lines] == list(range(NUM_TEXTS))
    assert all(set(json.loads(line)["predictions"]) == {"mood", "people"} for line in lines)


def test_standard_input_is_split_over_the_processes_too(finished_run: Path, tmp_path: Path) -> None:
    run = predict(finished_run, tmp_path, "-", stdin=write_texts(tmp_path / "texts.jsonl"))
    assert run.end() == 0, run.output
    records = [json.loads(line) for line in run.output.splitlines() if line.startswith("{")]
    assert [record["id"] for record in records] == list(range(NUM_TEXTS))


def test_standard_input_is_refused_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "this_run", lambda: Ranks(restart=1))
    with pytest.raises(InputError, match="input=-: the processes before this restart have read of it; give a file"):
        actions.predict(ExperimentConfig(action="predict", run_dir=str(tmp_path), input="-"), tmp_path)


def test_a_bad_line_is_told_once_and_an_earlier_output_stays(finished_run: Path, tmp_path: Path) -> None:
    texts, out = write_texts(tmp_path / "texts.jsonl", 30), tmp_path / "out.jsonl"
    with texts.open("a") as file:
        file.write("{\n")
    out.write_text("earlier")
    run = predict(finished_run, tmp_path, str(texts), f"output={out}")
    assert run.end() == 1
    (error,) = [line for line in run.output.splitlines() if line.startswith("error:")]
    assert error.startswith(f"error: rank 0: {texts}:31: not JSON")
    assert out.read_text() == "earlier"
    assert not list(tmp_path.glob(".*.partial"))


def test_an_error_of_another_process_is_told_once_with_its_rank(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "rank0").symlink_to(finished_run)
    (tmp_path / "rank1").mkdir()
    texts = write_texts(tmp_path / "texts.jsonl")
    run = predict(tmp_path / "rank${oc.env:RANK}", tmp_path, str(texts), f"output={tmp_path / 'out.jsonl'}")
    assert run.end() == 1
    (error,) = [line for line in run.output.splitlines() if line.startswith("error:")]
    assert error.startswith(f"error: rank 1: {tmp_path / 'rank1'}: neither a run's folder")
    assert not (tmp_path / "out.jsonl").exists()
    assert not list(tmp_path.glob(".*.partial"))


def test_nothing_is_left_of_an_output_when_a_process_is_killed(finished_run: Path, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts.jsonl", 200_000)
    run = predict(finished_run, tmp_path, str(texts), f"output={tmp_path / 'out.jsonl'}")
    end = time.monotonic() + 300
    while not any(path.stat().st_size for path in tmp_path.glob(".*.partial")):
        assert time.monotonic() < end, run.output
        assert run.process.poll() is None, run.output
        time.sleep(0.05)
    run.rank(1).kill()
    assert run.end(seconds=60) == 1
    (error,) = [line for line in run.output.splitlines() if line.startswith("error:")]
    assert error.startswith("error: rank 0: ")
    assert "ended without a word" in error
    assert not (tmp_path / "out.jsonl").exists()
    assert not list(tmp_path.glob(".*.partial"))

"""The loggers that need no server; what they write is read back by other means."""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from multitask_bert.errors import InputError
from multitask_bert.tracking import event_file
from multitask_bert.tracking.jsonl import JsonlLogger
from multitask_bert.tracking.loggers import METRICS_FILE, RunLogger, RunStart, make_loggers
from multitask_bert.tracking.reporter import Reporter
from multitask_bert.tracking.tensorboard import TensorBoardLogger

CONFIG = {"seed": 1, "optimizer": {"lr": 5e-5}}


def run_in(folder: Path) -> RunStart:
    return RunStart(folder, name="ner+sentiment", config=CONFIG, tags={"host": "here"})


def lines_in(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()]


def test_each_line_of_the_jsonl_file_is_there_as_soon_as_it_is_logged(tmp_path: Path) -> None:
    logger = JsonlLogger()
    logger.start(run_in(tmp_path))
    before = time.time()
    logger.log_metrics({"train_loss": 0.5, "train_lr": 1e-5}, step=1)
    logger.log_metrics({"eval_f1": 1.0}, step=2)

    first, second = lines_in(tmp_path)

    assert before - 0.001 <= first.pop("time") <= time.time() + 0.001  # type: ignore[operator]
    assert first == {"step": 1, "train_loss": 0.5, "train_lr": 1e-5}
    assert (second["step"], second["eval_f1"]) == (2, 1.0)
    logger.close()


def test_infinite_and_undefined_numbers_stay_valid_json_that_float_reads(tmp_path: Path) -> None:
    logger = JsonlLogger()
    logger.start(run_in(tmp_path))
    logger.log_metrics({"up": math.inf, "down": -math.inf, "nan": math.nan}, step=1)
    logger.close()

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    line = json.loads((tmp_path / METRICS_FILE).read_text(encoding="utf-8"), parse_constant=refuse)
    assert (float(line["up"]), float(line["down"])) == (math.inf, -math.inf)
    assert math.isnan(float(line["nan"]))


def test_a_line_torn_by_a_kill_does_not_spoil_the_next(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text('{"step": 1, "time": 0.0}\n{"step": 2, "ti')
    logger = JsonlLogger()
    logger.start(run_in(tmp_path))
    logger.log_metrics({"train_loss": 0.5}, step=2)
    logger.close()

    lines = (tmp_path / METRICS_FILE).read_text(encoding="utf-8").splitlines()
    assert lines[1] == '{"step": 2, "ti'
    assert json.loads(lines[2])["train_loss"] == 0.5


def test_tensorboard_shows_every_metric_grouped_by_split_at_its_step(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(log_dir="tb")
    logger.start(run_in(tmp_path))
    for step in (1, 2):
        logger.log_metrics(
            {"train_loss": 1 / step, "eval_ner_head_f1": 0.5 * step, "test_loss": 3.0, "x": 4.0}, step=step
        )
    logger.close()

    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    assert sorted(events.Tags()["scalars"]) == ["eval/ner_head_f1", "test/loss", "train/loss", "x"]
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 1.0), (2, 0.5)]
    assert [(event.step, event.value) for event in events.Scalars("eval/ner_head_f1")] == [(1, 0.5), (2, 1.0)]
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert json.loads(text.removeprefix("```json").removesuffix("```")) == CONFIG


def test_scores_of_labels_with_special_characters_stay_apart_in_the_file_and_in_tensorboard(tmp_path: Path) -> None:
    labels = ("C++", "C**", "C__", "a//b", "a/b", "http://schema.org/Person", "half \ud800", "nul\0")
    metrics = {f"eval_t_h_f1_of_{label}": index / 8 for index, label in enumerate(labels)}
    for logger in (JsonlLogger(), TensorBoardLogger()):
        logger.start(run_in(tmp_path))
        logger.log_metrics(metrics, step=1)
        logger.close()

    (line,) = lines_in(tmp_path)
    assert {name: line[name] for name in metrics} == metrics
    shown = {name.replace("\ud800", "\\ud800").replace("eval_", "eval/"): value for name, value in metrics.items()}
    assert {tag: points[0][1] for tag, points in scalars_in(tmp_path / "tensorboard").items()} == shown


@pytest.mark.parametrize("logger_class", [JsonlLogger, TensorBoardLogger])
def test_an_unwritable_folder_is_one_warning_and_no_error(
    logger_class: type[RunLogger], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "run"
    blocked.write_text("a file where the folder should be")
    reporter = Reporter([logger_class()])
    with caplog.at_level(logging.WARNING):
        reporter.start(run_in(blocked))
        for step in range(3):
            reporter.log({"train_loss": 0.5}, step=step)
        reporter.log_artifact(tmp_path)
        reporter.close("FINISHED")
        reporter.close("FINISHED")
    (record,) = caplog.records
    assert logger_class.__name__ in record.getMessage()


def test_a_full_disk_is_one_warning_and_the_run_continues(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / METRICS_FILE).symlink_to("/dev/full")
    reporter = Reporter([JsonlLogger()])
    reporter.start(run_in(tmp_path))
    for step in range(3):
        reporter.log({"train_loss": 0.5}, step=step)
    reporter.close("FAILED")
    (record,) = caplog.records
    assert "No space left" in record.getMessage()


def scalars_in(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars that TensorBoard itself reads."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_file_in_place_of_the_tensorboard_folder_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_text("no folder")
    reporter = Reporter([TensorBoardLogger()])
    reporter.start(run_in(tmp_path))
    reporter.log({"train_loss": 0.5}, step=1)
    reporter.close("FINISHED")
    (record,) = caplog.records
    assert str(tmp_path / "tensorboard") in record.getMessage()
    assert record.getMessage().endswith("the run continues")


def test_a_tensorboard_folder_that_is_removed_during_the_run_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(event_file, "FLUSH_SECONDS", 0)
    reporter = Reporter([TensorBoardLogger()])
    reporter.start(run_in(tmp_path))
    shutil.rmtree(tmp_path / "tensorboard")
    for step in range(100):  # more than any queue holds
        reporter.log({"train_loss": 0.5}, step=step)
    reporter.close("FINISHED")
    (record,) = caplog.records
    assert "No such file or directory" in record.getMessage()


def test_a_disk_that_is_full_for_a_while_leaves_a_gap_in_readable_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit on file sizes simulates a full disk: the system writes what fits, and refuses the rest."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(event_file, "FLUSH_SECONDS", 0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    logger = TensorBoardLogger()
    logger.start(run_in(tmp_path))
    logger.log_metrics({"train_loss": 0.5}, step=1)
    (file,) = (tmp_path / "tensorboard").iterdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, before[1]))
    try:
        for step in range(2, 50):
            logger.log_metrics({"train_loss": 0.5}, step=step)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    logger.log_metrics({"train_loss": 0.25}, step=50)
    logger.close()
    (record,) = caplog.records
    assert "TensorBoardLogger" in record.getMessage()
    assert scalars_in(tmp_path / "tensorboard") == {"train/loss": [(1, 0.5), (50, 0.25)]}


def test_a_resumed_run_shows_each_step_once_in_tensorboard(tmp_path: Path) -> None:
    for first, start in (0, run_in(tmp_path)), (3, replace(run_in(tmp_path), step=3, num_bytes_kept=0)):
        logger = TensorBoardLogger()
        logger.start(start)
        for step in range(first + 1, 7):
            logger.log_metrics({"train_loss": float(step + first)}, step=step)
        logger.close()
    expected = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 7.0), (5, 8.0), (6, 9.0)]
    assert scalars_in(tmp_path / "tensorboard") == {"train/loss": expected}


def test_an_argument_that_a_logger_does_not_know_is_named() -> None:
    entry = {"_target_": "multitask_bert.tracking.tensorboard.TensorBoardLogger", "log_dirr": "x"}
    with pytest.raises(InputError, match=r"logger\.tensorboard: .*unexpected keyword argument 'log_dirr'"):
        make_loggers({"tensorboard": entry})


def test_jsonl_is_always_the_first_logger() -> None:
    assert [type(logger) for logger in make_loggers({})] == [JsonlLogger]


class Failing(RunLogger):
    """A logger of one's own whose methods all fail."""

    def start(self, run: RunStart) -> None:
        raise OSError("no space left")

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        raise OSError("no space left")

    def close(self, status: str = "FINISHED") -> None:
        raise OSError("no space left")


def test_a_logger_of_ones_own_that_fails_is_one_warning_and_the_others_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = Reporter([Failing(), JsonlLogger()])
    reporter.start(RunStart(tmp_path, "run", {}))
    reporter.log({"train_loss": 0.5}, step=1)
    reporter.close("FINISHED")
    assert [record.getMessage() for record in caplog.records] == ["Failing: no space left; the run continues"]
    assert [line["train_loss"] for line in lines_in(tmp_path)] == [0.5]

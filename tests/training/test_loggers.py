"""The loggers that need no server: what they wrote, read back by other means."""

from __future__ import annotations

import json
import logging
import math
import time
from pathlib import Path

import pytest

from multitask_bert.config import InputError
from multitask_bert.training.loggers import (
    METRICS_FILE,
    JsonlLogger,
    RunLogger,
    RunStart,
    TensorBoardLogger,
    make_loggers,
)

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


@pytest.mark.parametrize("logger_class", [JsonlLogger, TensorBoardLogger])
def test_an_unwritable_folder_is_one_warning_and_no_error(
    logger_class: type[RunLogger], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "run"
    blocked.write_text("a file where the folder should be")
    logger = logger_class()
    with caplog.at_level(logging.WARNING):
        logger.start(run_in(blocked))
        for step in range(3):
            logger.log_metrics({"train_loss": 0.5}, step=step)
        logger.log_artifact(tmp_path)
        logger.close()
        logger.close()
    (record,) = caplog.records
    assert logger_class.__name__ in record.getMessage()


def test_a_disk_that_fills_up_is_one_warning_and_the_run_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / METRICS_FILE).symlink_to("/dev/full")
    logger = JsonlLogger()
    logger.start(run_in(tmp_path))
    for step in range(3):
        logger.log_metrics({"train_loss": 0.5}, step=step)
    logger.close("FAILED")
    (record,) = caplog.records
    assert "No space left" in record.getMessage()


def test_an_argument_that_a_logger_does_not_know_is_named() -> None:
    entry = {"_target_": "multitask_bert.training.loggers.TensorBoardLogger", "log_dirr": "x"}
    with pytest.raises(InputError, match=r"logger\.tensorboard: .*unexpected keyword argument 'log_dirr'"):
        make_loggers({"tensorboard": entry})


def test_jsonl_is_always_the_first_logger() -> None:
    assert [type(logger) for logger in make_loggers({})] == [JsonlLogger]

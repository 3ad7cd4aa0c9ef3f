"""The inspection of a run's data: its counts, tables and page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.reports.inspection import Inspection, inspect_data
from multitask_bert.reports.inspection_page import write_page
from multitask_bert.reports.inspection_tables import show_tables
from tests.reports.sweep_studies import check_page


@pytest.fixture
def config(make_config: Callable[..., ExperimentConfig], tmp_path: Path, data_root: Path) -> ExperimentConfig:
    """`people` and `mood`, of which a test text of `mood` also stands in the train set of `people`."""
    config = make_config(max_length=8)
    for file in data_root.glob("*/*"):
        (tmp_path / file.parent.name).mkdir(exist_ok=True)
        (tmp_path / file.parent.name / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "mood" / "test.tsv").open("a", encoding="utf-8") as file:
        file.write("\n<b>leak & co</b>\tgood\nAmina anaishi Arusha\tgood\n" + "na " * 20 + "\tbad\n")
    config.data_root = str(tmp_path)
    return config


@pytest.fixture
def inspection(config: ExperimentConfig) -> Inspection:
    return inspect_data(config)


def test_every_split_of_every_task_is_counted_and_the_leak_found(inspection: Inspection) -> None:
    sizes = {(split.task, split.split): split.num_examples for split in inspection.splits}
    assert sizes == {
        ("mood", "train"): 30, ("mood", "dev"): 30, ("mood", "test"): 33,
        ("people", "train"): 40, ("people", "dev"): 40, ("people", "test"): 40,
    }  # fmt: skip
    (leak,) = [leak for leak in inspection.leaks if (leak.task, leak.train_task) == ("mood", "people")]
    assert (leak.split, leak.num_examples, leak.share) == ("test", 1, 1 / 33)


@pytest.mark.parametrize("cached", [False, True])
def test_named_test_sets_have_figures_and_leaks_of_their_own(
    config: ExperimentConfig, tmp_path: Path, cached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mood" / "far.tsv").write_text("text\tmood\n" + 220 * "ሰላም ነው\tgood\n", encoding="utf-8")
    (tmp_path / "mood" / "near.tsv").write_text("text\tmood\nAmina anaishi Arusha\tbad\n", encoding="utf-8")
    config.tasks["mood"].source.test = None
    config.tasks["mood"].source.tests = {"near": "near.tsv", "far": "far.tsv"}
    monkeypatch.setenv("MULTITASK_BERT_CACHE", str(tmp_path / "cache") if cached else "")
    found = [inspect_data(config) for _ in range(1 + cached)][-1]
    figures = {split.split: split for split in found.splits if split.task == "mood"}
    assert {split: one.num_examples for split, one in figures.items()} == {
        "train": 30, "dev": 30, "test.near": 1, "test.far": 220,
    }  # fmt: skip
    assert figures["test.near"].labels == {"polarity": {"bad": 1}}
    assert figures["test.far"].share_unknown == 1.0
    assert figures["test.far"].num_duplicates == 219
    (leak,) = [leak for leak in found.leaks if leak.task == "mood" and leak.train_task == "people"]
    assert (leak.split, leak.num_examples, leak.share) == ("test.near", 1, 1.0)
    assert [line.partition(": ")[0] for line in found.warnings] == ["task mood.far"]
    file = io.StringIO()
    show_tables(found, file)
    starts = ("Data: mood test.far: ", "Lengths: mood test.far: ", "Labels: mood.polarity test.far: ")
    assert all(start in file.getvalue() for start in (*starts, "Leaks: mood test.near in people train: "))
    write_page(tmp_path / "inspect.html", found)
    assert (tmp_path / "inspect.html").read_text(encoding="utf-8").count("<figcaption>test.far<") == 2


def test_a_length_that_the_encoder_cannot_read_is_refused(config: ExperimentConfig) -> None:
    config.batching.max_length = 65
    with pytest.raises(InputError, match=r"batching\.max_length=65: this encoder has 64 positions"):
        inspect_data(config)


def test_without_a_terminal_each_row_is_a_line_without_control_characters(inspection: Inspection) -> None:
    file = io.StringIO()
    show_tables(inspection, file)
    lines = file.getvalue().splitlines()
    assert "\x1b" not in file.getvalue()
    assert any(line.startswith("Data: mood test: examples 33, words ") for line in lines)
    assert any(line.startswith("Lengths: mood test: 50% to ") and ", longest 22, " in line for line in lines)
    assert any(line.startswith("Leaks: mood test in people train: examples 1, share 3.0%") for line in lines)
    assert any(line.startswith("Labels: mood.polarity train: missing 0, labels bad 15  good 15") for line in lines)
    assert any(line.startswith("Training will take 18 steps (2 of warmup) in 2.00 epochs") for line in lines)


def test_a_narrow_terminal_shows_every_figure_whole(inspection: Inspection, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    show_tables(inspection, file)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()
    (row,) = [line.split() for line in lines if line.split()[:3] == ["mood", "test", "33"]]
    assert row[3].isdigit()
    assert all(len(line) <= 80 for line in lines if line.startswith(" "))


def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(inspection: Inspection, tmp_path: Path) -> None:
    write_page(tmp_path / "inspect.html", inspection)
    page = (tmp_path / "inspect.html").read_text(encoding="utf-8")
    check_page(page)
    assert "<img" not in page


def test_the_page_has_a_histogram_for_every_split_and_bars_for_every_head(
    inspection: Inspection, tmp_path: Path
) -> None:
    write_page(tmp_path / "inspect.html", inspection)
    page = (tmp_path / "inspect.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 6 + 6
    assert "<title>good: 17</title>" in page
    assert "3 more" not in page


def test_text_of_the_data_never_becomes_markup(inspection: Inspection, tmp_path: Path) -> None:
    for split in inspection.splits:
        if split.task == "mood":
            split.labels["polarity"]["<script>alert(1)</script>"] = 3  # type: ignore[index]
            split.labels["polarity"]["\x1b[31mred"] = 2  # type: ignore[index]
    write_page(tmp_path / "inspect.html", inspection)
    page = (tmp_path / "inspect.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    check_page(page)
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page
    assert r"\x1b[31mred: 2" in page

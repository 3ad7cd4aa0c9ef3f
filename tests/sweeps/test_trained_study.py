"""A study that really trains, over two copies of one task: every arm, its runs and its gains are in the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.composing import run_line

pytestmark = pytest.mark.slow
TASK = """{name}:
  source: {{format: tsv, folder: mood, train: train.tsv, dev: dev.tsv, test: test.tsv, text: text}}
  heads: {{polarity: {{type: classification, column: mood}}}}
"""


def test_a_study_trains_every_arm_reports_every_gain_and_trains_nothing_again(data_root: Path) -> None:
    Path("conf/tasks").mkdir(parents=True)
    for name in ("first", "second"):
        Path(f"conf/tasks/{name}.yaml").write_text(TASK.format(name=name), encoding="utf-8")
    command = (
        "--config-dir", "conf", "-m", "sweep=transfer", "tasks=first+second", f"data_root={data_root}", "model=tiny",
        "trainer=quick", "trainer.max_steps=4", "logger=none", "hydra.sweeper.seeds=2", "hydra.sweeper.study=copies",
        "hydra.sweeper.measure=false", "hydra.sweeper.controls=[recipe]",
    )  # fmt: skip
    run_line(*command)
    folder = Path("outputs/sweeps/copies")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [(gain["head"], gain["partners"], gain["verdict"]) for gain in report["gains"]] == [
        ("first.polarity", ["second"], "cannot tell"),
        ("second.polarity", ["first"], "cannot tell"),
    ]
    assert report["missing"] == {}
    assert {arm["name"]: len(arm["runs"]) for arm in report["arms"]} == {"first": 2, "second": 2, "first+second": 2}
    assert all(run["parameters"] > 0 for arm in report["arms"] for run in arm["runs"].values())
    assert (folder / "report.html").is_file()
    before = sorted(folder.rglob("results.json"))
    run_line(*command)
    assert sorted(folder.rglob("results.json")) == before  # resumed: nothing is trained again

"""The pages on code of the user's own (docs/own): each complete example trains, evaluates and predicts as it stands."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.composing import ROOT, error_of, run_line

PAGES = ROOT / "docs" / "own"
BLOCK = re.compile(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", re.S)
COMMAND = re.compile(r"```\nMULTITASK_BERT_ALLOW=(\w+) PYTHONPATH=\. python run\.py (.*)\n```")
MAX_LINES = 40
pytestmark = pytest.mark.slow  # whole commands

BASE = ["model=tiny", "trainer=quick", "trainer.max_steps=4"]
INCOMPLETE = """
from multitask_bert.heads.base import Head

class HalfHead(Head):
    def decode(self, logits_ML, encoded): ...
"""
TASKS_OF_PAGES = {"head": "stars", "reader": "tweets", "metric": "mood"}


def write_data(folder: Path) -> None:
    """Small files for the tasks that the pages name."""
    draw = random.Random(1)
    for name in ("stars", "mood", "tweets"):
        (folder / name).mkdir(parents=True)
    rows = [(f"w{draw.randrange(99)} day {number}", draw.choice("123")) for number in range(60)]
    (folder / "stars/train.csv").write_text("review,stars\n" + "".join(f"{text},{label}\n" for text, label in rows))
    (folder / "mood/train.csv").write_text("text,mood\n" + "".join(f"{text},m{label}\n" for text, label in rows))
    lines = "".join(f"m{label} | {text}\n" for text, label in rows)
    (folder / "tweets/train.txt").write_text("label | text\n" + lines)


@pytest.fixture
def example(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The arguments of a page's command, in a folder where its files lie."""
    text = (PAGES / f"{request.param}.md").read_text(encoding="utf-8")
    for name, content in BLOCK.findall(text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    module, command = COMMAND.findall(text)[0]
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MULTITASK_BERT_ALLOW", f"{module},incomplete")
    monkeypatch.setenv("MULTITASK_BERT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "incomplete.py").write_text(INCOMPLETE)
    write_data(tmp_path / "data")
    yield [
        *command.replace("my_conf", str(tmp_path / "my_conf")).split(),
        *BASE,
        *([] if "logger=" in command else ["logger=none"]),
    ]
    sys.modules.pop(module, None)


@pytest.mark.parametrize("example", sorted(path.stem for path in PAGES.glob("*.md")), indirect=True)
def test_example_of_a_page_trains_evaluates_and_predicts(
    example: list[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run_line(*example, "hydra.run.dir=run")
    trained = json.loads((tmp_path / "run/results.json").read_text())["metrics"]
    run_line("action=evaluate", "run_dir=run", "hydra.run.dir=again")
    evaluated = json.loads((tmp_path / "again/results.json").read_text())["metrics"]
    (tmp_path / "texts.txt").write_text("w1 day\nw2 day\n")
    run_line("action=predict", "run_dir=run", "input=texts.txt", "output=said.jsonl", "hydra.run.dir=said")
    said = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert evaluated == trained
    assert [one["text"] for one in said] == ["w1 day", "w2 day"]
    page = request.node.callspec.params["example"]
    if page in TASKS_OF_PAGES:
        assert TASKS_OF_PAGES[page] in said[0]["predictions"]
    if page == "metric":
        assert "eval_mood_mood_worst_recall" in trained["test"]
    if page == "logger":
        assert "train_loss" in (tmp_path / "run/metrics.csv").read_text()


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: str(page.stem))
def test_example_of_a_page_is_short(page: Path) -> None:
    blocks = BLOCK.findall(page.read_text(encoding="utf-8"))
    assert len(blocks) == 2
    assert sum(content.count("\n") for _, content in blocks) <= MAX_LINES


@pytest.mark.parametrize(
    ("example", "field"),
    [
        ("head", "tasks.stars.heads.stars.type=ordinal.OrdinalHead"),
        ("reader", "source.format=tweets.read_tweets"),
        ("logger", "logger.csv._target_=csv_log.CsvLogger"),
        ("mixing", "mixing.rule=curriculum.small_first"),
        ("balancer", "balancing._target_=normalizing.RunningScale"),
        ("metric", "metrics=fairness.worst_recall"),
    ],
    indirect=["example"],
)
def test_code_that_is_not_opened_is_not_imported(
    example: list[str], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = field.partition("=")[2].partition(".")[0]
    monkeypatch.delenv("MULTITASK_BERT_ALLOW")
    message = error_of(*example, "hydra.run.dir=run")
    assert field in message
    assert f"MULTITASK_BERT_ALLOW={module}" in message
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("example", "change", "message"),
    [
        ("head", "tasks.stars.heads.stars.type=ordinal.np", "ordinal.np: must be a class derived from"),
        ("head", "tasks.stars.heads.stars.type=ordinal.Missing", "ordinal.Missing: cannot be imported"),
        ("head", "tasks.stars.heads.stars.type=ordinary", "ordinary: choose one of"),
        ("head", "tasks.stars.heads.stars.type=incomplete.HalfHead", "is not complete; it needs check_label, collect"),
        ("reader", "tasks.tweets.source.format=tweets.missing", "source.format=tweets.missing: cannot be imported"),
        ("reader", "tasks.tweets.source.format=csv", "source.options: csv has none"),
        ("mixing", "mixing.rule=curriculum.large_first", "mixing.rule=curriculum.large_first: cannot be imported"),
        ("balancer", "+balancing.options.speed=3", "balancing.options={'decay': 0.9, 'speed': 3}: "),
        ("metric", "tasks.mood.heads.mood.metrics=[f1,fairness.best,fairness.worst_recall]", "metrics=fairness.best: "),
    ],
    indirect=["example"],
)
def test_own_code_that_cannot_work_is_refused_with_its_field(example: list[str], change: str, message: str) -> None:
    assert message in error_of(*example, change, "hydra.run.dir=run")


@pytest.mark.parametrize("example", ["balancer"], indirect=True)
def test_micro_batches_make_the_same_steps_with_a_balancer_that_learns(example: list[str], tmp_path: Path) -> None:
    for name, size in (("whole", "16"), ("parts", "4")):
        run_line(*example, "model.dropout=0", f"batching.micro_batch_size={size}", f"hydra.run.dir={name}")
    losses = [
        [json.loads(line).get("train_loss") for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    assert any(losses[0])
    assert [loss and pytest.approx(loss, rel=1e-4) for loss in losses[0]] == losses[1]


@pytest.mark.parametrize("example", ["balancer"], indirect=True)
def test_resumed_run_with_a_balancer_that_learns_equals_an_undisturbed_one(
    example: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multitask_bert.tracking.reporter import Reporter

    whole = [*example, "trainer.max_steps=8", "trainer.save_every=2", "trainer.log_every=1"]
    run_line(*whole, "hydra.run.dir=whole")
    log_metrics = Reporter.log

    def stop_once_after_step_five(self: Reporter, metrics: Mapping[str, float], *, step: int) -> None:
        if step > 5 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt
        log_metrics(self, metrics, step=step)

    monkeypatch.setattr(Reporter, "log", stop_once_after_step_five)
    with pytest.raises(SystemExit):
        run_line(*whole, "hydra.run.dir=killed")
    run_line("run_dir=killed", "resume=true")
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "killed")]
    assert results[0]["metrics"] == results[1]["metrics"]

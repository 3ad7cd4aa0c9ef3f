"""`action=compare`: gains with intervals, verdicts, flipped examples, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multitask_bert.config.checks import check
from multitask_bert.config.overrides import quote_compared_runs, read_value
from multitask_bert.config.schema import ExperimentConfig, HeadConfig, ModelConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import Example, Prediction, TaskResult
from multitask_bert.reports.comparison import Comparison, compare_runs, mcnemar
from multitask_bert.reports.comparison_page import sentence, write_comparison
from multitask_bert.saving.predictions import write_predictions
from tests.reports.sweep_studies import check_page

Answers = Mapping[str, Sequence[tuple[str | None, str]]]  # by task: gold and predicted label of each example
RIGHT, WRONG = ("yes", "yes"), ("yes", "no")


def run_of(folder: Path, answers: Answers, *, lr: float = 0.1, split: str = "test", texts: str = "text") -> Path:
    """The folder of a run that has only what is compared."""
    head = make_head(HeadConfig("classification", metrics=["accuracy"]), LabelSet(("no", "yes")))
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "config.yaml").write_text("action: train\n", encoding="utf-8")
    tree = {"defaults": ["schema"], "optimizer": {"lr": lr}, "tasks": {task: {"share": None} for task in answers}}
    (folder / "reproduce.yaml").write_text(json.dumps(tree), encoding="utf-8")
    write_predictions(
        folder,
        split,
        {task: {"h": head} for task in answers},
        {task: TaskResult(predictions={"h": [Prediction(found) for _, found in a]}) for task, a in answers.items()},
        {
            task: [Example(f"{task}.tsv:{n}", f"{texts} {n}", {"h": gold}) for n, (gold, _) in enumerate(a)]
            for task, a in answers.items()
        },
        limit=None,
    )
    return folder


def compared(tmp_path: Path, a: Answers, b: Answers) -> Comparison:
    return compare_runs(run_of(tmp_path / "a", a), run_of(tmp_path / "b", b, lr=0.2))


def test_a_run_that_is_right_more_often_is_better_and_the_other_way_round_worse(tmp_path: Path) -> None:
    good, bad = [RIGHT] * 80 + [WRONG] * 20, [RIGHT] * 50 + [WRONG] * 50
    (head,) = compared(tmp_path, {"t": bad}, {"t": good}).heads
    assert (head.verdict, head.gain) == ("better", pytest.approx(0.3))
    assert (head.only_a_right, head.only_b_right) == (0, 30)
    assert head.mcnemar_p == pytest.approx(2 * 0.5**30)
    assert "B is better: accuracy 0.5000 -> 0.8000, gain +0.3000 [" in sentence(head)
    (other,) = compare_runs(tmp_path / "b", tmp_path / "a").heads
    assert (other.verdict, other.gain) == ("worse", pytest.approx(-0.3))


def test_the_interval_is_that_of_the_mean_difference_per_example(tmp_path: Path) -> None:
    a = [RIGHT] * 60 + [WRONG] * 40
    b = [RIGHT] * 50 + [WRONG] * 10 + [RIGHT] * 15 + [WRONG] * 25
    (head,) = compared(tmp_path, {"t": a}, {"t": b}).heads
    differences = np.array([0] * 50 + [-1] * 10 + [1] * 15 + [0] * 25)
    error = differences.std() / len(differences) ** 0.5
    assert head.interval is not None
    assert head.interval == pytest.approx((0.05 - 1.96 * error, 0.05 + 1.96 * error), abs=0.015)
    assert head.verdict == "cannot tell"


def test_the_same_answers_are_no_difference(tmp_path: Path) -> None:
    answers = [RIGHT, WRONG] * 20
    comparison = compared(tmp_path, {"t": answers}, {"t": answers})
    (head,) = comparison.heads
    assert (head.verdict, head.interval, head.mcnemar_p) == ("no difference", (0.0, 0.0), 1.0)
    assert comparison.flips == []


def test_runs_that_are_equally_good_are_told_apart_in_about_one_of_twenty_comparisons() -> None:
    generator = np.random.default_rng(1)
    head = make_head(HeadConfig("classification", metrics=["accuracy"]), LabelSet(("no", "yes")))
    from multitask_bert.heads.scoring import gain

    golds = ["yes"] * 200
    num_told = 0
    for _ in range(200):
        a, b = ([Prediction("yes" if right else "no") for right in generator.random(200) < 0.7] for _ in range(2))
        low, high = gain("accuracy", head.compare(golds, a), head.compare(golds, b), num_resamples=400).interval
        num_told += not low <= 0 <= high
    assert 2 <= num_told <= 20


def test_the_p_value_of_mcnemars_test_is_that_of_a_fair_coin() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(1, 4) == pytest.approx(2 * (1 + 5) / 32)


def test_flipped_examples_come_with_source_text_gold_and_both_answers(tmp_path: Path) -> None:
    comparison = compared(tmp_path, {"t": [RIGHT, RIGHT, WRONG]}, {"t": [RIGHT, WRONG, RIGHT]})
    found = [(f.right, f.where, f.text, f.gold, f.answer_a, f.answer_b) for f in comparison.flips]
    assert found == [("A", "t.tsv:1", "text 1", "yes", "yes", "no"), ("B", "t.tsv:2", "text 2", "yes", "no", "yes")]


def test_tasks_that_only_one_run_has_are_named_and_settings_that_differ_are_shown(tmp_path: Path) -> None:
    comparison = compared(tmp_path, {"t": [RIGHT], "u": [RIGHT]}, {"t": [RIGHT], "v": [RIGHT]})
    assert [head.task for head in comparison.heads] == ["t"]
    assert comparison.notes == [
        f"Only {tmp_path / 'a'} has the task of test u.", f"Only {tmp_path / 'b'} has the task of test v."
    ]  # fmt: skip
    assert comparison.settings == [("tasks", "t+u", "t+v"), ("optimizer.lr", "0.1", "0.2")]


def test_examples_without_a_label_do_not_count(tmp_path: Path) -> None:
    (head,) = compared(tmp_path, {"t": [RIGHT, (None, "yes")]}, {"t": [RIGHT, (None, "no")]}).heads
    assert (head.num_examples, head.score_b) == (1, 1.0)


def test_a_spearman_gain_has_the_interval_of_recomputed_ranks() -> None:
    from multitask_bert.heads.scoring import gain

    generator = np.random.default_rng(0)
    golds = generator.normal(size=100).tolist()
    near, far = ((np.array(golds) + noise * generator.normal(size=100)).tolist() for noise in (0.3, 3.0))
    head = make_head(HeadConfig("regression", metrics=["spearman"]), LabelSet(()))
    sides = [head.compare(golds, [Prediction(value) for value in values]) for values in (far, near)]
    found = gain("spearman", *sides, num_resamples=300)
    assert found.interval[0] < found.after - found.before < found.interval[1]
    assert found.interval[0] > 0
    with_itself = gain("spearman", sides[0], sides[0], num_resamples=20)
    assert with_itself.interval == (0.0, 0.0)


def refusal(a: Path, b: Path) -> str:
    with pytest.raises(InputError) as error:
        compare_runs(a, b)
    return str(error.value)


def test_runs_tested_on_other_examples_are_refused_with_the_way_out(tmp_path: Path) -> None:
    a = run_of(tmp_path / "a", {"t": [RIGHT, RIGHT]})
    other_text = refusal(a, run_of(tmp_path / "b", {"t": [RIGHT, RIGHT]}, texts="other"))
    assert "t, test: the runs were tested on other examples: example 1 is t.tsv:0" in other_text
    assert "it depends on the seed: train both with the same split_seed, or give the task a test file" in other_text
    assert "(tasks.<task>.source.test=FILE)" in other_text
    other_label = refusal(a, run_of(tmp_path / "c", {"t": [RIGHT, ("no", "no")]}))
    assert "tested on other labels: example 2 is t.tsv:1" in other_label
    shorter = refusal(a, run_of(tmp_path / "d", {"t": [RIGHT]}))
    assert f"other examples: 2 in {a}, and 1 in {tmp_path / 'd'}" in shorter


def test_what_is_no_run_or_has_no_test_predictions_is_refused(tmp_path: Path) -> None:
    a = run_of(tmp_path / "a", {"t": [RIGHT]})
    (tmp_path / "empty").mkdir()
    assert "empty: not the folder of a run" in refusal(a, tmp_path / "empty")
    only_dev = run_of(tmp_path / "dev", {"t": [RIGHT]}, split="dev")
    assert f"run_dir={only_dev}: this run is not finished" in refusal(a, only_dev)
    (only_dev / "results.json").write_text("{}", encoding="utf-8")
    assert f"make them with action=evaluate run_dir={only_dev}" in refusal(a, only_dev)
    assert "no head with a labelled test set in common" in refusal(a, run_of(tmp_path / "u", {"u": [RIGHT]}))


@pytest.mark.parametrize(
    ("run_dir", "told"),
    [
        ("a", "action=compare needs two runs, as in run_dir=A,B, not 1"),
        ("a,b,c", "not 3; a table of many runs is made by action=report"),
        ("a,./a", "these are one run"),
        (None, "run_dir: action=compare needs the folders of two runs"),
    ],
)
def test_anything_but_two_runs_is_refused_before_anything_is_read(run_dir: str | None, told: str) -> None:
    with pytest.raises(InputError, match=told):
        check(ExperimentConfig(action="compare", run_dir=run_dir))


def test_two_runs_need_no_quotes_on_the_command_line() -> None:
    for given in ("out/a b,out/c+d", "[out/a b,out/c+d]"):
        arguments = ["action=compare", f"run_dir={given}"]
        quoted = quote_compared_runs(arguments)
        assert quoted[0] == arguments[0]
        assert str(read_value(quoted[1].removeprefix("run_dir="))) == "out/a b,out/c+d"
        assert quote_compared_runs(quoted) == quoted
    sweep = ["-m", "action=evaluate", "run_dir=a,b"]
    assert quote_compared_runs(sweep) == sweep


@pytest.mark.parametrize("action", ["serve", "predict", "diagnose"])
def test_other_actions_refuse_two_runs(action: str, tmp_path: Path) -> None:
    quoted = quote_compared_runs([f"action={action}", "run_dir=a,b"])[1]
    two = str(read_value(quoted.removeprefix("run_dir=")))
    with pytest.raises(InputError, match=rf"run_dir=a,b: there is no such folder, and action={action} works on one"):
        check(ExperimentConfig(action=action, run_dir=two, input="-"))
    (tmp_path / "a,b").mkdir()  # one folder of such a name
    model = ModelConfig("bert")
    check(ExperimentConfig(action=action, run_dir=str(tmp_path / "a,b"), input="-", model=model))


def test_texts_and_labels_never_become_html_or_markdown(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> | [x](y)"
    a = run_of(tmp_path / "a", {"t": [RIGHT, WRONG]}, texts=evil)
    b = run_of(tmp_path / "b", {"t": [WRONG, RIGHT]}, texts=evil)
    write_comparison(compare_runs(a, b), tmp_path / "out")
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    check_page(page)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | [x](y) 0" in page
    markdown = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert r"\<script\>alert\(1\)\</script\> \| \[x\]\(y\) 0" in markdown
    values: Any = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert [flip["text"] for flip in values["flips"]] == [f"{evil} 0", f"{evil} 1"]

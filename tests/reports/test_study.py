"""The report of a study, from runs whose counts are written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from multitask_bert.records import TaskResult
from multitask_bert.reports.study import StudyReport, read_study
from multitask_bert.reports.study_gains import CANNOT_TELL, HELPS, HURTS
from multitask_bert.reports.study_page import verdicts, write_study_report
from multitask_bert.saving.example_counts import TEST_COUNTS, write_test_counts
from multitask_bert.utils.bootstrap import Counts

NUM_EXAMPLES, SEEDS = 300, (1, 2, 3)
Accuracies = Mapping[str, float]  # by task, of one arm


class MadeStudy:
    """A study of tasks a, b, ... with a head `h` each, and its folder; each arm scores the same but for its seeds."""

    def __init__(self, folder: Path, subject: str, arms: Mapping[str, Accuracies], **about: Any) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.folder, self.names = folder, list(arms)
        self.study = optuna.create_study(study_name="made")
        described = [
            {
                "name": name,
                "trained": name.partition(",")[0].split("+"),
                "controls": ["recipe"],
                "is_separate": "," in name,
                "overrides": [],
            }
            for name in arms
        ]
        tasks = sorted({task for by_task in arms.values() for task in by_task})
        values = {"arms": {"study": subject, "tasks": tasks, "arms": described}, "seeds": len(SEEDS), **about}
        for key, value in values.items():
            self.study.set_user_attr(key, value)
        for number, (name, by_task) in enumerate(arms.items()):
            self.add(name, TrialState.COMPLETE)
            for seed in SEEDS:
                write_run(folder / f"trial_{number:04d}" / f"seed_{seed}", by_task, seed=seed)

    def add(self, arm: str, state: TrialState, **attributes: Any) -> None:
        distributions = {"arm": CategoricalDistribution(self.names)}
        value = 0.5 if state == TrialState.COMPLETE else None
        self.study.add_trial(
            create_trial(
                state=state, value=value, params={"arm": arm}, distributions=distributions, user_attrs=attributes
            )
        )

    def read(self) -> StudyReport:
        return read_study(self.study, self.folder)


def write_run(folder: Path, by_task: Accuracies, *, seed: int, has_counts: bool = True) -> None:
    """A run in which the first examples are right; one seed more or less gets one example more right."""
    folder.mkdir(parents=True)
    results = {}
    for task, accuracy in by_task.items():
        is_right_N = (np.arange(NUM_EXAMPLES) < round(accuracy * NUM_EXAMPLES) + seed).astype(float)
        rows = np.stack([is_right_N, np.ones(NUM_EXAMPLES), np.ones(NUM_EXAMPLES)], axis=1)
        counts = {"h": Counts("LabelMetric", "accuracy", rows)} if has_counts else {}
        results[task] = TaskResult(scores={"h": {"accuracy": float(is_right_N.mean())}}, counts=counts)
    write_test_counts(folder, results)
    summary = {
        "metrics": {"eval": {f"eval_{task}_h_accuracy": 0.70 for task in by_task}},
        "best_by_head": {f"{task}.h": {"score": 0.72, "step": 7} for task in by_task},
        "steps": 100 * len(by_task), "train_seconds": 2.0, "collapsed": {},
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(summary), encoding="utf-8")


def transfer(folder: Path) -> MadeStudy:
    return MadeStudy(
        folder,
        "transfer",
        {"a": {"a": 0.6}, "b": {"b": 0.6}, "c": {"c": 0.6}, "a+b": {"a": 0.8, "b": 0.6}, "a+c": {"a": 0.5, "c": 0.6}},
    )


def verdicts_of(report: StudyReport) -> dict[tuple[str, str], str]:
    return {(gain.head, gain.shown_partners): gain.verdict for gain in report.gains}


def test_each_head_has_a_verdict_per_set_of_partners(tmp_path: Path) -> None:
    report = transfer(tmp_path).read()
    assert verdicts_of(report) == {
        ("a.h", "+ b"): HELPS,
        ("a.h", "+ c"): HURTS,
        ("b.h", "+ a"): CANNOT_TELL,
        ("c.h", "+ a"): CANNOT_TELL,
    }
    (gain,) = [gain for gain in report.gains if (gain.head, gain.arm) == ("a.h", "a+b")]
    assert gain.test.gain == pytest.approx(0.2)
    assert gain.test.over_examples is not None
    # By hand: 60 of 300 examples are right only together, so the deviation is sqrt(0.2 * 0.8 / 300).
    deviation = (0.2 * 0.8 / NUM_EXAMPLES) ** 0.5
    assert gain.test.over_examples == pytest.approx((0.2 - 1.96 * deviation, 0.2 + 1.96 * deviation), abs=0.01)


def test_the_page_and_the_tables_stand_alone_and_say_the_verdicts(tmp_path: Path) -> None:
    report = write_study_report(transfer(tmp_path).study, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "a.h + b helps (+20.0)" in page
    assert page.count("data:image/png;base64") == len(list((tmp_path / "plots").glob("*.png"))) == 2
    assert 'src="http' not in page
    assert "| a.h | + b | helps | +20.0 |" in (tmp_path / "tables.md").read_text(encoding="utf-8")
    assert r"a.h & + b & helps & +20.0 &" in (tmp_path / "tables.tex").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["gains"][0]["verdict"] == HELPS
    assert "  a.h + b: +20.0 [15" in "\n".join(verdicts(report))
    assert "  b.h + a: +0.0, cannot tell (both scored the same with every seed)" in list(verdicts(report))
    assert "| a+b | recipe | a.h | 2.0 | 2.0 |" in (tmp_path / "tables.md").read_text(encoding="utf-8")  # the regret


@pytest.mark.parametrize(
    ("differs", "note", "are_paired"),
    [
        ("nowhere", None, True),
        ("seed", "a.h: each seed has test examples of its own, split off from train, which add", True),
        ("arm", "a.h: runs of one seed were tested on different examples, so their gains are not paired", False),
    ],
)
def test_gains_are_paired_over_the_same_examples_only(
    tmp_path: Path, differs: str, note: str | None, are_paired: bool
) -> None:
    made = MadeStudy(tmp_path, "transfer", {"a": {"a": 0.6}, "a+b": {"a": 0.8}})
    for folder in tmp_path.glob("trial_*/seed_*"):
        words = {"nowhere": "", "seed": folder.name, "arm": folder.parent.name}[differs]
        lines = [{"task": "a", "where": f"a.tsv:{n}", "text": f"{n} {words}", "heads": {}} for n in range(NUM_EXAMPLES)]
        (folder / "predictions").mkdir()
        text = "\n".join(map(json.dumps, lines)) + "\n"
        (folder / "predictions" / "test.jsonl").write_text(text, encoding="utf-8")
    report = made.read()
    assert [one.startswith(note or "-") for one in report.notes] == [True] * (note is not None)
    assert [gain.test.over_examples is not None for gain in report.gains] == [are_paired]


def test_a_failed_arm_is_named_and_the_others_are_compared(tmp_path: Path) -> None:
    made = transfer(tmp_path)
    made.names.append("b+c")
    arms = made.study.user_attrs["arms"]
    arms["arms"].append({**arms["arms"][-1], "name": "b+c", "trained": ["b", "c"]})
    made.study.set_user_attr("arms", arms)
    made.study.add_trial(
        create_trial(
            state=TrialState.FAIL, params={"arm": "b+c"}, distributions={"arm": CategoricalDistribution(made.names)},
            user_attrs={"error": "OutOfMemoryError: 2 GiB\nmore"},
        )
    )  # fmt: skip
    write_run(tmp_path / "trial_0005" / "seed_1", {"b": 0.6, "c": 0.6}, seed=1)
    report = write_study_report(made.study, tmp_path)
    assert report.missing == {"b+c": "2 of 3 runs (trial_0005: OutOfMemoryError: 2 GiB)"}
    assert len(report.gains) == 4  # a single seed is compared with nothing
    assert "Missing: b+c, 2 of 3 runs" in "\n".join(verdicts(report))
    assert "OutOfMemoryError: 2 GiB" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_study_without_a_run_has_a_page_that_says_so(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, "transfer", {})
    described = [{"name": "a", "trained": ["a"], "controls": ["recipe"], "is_separate": False, "overrides": []}]
    made.study.set_user_attr("arms", {"study": "transfer", "tasks": ["a", "b"], "arms": described})
    report = write_study_report(made.study, tmp_path)
    assert report.missing == {"a": "3 of 3 runs (not started yet)"}
    assert "no two arms have two seeds in common yet" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_damaged_file_of_counts_leaves_its_run_out(tmp_path: Path) -> None:
    made = transfer(tmp_path)
    (tmp_path / "trial_0000" / "seed_2" / TEST_COUNTS).write_bytes(b"PK nothing")
    report = made.read()
    assert report.missing == {"a": "1 of 3 runs (trial_0000: a run has no test scores)"}
    assert {gain.test.num_seeds for gain in report.gains if gain.head == "a.h"} == {2}


def test_a_metric_that_is_no_function_of_sums_has_the_seeds_only(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path, "transfer", {"a": {}, "a+b": {}})
    for number, accuracy in enumerate((0.6, 0.8)):
        for seed in SEEDS:
            folder = tmp_path / f"trial_{number:04d}" / f"seed_{seed}"
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
            write_run(folder, {"a": accuracy}, seed=seed, has_counts=False)
    report = made.read()
    assert report.notes == ("a.h: accuracy does not follow from sums over examples, so only the seeds count for it",)
    (gain,) = report.gains
    assert gain.test.over_examples is None
    assert gain.test.num_examples is None


def test_languages_stand_side_by_side(tmp_path: Path) -> None:
    scores = {
        "a": (0.8, 0.3, 0.2), "b": (0.4, 0.8, 0.3), "c": (0.1, 0.2, 0.8), "a+b": (0.8, 0.8, 0.5),
        "a+c": (0.8, 0.5, 0.8), "b+c": (0.5, 0.8, 0.8), "a+b+c": (0.9, 0.9, 0.9),
        "a+b+c, separate heads": (0.7, 0.7, 0.7),
    }  # fmt: skip
    arms = {name: dict(zip("abc", accuracies, strict=True)) for name, accuracies in scores.items()}
    made = MadeStudy(tmp_path, "languages", arms)
    report = write_study_report(made.study, tmp_path)
    (row,) = [line for line in (tmp_path / "tables.md").read_text(encoding="utf-8").splitlines()
              if line.startswith("| a.h | 25.7 | ")]  # fmt: skip
    cells = [cell.strip().partition(" ")[0] for cell in row.split("|")[2:-1]]
    assert cells == ["25.7", "40.7", "50.7", "80.7", "90.7", "70.7"]  # a seed adds 2 of 300 examples on average
    assert verdicts_of(report)["a.h", "from b+c"] == HURTS
    assert verdicts_of(report)["a.h", "+ b+c"] == HELPS
    assert verdicts_of(report)["a.h", "+ b+c, separate heads"] == HURTS
    assert ("a.h", "from b") not in verdicts_of(report)  # one of several zero-shot sources is no test of its own


def test_heads_that_learned_nothing_help_and_hurt_nobody(tmp_path: Path) -> None:
    made = transfer(tmp_path)
    for path in tmp_path.rglob("results.json"):
        results = json.loads(path.read_text(encoding="utf-8"))
        results["collapsed"] = {"a.h": {"evaluations": 1, "best_model": "always x"}}
        path.write_text(json.dumps(results), encoding="utf-8")
    report = made.read()
    assert {gain.verdict for gain in report.gains if gain.head == "a.h"} == {CANNOT_TELL}
    assert report.notes[0].startswith("a.h learned nothing in runs of a (3), b (3)")

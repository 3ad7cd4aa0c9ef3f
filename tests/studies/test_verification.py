"""`verify=true` runs a study's seeds, each in its own folder, and compares their mean with the expected score."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multitask_bert import actions
from multitask_bert.config.checks import check
from multitask_bert.config.schema import ExpectedScore, ExperimentConfig, StudyConfig
from multitask_bert.config.without_effect import settings_without_effect
from multitask_bert.errors import InputError
from multitask_bert.heads import check_heads
from multitask_bert.saving.run_folder import read_reproduction
from multitask_bert.studies.verification import VERIFICATION, Compared, compare, verify_study
from multitask_bert.training import provenance
from multitask_bert.training.loop import Stopped, TrainingLoop
from multitask_bert.utils.significance import interval_of_mean

MakeConfig = Callable[..., ExperimentConfig]
KEY = "eval_mood_polarity_f1"


def study(*, seeds: tuple[int, ...] = (1, 2), **expected: Any) -> StudyConfig:
    """A study that expects any score of the task `mood`, unless `expected` says otherwise."""
    score = ExpectedScore(**{"score": 0.5, "tolerance": 0.6, **expected})
    return StudyConfig(source="a page", table="its table", seeds=list(seeds), expected={KEY: score}, caveats="some")


@pytest.fixture
def config(make_config: MakeConfig) -> ExperimentConfig:
    """The config of a study over `mood` with runs of two steps."""
    return replace(make_config("mood", max_steps=2), verify=True, study=study())


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


# The rule and the interval


@pytest.mark.parametrize(
    ("values", "at_least", "is_passed"),
    [
        ([0.58, 0.62], False, True),
        ([0.50, 0.50], False, True),  # just the tolerance below
        ([0.70, 0.70], False, True),  # just the tolerance above
        ([0.49, 0.50], False, False),
        ([0.70, 0.71], False, False),
        ([0.90, 0.90], True, True),
        ([0.49, 0.50], True, False),
        ([0.60, None], False, False),
    ],
)
def test_a_score_passes_where_its_mean_is_within_the_tolerance(
    values: list[float | None], at_least: bool, is_passed: bool
) -> None:
    expected = ExpectedScore(0.6, 0.1, at_least=at_least)
    assert Compared(KEY, expected, dict(enumerate(values))).is_passed is is_passed


def test_the_interval_of_a_mean_is_that_of_the_printed_table() -> None:
    """t = 4.303 for two degrees of freedom, 12.706 for one; standard deviations by hand."""
    assert interval_of_mean([0.61, 0.62, 0.63]) == pytest.approx(
        (0.62 - 4.303 * 0.01 / 3**0.5, 0.62 + 0.02484), abs=1e-5
    )
    assert interval_of_mean([0.4, 0.6]) == pytest.approx((0.5 - 12.706 * 0.1, 0.5 + 12.706 * 0.1), abs=1e-4)
    assert interval_of_mean([0.5, 0.5, 0.5]) == (0.5, 0.5)
    assert interval_of_mean([0.61]) is None


def test_scores_of_tasks_that_are_not_in_the_run_are_left_out_and_named(config: ExperimentConfig) -> None:
    other = "eval_people_entities_f1"
    config.study.expected[other] = ExpectedScore(0.9, 0.1)
    found = compare(config, {1: {"test": {KEY: 0.5, other: 0.0}}})
    assert ([one.key for one in found.scores], found.left_out, found.is_passed) == ([KEY], [other], True)


def test_an_expected_score_that_no_run_reports_is_named(config: ExperimentConfig) -> None:
    with pytest.raises(InputError, match=f"{KEY}: the run with seed 7 has no such score on test; it has eval_loss"):
        compare(config, {7: {"test": {"eval_loss": 1.0}}})


@pytest.mark.parametrize(("split_seed", "is_noted"), [(None, True), (7, False)])
def test_seeds_with_test_sets_of_their_own_are_noted(
    config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], split_seed: int | None, is_noted: bool
) -> None:
    def train(own: ExperimentConfig, folder: Path) -> None:
        (folder / "results.json").write_text(json.dumps({"metrics": {"test": {KEY: 0.5}}}), encoding="utf-8")

    config.tasks["mood"].source.test = None
    verify_study(replace(config, split_seed=split_seed), tmp_path, train)
    note = "Note: each seed splits another test set off from train for mood; split_seed=1 keeps it the same"
    assert (note in capsys.readouterr().out) == is_noted


# The whole path


@pytest.mark.slow
def test_each_seed_leaves_a_whole_run_and_the_scores_are_compared(
    config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    actions.verify(config, tmp_path)
    scores = {seed: read(tmp_path / f"seed_{seed}" / "results.json")["metrics"]["test"][KEY] for seed in (1, 2)}
    described = read(tmp_path / VERIFICATION)
    (compared,) = described["scores"].values()
    assert described["passed"] is compared["passed"] is True
    assert compared["by_seed"] == {str(seed): score for seed, score in scores.items()}
    assert compared["mean"] == pytest.approx(sum(scores.values()) / 2)
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "PASS"
    row = next(line for line in printed if line.startswith(f"Verification: score {KEY}"))
    assert f"expected 0.5000  tolerance 0.6000  mean {compared['mean']:.4f}  95% interval " in row
    assert row.endswith("PASS")
    assert {"Source       a page", "Table        its table", "Caveats      some"} <= set(printed)
    own = read_reproduction(tmp_path / "seed_2")
    assert own is not None
    assert (own["seed"], own["verify"], own["study"]["expected"]) == (2, False, {})
    assert provenance.read(tmp_path / "seed_2")["final"]["weights"]
    assert (tmp_path / "seed_2" / "model" / "model.safetensors").is_file()
    actions.evaluate(replace(config, action="evaluate", run_dir=str(tmp_path / "seed_2")), tmp_path / "again")
    again = read(tmp_path / "again" / "results.json")["metrics"]["test"]
    assert again[KEY] == pytest.approx(scores[2], abs=1e-6)


@pytest.mark.slow
def test_a_seed_of_a_verification_equals_the_run_of_that_seed_alone(config: ExperimentConfig, tmp_path: Path) -> None:
    actions.verify(config, tmp_path / "all")
    actions.train(replace(config, verify=False, seed=2), tmp_path / "alone")
    finals = [provenance.read(folder)["final"] for folder in (tmp_path / "all" / "seed_2", tmp_path / "alone")]
    assert finals[0] == finals[1]


def test_a_failed_verification_ends_with_status_1(
    config: ExperimentConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config.study = study(score=2.0, tolerance=0.1, seeds=(1,))
    with pytest.raises(SystemExit, match="1"):
        actions.verify(config, tmp_path)
    assert capsys.readouterr().out.splitlines()[-1] == "FAIL"
    assert read(tmp_path / VERIFICATION)["passed"] is False


@pytest.mark.slow
def test_a_verification_stopped_at_the_second_seed_is_resumed_there(
    config: ExperimentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(config, trainer=replace(config.trainer, max_steps=4, save_every=1))
    actions.verify(config, tmp_path / "whole")
    make_step = TrainingLoop._step

    def step_and_ask(self: TrainingLoop, *given: Any) -> None:
        make_step(self, *given)
        if self.trainer.config.seed == 2 and self.state.step == 1:
            self.trainer.ask_to_stop("SIGTERM")

    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_step", step_and_ask)
        with pytest.raises(SystemExit, match="75"):
            actions.verify(config, tmp_path / "stopped")
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == f"All seeds    python run.py run_dir={tmp_path / 'stopped'} resume=true"
    first = (tmp_path / "stopped" / "seed_1" / "metrics.jsonl").read_bytes()
    actions.verify(replace(config, resume=True), tmp_path / "stopped")
    printed = capsys.readouterr().out
    assert "seed_1: this run is complete" in printed
    assert "resuming from step 2 of 4" in printed
    assert (tmp_path / "stopped" / "seed_1" / "metrics.jsonl").read_bytes() == first
    for seed in (1, 2):
        finals = [provenance.read(tmp_path / name / f"seed_{seed}")["final"] for name in ("whole", "stopped")]
        assert finals[0] == finals[1]
    assert read(tmp_path / "stopped" / VERIFICATION) == read(tmp_path / "whole" / VERIFICATION)


def test_two_verifications_do_not_share_a_folder(config: ExperimentConfig, tmp_path: Path) -> None:
    (tmp_path / "seed_2").mkdir()
    (tmp_path / "seed_2" / "metrics.jsonl").touch()
    with pytest.raises(InputError, match=r"holds runs of a verification already; resume it \(resume=true\)"):
        verify_study(config, tmp_path, lambda *_: pytest.fail("it was trained"))


def test_a_run_that_is_stopped_stops_the_verification(config: ExperimentConfig, tmp_path: Path) -> None:
    """`Stopped` passes through, also where nothing turns it into an exit status."""

    def stop(*_: Any) -> None:
        raise Stopped("SIGTERM")

    with pytest.raises(Stopped):
        verify_study(config, tmp_path, stop)
    assert not (tmp_path / "seed_2").exists()
    assert not (tmp_path / VERIFICATION).exists()


# Refusals, before anything is trained


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"study": StudyConfig()}, "verify: nothing is expected of this run; choose a study"),
        ({"study": study(tolerance=0.0)}, f"study.expected.{KEY}.tolerance=0.0: must be more than 0"),
        ({"study": study(score=float("nan"))}, f"study.expected.{KEY}.score=nan: must be at least -1 and finite"),
        ({"study": study(split="dev")}, f"study.expected.{KEY}.split=dev: choose one of eval, test"),
        ({"study": study(seeds=())}, r"study.seeds: none is named; write one or several, as in study.seeds=\[1,2,3\]"),
        ({"study": study(seeds=(1, 1))}, r"study.seeds=\[1, 1\]: must be different seeds"),
        ({"study": study(seeds=(-1,))}, "each must be at least 0"),
    ],
)
def test_a_study_that_cannot_be_verified_is_refused(
    config: ExperimentConfig, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        check(replace(config, **changes))


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("eval_mood_polarity_f2", r"study\.expected\.eval_mood_polarity_f2: no head reports it; choose one of eval_m"),
        (
            "eval_people_entities_f1",
            r"verify: study\.expected has no score of mood; choose one of its tasks \(it has e",
        ),
    ],
)
def test_a_score_that_no_head_reports_is_refused(config: ExperimentConfig, key: str, problem: str) -> None:
    config.study.expected = {key: ExpectedScore(0.5, 0.1)}
    with pytest.raises(InputError, match=problem):
        check_heads(config)
    check_heads(replace(config, verify=False))


def test_a_test_score_of_a_task_without_a_test_set_is_refused(config: ExperimentConfig) -> None:
    config.tasks["mood"].source.test, config.tasks["mood"].source.test_fraction = None, 0.0
    with pytest.raises(InputError, match=f"{KEY}.split=test: mood has no test set; write split: eval"):
        check_heads(config)
    config.study.expected[KEY].split = "eval"
    check_heads(config)


def test_verify_belongs_to_training(config: ExperimentConfig) -> None:
    (warning,) = settings_without_effect(replace(config, action="evaluate", run_dir="x"))
    assert warning.startswith("verify=true has no effect with action=evaluate")

"""What is refused before the first trial, with the way out."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from tests.composing import CONF, error_of, run_line
from tests.sweeps.support import COMMAND, FOLDER, FakeTraining, refusal, states_of, study_in, sweep

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fake_training")]
S = "hydra.sweeper."


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([f"{S}metric=eval_mean_f2"], "hydra.sweeper.metric=eval_mean_f2: no head reports it with optimizer.lr=1e-05"),
        ([f"{S}metric=eval_mean_f2"], "choose one of eval_ner_ner_head_f1, "),
        (["tasks=ner,sentiment", f"{S}metric=eval_ner_ner_head_f1"], "no head reports it with"),
        (["optimizer.lrr=1,2"], "hydra.sweeper.space.optimizer.lrr: no such key; did you mean optimizer.lr?"),
        (["mixing=round_robin,random"], "mixing: there is no 'random'"),
        (["batching.batch_size=0,8"], "batching.batch_size=0: must be at least 1"),
        ([f"{S}storage=postgresql://me:secret@localhost:1/none"], "hydra.sweeper.storage=postgresql://me@localhost:1/none"),
        ([f"{S}storage=sqlite:////no/such/folder/s.db"], "unable to open database file); is it there and running?"),
        ([f"{S}metric=[eval_mean_f1,eval_loss]", f"{S}sampler=cmaes"], "for several metrics choose tpe, gp, random"),
        ([f"{S}n_trails=5"], "hydra.sweeper.n_trails: no such key"),
        ([f"{S}function=nowhere.at_all"], "hydra.sweeper.function=nowhere.at_all: cannot be imported"),
        (["optimizer.lr=1e-4", "scheduler.warmup_ratio=0"], "hydra.sweeper.space: is empty"),
        (["hydra/launcher=jobless"], "joblib, submitit_local and submitit_slurm come with: pip install"),
        (["action=evaluate", "run_dir=outputs"], "action=evaluate: a sweep trains"),
        (["hydra.sweep.dir='${now:%H}'"], "hydra.sweep.dir=${now:%H}: a sweep that can be resumed needs the same"),
    ],
)  # fmt: skip
def test_it_is_refused_before_the_first_trial(arguments: list[str], expected: str, fake_training: FakeTraining) -> None:
    assert expected in refusal(*arguments)
    assert fake_training.runs == []
    assert [path for path in Path("outputs").rglob("*") if path.is_file() and path.name != "sweep.lock"] == []


def test_a_refused_sweep_leaves_no_folder() -> None:
    refusal(f"{S}pruner=none_such")
    assert not FOLDER.exists()


OTHER_STUDIES = {
    "batching.batch_size=8,16": "this study was made for other space: {",
    f"{S}metric=eval_loss": "this study was made for other metrics: ['eval_mean_f1'], now ['eval_loss']",
    f"{S}direction=minimize": "this study was made for other directions",
    f"{S}seeds=2": "this study was made for other seeds: 1, now 2",
    "optimizer=sgd": "this study was made for other fixed overrides",
}


def test_a_study_made_for_something_else_is_refused() -> None:
    sweep(f"{S}n_trials=1")
    for argument, expected in OTHER_STUDIES.items():
        error = refusal(f"{S}n_trials=2", argument)
        assert expected in error
        assert "name another study with hydra.sweeper.study=NAME" in error
    assert states_of(sweep(f"{S}n_trials=1", "logger=tensorboard")) == ["complete"]  # another logger is no other study
    assert states_of(study_in(FOLDER)) == ["complete"]


def test_a_trial_that_somebody_else_enqueued_adds_no_argument_to_a_command(fake_training: FakeTraining) -> None:
    study = sweep(f"{S}n_trials=1")
    key, target = "+hydra.callbacks.evil._target_", "tests.sweeps.fake_training.UseFakeTraining"
    study.add_trial(
        optuna.trial.create_trial(
            state=optuna.trial.TrialState.WAITING, params={key: target},
            distributions={key: optuna.distributions.CategoricalDistribution([target])},
        )
    )  # fmt: skip
    assert f"has {key}, which this search does not change" in refusal(f"{S}n_trials=2")
    assert len(fake_training.runs) == 1
    assert states_of(sweep(f"{S}n_trials=3")) == [
        "complete",
        "fail",
        "complete",
    ]  # and it goes on


def test_a_study_that_no_sweep_made_is_refused() -> None:
    FOLDER.mkdir(parents=True)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(FOLDER / "study.journal")))
    optuna.create_study(study_name=FOLDER.name, storage=storage, direction="maximize").ask()
    assert "this study was not made by a sweep" in refusal()


def test_trials_of_a_study_that_is_gone_are_not_overwritten() -> None:
    sweep(f"{S}n_trials=1")
    (FOLDER / "study.journal").unlink()
    assert "has trials of a study that is no longer in the storage" in refusal()
    assert json.loads((FOLDER / "trial_0000" / "results.json").read_text())["pruned"] is False


@pytest.mark.parametrize("way", ["--config-dir={folder}", "hydra.searchpath=[file://{folder}]"])
@pytest.mark.parametrize("chosen", ["tasks=sentiment", "+extra=a,b"])
def test_a_change_in_any_folder_that_is_searched_is_refused(
    tmp_path: Path, fake_training: FakeTraining, way: str, chosen: str
) -> None:
    mine = tmp_path / "mine"
    for folder in ("tasks", "extra"):
        (mine / folder).mkdir(parents=True)
    task = (CONF / "tasks" / "sentiment.yaml").read_text(encoding="utf-8")
    (mine / "tasks" / "sentiment.yaml").write_text(f"{task}# mine\n", encoding="utf-8")
    for name in ("a", "b"):
        (mine / "extra" / f"{name}.yaml").write_text("# @package _global_\nseed: 3\n", encoding="utf-8")
    changed = mine / ("extra/b.yaml" if "extra" in chosen else "tasks/sentiment.yaml")

    def score(config: object, step: int) -> float:
        changed.write_text(changed.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        return 0.5

    fake_training.score = score
    flag, *rest = COMMAND
    error = error_of(flag, way.format(folder=mine), *rest, chosen, f"{S}n_trials=3")
    assert error.startswith(f"error: {mine}/: {changed.relative_to(mine)} changed since this sweep began")


def test_resuming_a_run_is_refused_in_a_sweep(fake_training: FakeTraining) -> None:
    assert refusal("resume=yes") == ("error: resume=true: the same command resumes a sweep by itself; leave resume out")
    assert fake_training.runs == []


def test_a_change_in_the_configs_is_refused_during_a_sweep_and_when_it_goes_on(
    tmp_path: Path, fake_training: FakeTraining
) -> None:
    mine = tmp_path / "mine" / "experiment" / "fast.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("# @package _global_\ntrainer: {max_steps: 5}\n")

    def score(config: object, step: int) -> float:
        mine.write_text("# @package _global_\ntrainer: {max_steps: 6}\n")
        return 0.5

    fake_training.score = score
    arguments = ("--config-dir", str(tmp_path / "mine"), *COMMAND, "experiment=fast", f"{S}n_trials=3")
    for _ in range(2):
        error = error_of(*arguments)
        assert "experiment/fast.yaml changed since this sweep began" in error
        assert states_of(study_in(FOLDER)) == ["complete"]
    mine.write_text("# @package _global_\ntrainer: {max_steps: 5}\n")
    fake_training.score = lambda config, step: 0.5
    run_line(*arguments)
    assert states_of(study_in(FOLDER)) == ["complete"] * 3


def test_a_file_counts_as_changed_only_if_trials_are_composed_from_it(
    tmp_path: Path, fake_training: FakeTraining
) -> None:
    mine = tmp_path / "mine"
    for name in ("experiment/fast", "experiment/other", "tasks/other"):
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / f"{name}.yaml").write_text("# @package _global_\ntrainer: {max_steps: 5}\n")
    arguments = ("--config-dir", str(mine), *COMMAND, "experiment=fast")
    run_line(*arguments, f"{S}n_trials=1")
    (mine / "experiment" / "other.yaml").write_text("seed: 1\n")  # changed
    (mine / "tasks" / "other.yaml").unlink()
    (mine / "tasks" / "mood.yaml").write_text("mood: {}\n")
    run_line(*arguments, f"{S}n_trials=2")
    assert len(study_in(FOLDER).trials) == 2

    def score(config: object, step: int) -> float:
        (mine / "tasks" / "ner.yaml").write_text((CONF / "tasks" / "ner.yaml").read_text())
        return 0.5

    fake_training.score = score  # during a trial, the user adds a file that would be read in place of ours
    assert "tasks/ner.yaml changed since this sweep began" in error_of(*arguments, f"{S}n_trials=4")
    assert len(study_in(FOLDER).trials) == 3

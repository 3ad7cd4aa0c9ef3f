"""Processes that die, and several that work on one study."""

from __future__ import annotations

import sqlite3
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import Trial, TrialState

from multitask_bert.config.sweep_config import HAS_CONFIG_VALUES, SweepConfig
from multitask_bert.sweeps.processes import is_alive, is_here, this_process
from multitask_bert.sweeps.study import open_storage
from multitask_bert.sweeps.trials import MAX_TRIES, RETRY_OF, counted_trials, retry, retry_the_dead
from tests.composing import run_line
from tests.sweeps.controllers import running_in, started, wait_until
from tests.sweeps.support import COMMAND, FOLDER, FakeTraining, lr_of, states_of, study_in, sweep

pytestmark = pytest.mark.slow


def test_after_a_kill_the_same_command_loses_and_repeats_nothing(fake_training: FakeTraining) -> None:
    process = started(0.9, "hydra.sweeper.n_trials=3", "hydra.sweeper.pruner=none")
    wait_until(lambda: running_in(FOLDER, 1))
    process.kill()
    process.communicate()
    first = study_in(FOLDER).get_trials()
    study = sweep("hydra.sweeper.n_trials=3", "hydra.sweeper.pruner=none")
    assert states_of(study) == ["complete", "fail", "complete", "complete"]
    trials = study.get_trials()
    assert trials[0] == first[0]
    assert trials[1].params == first[1].params == trials[2].params  # retried, in another folder
    assert trials[1].user_attrs["error"] == "its process died (1 of 3 tries)"
    assert [folder.name for _, folder in fake_training.runs] == ["trial_0002", "trial_0003"]
    assert lr_of(trials[3]) not in [lr_of(trial) for trial in trials[:3]]
    assert len(counted_trials(study)) == 3


def test_two_controllers_share_the_trials_of_one_study() -> None:
    processes = [started(0.3, "hydra.sweeper.n_trials=4", "hydra.sweeper.pruner=none") for _ in range(2)]
    for process in processes:
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 0, output
    study = study_in(FOLDER)
    assert states_of(study) == ["complete"] * 4
    assert len({trial.user_attrs["process"]["pid"] for trial in study.get_trials()}) == 2
    assert len(set(map(lr_of, study.get_trials()))) == 4


def test_the_retried_trial_of_the_configs_values_is_still_marked_as_such(study: optuna.Study) -> None:
    study.enqueue_trial({"x": 0.5}, user_attrs={HAS_CONFIG_VALUES: True})
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    retry(study, study.get_trials()[trial.number])
    again = study.get_trials()[-1]
    assert again.user_attrs == {HAS_CONFIG_VALUES: True, RETRY_OF: trial.number}


@pytest.fixture
def study() -> optuna.Study:
    """With one running trial."""
    study = optuna.create_study()
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.set_user_attr("process", this_process())
    return study


def give_to(study: optuna.Study, number: int, process: dict[str, Any]) -> None:
    Trial(study, study.get_trials()[number]._trial_id).set_user_attr("process", process)


def test_a_trial_whose_process_lives_is_left_alone(study: optuna.Study) -> None:
    assert retry_the_dead(study, take_over=False) == []
    assert retry_the_dead(study, take_over=True) == []


def test_a_number_that_another_process_has_by_now_is_not_that_process(study: optuna.Study) -> None:
    earlier = this_process() | {"started": this_process()["started"] - 60}
    assert is_here(earlier)
    assert not is_alive(earlier)
    give_to(study, 0, earlier)
    assert retry_the_dead(study, take_over=False) == [0]


def test_of_another_machine_nothing_is_known_until_the_user_says_so(study: optuna.Study) -> None:
    give_to(study, 0, {"machine": "elsewhere", "pid": 1, "started": 0.0})
    assert retry_the_dead(study, take_over=False) == []
    assert retry_the_dead(study, take_over=True) == [0]


def test_a_trial_without_a_sign_of_life_in_a_database_is_taken_for_dead(
    tmp_path: Path, fake_training: FakeTraining
) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    sweep_at = (f"hydra.sweeper.storage={url}", "hydra.sweeper.n_trials=2")
    run_line(*COMMAND, *sweep_at[:1], "hydra.sweeper.n_trials=1")
    storage = open_storage(SweepConfig(storage=url), tmp_path)
    study = optuna.load_study(study_name=FOLDER.name, storage=storage)
    far = {"machine": "elsewhere", "pid": 1, "started": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trial = study.ask()
    trial.set_user_attr("process", far)
    run_line(*COMMAND, *sweep_at)
    assert states_of(study) == ["complete", "running"]  # it may live, and it is the second of two
    assert isinstance(storage, RDBStorage)
    storage.record_heartbeat(trial._trial_id)
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')")
    database.close()
    run_line(*COMMAND, *sweep_at)
    assert states_of(study) == ["complete", "fail", "complete"]
    storage.engine.dispose()


def test_values_whose_process_always_dies_count_as_failed_in_the_end(study: optuna.Study) -> None:
    dead = this_process() | {"started": 0.0}
    for number in range(MAX_TRIES):
        give_to(study, number, dead)
        assert retry_the_dead(study, take_over=False) == [number]
        if number < MAX_TRIES - 1:
            assert counted_trials(study) == []
            study.ask()
    assert [trial.state for trial in counted_trials(study)] == [TrialState.FAIL]
    assert study.get_trials()[-1].system_attrs["fixed_params"] == study.get_trials()[0].params


def test_a_trial_given_up_meanwhile_does_not_begin(
    fake_training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a job that waited in a queue until its controller was taken for dead."""
    sweep("hydra.sweeper.n_trials=1")
    batches = [[(0, ["seed=5"])], []]
    monkeypatch.setattr("multitask_bert.sweeps.controller.Controller._next_batch", lambda self: batches.pop(0))
    study = sweep("hydra.sweeper.n_trials=2")
    assert len(fake_training.runs) == 1
    assert states_of(study) == ["complete"]

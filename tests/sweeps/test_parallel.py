"""Trials side by side: joblib's workers, and submitit's local executor, as Slurm would run them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hydra import compose, initialize_config_dir
from joblib.externals.loky import get_reusable_executor

from multitask_bert.config.sweep_config import SweepConfig
from multitask_bert.sweeps.spec import _num_jobs, _threads_per_job
from multitask_bert.sweeps.trials import RETRY_OF, counted_trials
from multitask_bert.utils.files import read_json
from tests.composing import CONF, ROOT
from tests.sweeps.support import FOLDER, states_of, sweep

pytestmark = pytest.mark.slow

FAKE = ("+hydra.callbacks.fake._target_=tests.sweeps.fake_training.UseFakeTraining",)


@pytest.fixture(autouse=True)
def _fresh_workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """That find the tests, and end with the test, since they stay in its folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("MULTITASK_BERT_ALLOW", "tests.sweeps.fake_training")
    yield
    get_reusable_executor().shutdown(wait=True)


needs_cluster = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None,
    reason="the launchers are not installed: pip install 'multitask_bert[cluster]'",
)


@needs_cluster
@pytest.mark.parametrize("launcher", ["workers", "submitit_local"])
def test_a_launcher_runs_trials_side_by_side(launcher: str) -> None:
    study = sweep(*FAKE, f"hydra/launcher={launcher}", "hydra.sweeper.n_jobs=2", "hydra.sweeper.n_trials=2")
    assert states_of(study) == ["complete", "complete"]
    first, second = study.get_trials()
    processes = [trial.user_attrs["process"]["pid"] for trial in (first, second)]
    assert len({*processes, psutil.Process().pid}) == 3
    assert first.datetime_complete > second.datetime_start  # type: ignore[operator]
    assert (FOLDER / "trial_0001" / "results.json").is_file()
    assert Path("threads").read_text(encoding="utf-8") == "1"


@needs_cluster
def test_several_processes_per_trial_give_the_values_of_one_and_end_together() -> None:
    short = (
        "trainer.max_steps=2", "trainer.eval_every=1", "model.dropout=0", "batching.batch_size=8",
        "hydra.sweeper.measure=false",
    )  # fmt: skip
    alone = sweep(*short, "hydra.sweeper.study=alone", "hydra.sweeper.n_trials=1", folder="outputs/sweeps/alone")
    study = sweep(
        *short, "+hydra.callbacks.fake._target_=tests.sweeps.fake_training.DisturbRanks", "hydra.sweeper.n_trials=4",
        "hydra/launcher=submitit_local", "hydra.launcher.tasks_per_node=2", "hydra.sweeper.n_jobs=2",
    )  # fmt: skip
    assert states_of(study) == ["complete", "pruned", "fail", "fail"]
    trials = study.get_trials()
    assert trials[0].params == alone.get_trials()[0].params
    assert trials[0].user_attrs["scores"] == pytest.approx(alone.get_trials()[0].user_attrs["scores"], abs=1e-6)
    assert read_json(FOLDER / "trial_0001" / "results.json")["steps"] == 1
    assert trials[2].user_attrs["error"] == "rank 1: ValueError: no luck"
    assert trials[3].user_attrs["error"] == "a process of this trial has ended without a word (killed?)"
    assert (FOLDER / "trial_0000" / "run.log").read_text(encoding="utf-8").count("step 2/2") == 1


@needs_cluster
def test_what_a_killed_worker_ran_is_tried_again() -> None:
    dies = "+hydra.callbacks.fake.dies=true"
    study = sweep(*FAKE, dies, "hydra/launcher=workers", "hydra.sweeper.n_trials=2")
    assert [trial.state.name for trial in counted_trials(study)] == [
        "COMPLETE"
    ] * 2  # joblib ends the other worker, too
    dead = study.get_trials()[1]
    (again,) = [trial for trial in study.get_trials() if trial.user_attrs.get(RETRY_OF) == 1]
    assert dead.user_attrs["error"] == "its process died (1 of 3 tries)"
    assert again.params == dead.params


@pytest.mark.parametrize(
    ("launcher", "num_jobs", "cores", "omp", "expected"),
    [
        ("workers", None, 8, None, (2, 4)),  # as its file says
        ("workers", 2, 2, None, (2, 1)),
        ("workers", 4, 2, None, (4, 1)),
        ("workers", 2, 8, "3", (2, 3)),  # the user wants fewer
        ("basic", 3, 8, None, (1, None)),  # which runs one after the other in any case
        ("slurm", None, 8, None, (4, None)),  # Slurm gives each its own
        ("submitit_local hydra.launcher.tasks_per_node=2", 2, 8, None, (2, 2)),  # to each process of each job
        ("submitit_local hydra.launcher.tasks_per_node=2", 1, 8, None, (1, 4)),
    ],
)  # fmt: skip
@needs_cluster
def test_the_cores_are_divided_among_the_jobs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, launcher: str, num_jobs: int | None, cores: int,
    omp: str | None, expected: tuple[int, int | None],
) -> None:  # fmt: skip
    monkeypatch.setattr("multitask_bert.sweeps.spec._num_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if omp is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", f"hydra/launcher={launcher}".split(), return_hydra_config=True)
    found = _num_jobs(SweepConfig(n_jobs=num_jobs), config)
    assert (found, _threads_per_job(found, config)) == expected
    assert ("hydra.sweeper.n_jobs=3 has no effect without a launcher" in caplog.text) == (launcher == "basic")


@needs_cluster
def test_a_trial_on_slurm_has_a_gpu_per_process() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        chosen = ["hydra/launcher=slurm", "hydra.launcher.tasks_per_node=4"]
        config = compose("config", chosen, return_hydra_config=True)
    assert config.hydra.launcher.gpus_per_node == 4

"""Trials side by side: joblib's workers, and submitit's local executor, as Slurm would run them."""

from __future__ import annotations

import importlib.util

import psutil
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from multitask_bert.sweeps.plan import _num_jobs, _threads_per_job
from multitask_bert.sweeps.settings import SweepConfig
from tests.composing import CONF
from tests.sweeps.sweeping import FOLDER, states_of, sweep

QUICK = ("trainer.max_steps=1", "hydra.sweeper.n_trials=2")
needs_cluster = pytest.mark.skipif(
    importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher") is None,
    reason="the launchers are not installed: pip install 'multitask_bert[cluster]'",
)


@needs_cluster
@pytest.mark.parametrize("launcher", ["workers", "submitit_local"])
def test_a_launcher_runs_trials_side_by_side(launcher: str) -> None:
    study = sweep(*QUICK, f"hydra/launcher={launcher}", "hydra.sweeper.n_jobs=2")
    assert states_of(study) == ["complete", "complete"]
    first, second = study.get_trials()
    processes = [trial.user_attrs["process"]["pid"] for trial in (first, second)]
    assert len({*processes, psutil.Process().pid}) == 3
    assert first.datetime_complete > second.datetime_start  # type: ignore[operator]
    assert (FOLDER / "trial_0001" / "results.json").is_file()
    environment = OmegaConf.load(FOLDER / "trial_0000" / ".hydra" / "hydra.yaml").hydra.job.env_set
    assert environment.OMP_NUM_THREADS == environment.MULTITASK_BERT_THREADS == "1"


@pytest.mark.parametrize(
    ("launcher", "num_jobs", "cores", "omp", "expected"),
    [
        ("workers", None, 8, None, (2, 4)),  # as its file says
        ("workers", 2, 2, None, (2, 1)),
        ("workers", 4, 2, None, (4, 1)),
        ("workers", 2, 8, "3", (2, 3)),  # the user wants fewer
        ("basic", None, 8, None, (1, None)),
        ("slurm", None, 8, None, (4, None)),  # Slurm gives each its own
    ],
)  # fmt: skip
@needs_cluster
def test_the_cores_are_divided_among_the_jobs(
    monkeypatch: pytest.MonkeyPatch, launcher: str, num_jobs: int | None, cores: int, omp: str | None,
    expected: tuple[int, int | None],
) -> None:  # fmt: skip
    monkeypatch.setattr("multitask_bert.sweeps.plan._num_cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if omp is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", omp)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"hydra/launcher={launcher}"], return_hydra_config=True)
    found = _num_jobs(SweepConfig(n_jobs=num_jobs), config)
    assert (found, _threads_per_job(found, config)) == expected

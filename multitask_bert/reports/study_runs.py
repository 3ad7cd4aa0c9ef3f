"""The arms of a study with the runs that are finished, read from its folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from multitask_bert.errors import InputError
from multitask_bert.saving.example_counts import TestedHead, read_test_counts
from multitask_bert.saving.predictions import hashes_of_examples
from multitask_bert.saving.run_folder import RESULTS, collapsed_heads, read_results

log = logging.getLogger(__name__)

NO_ERROR = "no error was recorded; the process may have died"


@dataclass(frozen=True)
class Run:
    """One finished training."""

    steps: int
    seconds: float  # of training
    parameters: int  # of the model; 0 if its file is gone
    heads: Mapping[str, TestedHead]  # by task.head
    collapsed: frozenset[str]  # heads, as task.head, that learned nothing
    regrets: Mapping[str, float]  # by task.head: own best score on dev minus that of the joint checkpoint
    tested_on: Mapping[str, str]  # by task, a hash of the test examples; none where no predictions were kept


@dataclass(frozen=True)
class Arm:
    """One arm of the study, with the runs that are finished."""

    name: str
    trained: tuple[str, ...]
    controls: tuple[str, ...]
    is_separate: bool
    folder: str  # of its trial; empty if it has none yet
    runs: Mapping[int, Run]  # by seed
    problem: str  # why runs are missing; empty if none is

    @property
    def shown(self) -> str:
        """The tasks trained, in the order of names."""
        return "+".join(self.trained) + (", separate heads" if self.is_separate else "")


def read_arm(described: Mapping[str, Any], trial: FrozenTrial | None, folder: Path, seeds: int) -> Arm:
    own = "" if trial is None else f"trial_{trial.number:04d}"
    runs = {}
    for path in sorted((folder / own).glob(f"seed_*/{RESULTS}")) if own else ():
        seed = path.parent.name.removeprefix("seed_")
        if seed.isdecimal() and (run := _read_run(path.parent)) is not None:
            runs[int(seed)] = run
    problem = ""
    if trial is None:
        problem = "not started yet"
    elif trial.state in (TrialState.RUNNING, TrialState.WAITING):
        problem = "running"
    elif trial.state != TrialState.COMPLETE:
        problem = str(trial.user_attrs.get("error") or NO_ERROR)
    return Arm(
        described["name"], tuple(described["trained"]), tuple(described["controls"]), described["is_separate"], own,
        runs, problem,
    )  # fmt: skip


def _read_run(folder: Path) -> Run | None:
    """None if the run was not tested, or its files are damaged."""
    try:
        results, heads = read_results(folder), read_test_counts(folder)
        dev, best = results["metrics"]["eval"], results["best_by_head"]
        keys = {name: f"eval_{name.replace('.', '_', 1)}_{head.metric}" for name, head in heads.items()}
        regrets = {name: best[name]["score"] - dev[key] for name, key in keys.items() if name in best and key in dev}
        collapsed = frozenset(collapsed_heads(results))
        number = _num_parameters(folder)
        if not heads:
            return None
        tested_on = hashes_of_examples(folder, "test")
        return Run(results["steps"], results["train_seconds"], number, heads, collapsed, regrets, tested_on)
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        log.warning("%s: is left out of the report (%s)", folder, error)
        return None


def _num_parameters(run_dir: Path) -> int:
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in (run_dir / "model").glob("*.safetensors"):
        try:
            with safe_open(path, "np") as file:
                total += sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
        except (OSError, SafetensorError):
            return 0
    return total

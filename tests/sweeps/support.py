"""Shared by the tests of sweeps: the command in process, and a fake training."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.sweeps.study import JOURNAL_FILE, quiet_optuna
from tests.composing import error_of, run_line

Score = Callable[[ExperimentConfig, int], float]
COMMAND = ("-m", "sweep=lr_warmup", "tasks=ner+sentiment", "model=tiny", "trainer=quick", "logger=none")
FOLDER = Path("outputs/sweeps/lr_warmup_ner+sentiment")
STEPS = (1, 2, 3)  # at which the fake training evaluates


def sweep(*arguments: str, folder: str | Path = FOLDER) -> optuna.Study:
    """Run the sweep with these arguments added; its study, which is in `folder`."""
    run_line(*COMMAND, *arguments)
    return study_in(Path(folder))


def refusal(*arguments: str) -> str:
    """The message with which the sweep is refused."""
    return error_of(*COMMAND, *arguments)


def study_in(folder: Path) -> optuna.Study:
    quiet_optuna()
    backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL_FILE))
    (name,) = optuna.get_all_study_names(storage := optuna.storages.JournalStorage(backend))
    return optuna.load_study(study_name=name, storage=storage)


def states_of(study: optuna.Study) -> list[str]:
    """By number, in lower case."""
    return [trial.state.name.lower() for trial in study.get_trials()]


def near(lr: float) -> Score:
    """A score that is best at this learning rate, and the same at every step."""
    return lambda config, step: 1 - abs(math.log10(config.optimizer.lr) - math.log10(lr)) / 10


class FakeTraining:
    """Replaces `actions.train`: evaluates at `STEPS` with the given scores, and writes `results.json`."""

    def __init__(self, score: Score) -> None:
        self.score = score
        self.runs: list[tuple[ExperimentConfig, Path]] = []
        self.num_steps: list[int] = []  # of each run that ended
        self.steps = STEPS
        self.collapsed: dict[int, Any] = {}  # `collapsed` of results.json, by number of the run

    def __call__(
        self, config: ExperimentConfig, folder: Path, on_evaluation: Callable[[int, int, Mapping[str, float]], bool]
    ) -> float:
        self.runs.append((config, folder))
        pruned = False
        for step in self.steps:
            scores = {"eval_mean_f1": self.score(config, step), "eval_loss": 1.0, "eval_mean_score": step / 10}
            pruned = on_evaluation(step, STEPS[-1], scores) and step < STEPS[-1]
            if pruned:
                break
        self.num_steps.append(step)
        results: dict[str, Any] = {"metrics": {"eval": scores}, "steps": step, "pruned": pruned}
        results["collapsed"] = self.collapsed.get(len(self.runs) - 1, {})
        (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
        return scores["eval_mean_f1"]

    def final_scores(self) -> list[float]:
        return [self.score(config, STEPS[-1]) for config, _ in self.runs]


def lr_of(trial: FrozenTrial) -> float:
    return float(trial.params["optimizer.lr"])

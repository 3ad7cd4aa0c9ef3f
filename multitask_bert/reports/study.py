"""What a study found: scores, gains over training alone with a verdict each, the price of one joint checkpoint, costs.

study and the folders of its runs (study_runs.py) -> gains (study_gains.py) -> `StudyReport` (here) -> plots
(study_plots.py) -> page and tables (study_page.py)

The study may be running, or have failed trials: what is missing is named, and what is there is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import optuna

from multitask_bert.reports.study_gains import Gain, Score, gains_of, notes_on_collapses, resampled_runs, score_of
from multitask_bert.reports.study_runs import Arm, read_arm
from multitask_bert.utils.bootstrap import Floats

ARMS, KEY = "arms", "arm"  # user attribute of a study; parameter of a trial


@dataclass(frozen=True)
class StudyReport:
    """Everything that the page shows; `report.json` has the same fields."""

    study: str
    subject: str  # transfer | languages
    written: str  # local time
    seeds: int  # runs per arm
    tasks: tuple[str, ...]
    controls: tuple[str, ...]
    arms: tuple[Arm, ...]
    scores: tuple[Score, ...]
    gains: tuple[Gain, ...]
    notes: tuple[str, ...]
    missing: Mapping[str, str]  # by arm: which runs, and why
    fixed_overrides: tuple[str, ...] = ()
    heads: tuple[str, ...] = field(default=())  # as task.head

    def arms_of(self, control: str) -> list[Arm]:
        return [arm for arm in self.arms if control in arm.controls]

    def gains_of(self, control: str) -> list[Gain]:
        return [gain for gain in self.gains if gain.control == control]

    def score(self, arm: Arm, head: str) -> Score | None:
        return next((score for score in self.scores if (score.arm, score.head) == (arm.name, head)), None)


def is_arms_study(study: optuna.Study) -> bool:
    """Whether the trials are the arms of a study, rather than a search."""
    return ARMS in study.user_attrs


def read_study(study: optuna.Study, folder: Path) -> StudyReport:
    """Read the study and the runs in its folder, and compare them; nothing is written."""
    described = study.user_attrs[ARMS]
    seeds = int(study.user_attrs["seeds"])
    trials = {str(trial.params.get(KEY)): trial for trial in study.get_trials(deepcopy=False)}  # the last of each
    arms = tuple(read_arm(one, trials.get(one["name"]), folder, seeds) for one in described["arms"])
    heads = tuple(sorted({name for arm in arms for run in arm.runs.values() for name in run.heads}))
    resampled: dict[tuple[str, str, int], Floats] = {}
    notes = list(study.user_attrs.get("caveats", []))
    for head in heads:
        found, note = resampled_runs(arms, head)
        resampled |= found
        notes += [note] if note else []
        notes += notes_on_collapses(arms, head)
    controls = tuple(dict.fromkeys(control for arm in arms for control in arm.controls))
    return StudyReport(
        study=study.study_name,
        subject=described["study"],
        written=datetime.now().isoformat(sep=" ", timespec="seconds"),
        seeds=seeds,
        tasks=tuple(described["tasks"]),
        controls=controls,
        arms=arms,
        scores=tuple(score for arm in arms for head in heads if (score := score_of(arm, head, resampled)) is not None),
        gains=tuple(
            gain for control in controls for gain in gains_of(described["study"], arms, control, heads, resampled)
        ),
        notes=tuple(notes),
        missing={arm.name: _missing(arm, seeds) for arm in arms if len(arm.runs) < seeds},
        fixed_overrides=tuple(study.user_attrs.get("fixed_overrides", [])),
        heads=heads,
    )


def _missing(arm: Arm, seeds: int) -> str:
    why = arm.problem.strip().splitlines()[0] if arm.problem else "a run has no test scores"
    where = f"{arm.folder}: " if arm.folder else ""
    return f"{seeds - len(arm.runs)} of {seeds} runs ({where}{why})"

"""What a study found: scores, gains over training alone with a verdict each, the price of one joint checkpoint, costs.

study and the folders of its runs -> `StudyReport` (here) -> plots (study_plots.py) -> page and tables (study_page.py)

The study may be running, or have failed trials: what is missing is named, and what is there is compared.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from multitask_bert.errors import InputError
from multitask_bert.records import task_of
from multitask_bert.saving.example_counts import TestedHead, read_test_counts
from multitask_bert.saving.predictions import hashes_of_examples
from multitask_bert.saving.run_folder import RESULTS, collapsed_heads, read_results
from multitask_bert.utils.bootstrap import Floats, Interval
from multitask_bert.utils.significance import (
    LEVEL,
    GainTest,
    Needed,
    PooledVariance,
    gain_test,
    holm,
    interval_of_mean,
    needed,
    percentile_interval,
    resampled_scores,
)

log = logging.getLogger(__name__)

ARMS, KEY = "arms", "arm"  # user attribute of a study; parameter of a trial
TRANSFER, LANGUAGES = "transfer", "languages"
HELPS, HURTS, CANNOT_TELL = "helps", "hurts", "cannot tell"
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


@dataclass(frozen=True)
class Score:
    """The headline score of one head on test, after the training of one arm."""

    arm: str
    head: str
    metric: str
    mean: float  # over seeds
    by_seed: Mapping[int, float]
    over_examples: Interval | None  # 95%; None if the metric does not follow from sums over examples
    over_seeds: Interval | None  # 95%; None for one seed


@dataclass(frozen=True)
class Gain:
    """The gain of an arm over training a head's task alone, with the same control."""

    control: str
    head: str
    arm: str
    partners: tuple[str, ...]  # tasks trained with it; where `is_zero_shot`, instead of it
    is_zero_shot: bool
    is_separate: bool
    test: GainTest
    corrected: float  # p-value after Holm's correction for all gains with this control
    has_learned: bool  # False: the head learned nothing in any run, alone or together
    verdict: str  # helps | hurts | cannot tell
    needed: Needed | None  # what it takes to tell, where one cannot; None: no gain was seen

    @property
    def shown_partners(self) -> str:
        return (
            ("from " if self.is_zero_shot else "+ ")
            + "+".join(self.partners)
            + (", separate heads" if self.is_separate else "")
        )


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
    arms = tuple(_read_arm(one, trials.get(one["name"]), folder, seeds) for one in described["arms"])
    heads = tuple(sorted({name for arm in arms for run in arm.runs.values() for name in run.heads}))
    resampled: dict[tuple[str, str, int], Floats] = {}
    notes = list(study.user_attrs.get("caveats", []))
    for head in heads:
        found, note = _resampled(arms, head)
        resampled |= found
        notes += [note] if note else []
        notes += _collapses(arms, head)
    controls = tuple(dict.fromkeys(control for arm in arms for control in arm.controls))
    return StudyReport(
        study=study.study_name,
        subject=described["study"],
        written=datetime.now().isoformat(sep=" ", timespec="seconds"),
        seeds=seeds,
        tasks=tuple(described["tasks"]),
        controls=controls,
        arms=arms,
        scores=tuple(score for arm in arms for head in heads if (score := _score(arm, head, resampled)) is not None),
        gains=tuple(
            gain for control in controls for gain in _gains(described["study"], arms, control, heads, resampled)
        ),
        notes=tuple(notes),
        missing={arm.name: _missing(arm, seeds) for arm in arms if len(arm.runs) < seeds},
        fixed_overrides=tuple(study.user_attrs.get("fixed_overrides", [])),
        heads=heads,
    )


def _read_arm(described: Mapping[str, Any], trial: FrozenTrial | None, folder: Path, seeds: int) -> Arm:
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


def _missing(arm: Arm, seeds: int) -> str:
    why = arm.problem.strip().splitlines()[0] if arm.problem else "a run has no test scores"
    where = f"{arm.folder}: " if arm.folder else ""
    return f"{seeds - len(arm.runs)} of {seeds} runs ({where}{why})"


def _resampled(arms: Sequence[Arm], head: str) -> tuple[dict[tuple[str, str, int], Floats], str]:
    """The scores of a head in resamples of its test set, by arm, head and seed, and a note on the test set.

    Empty, with the reason in the note, where they cannot be had. The resamples are the same for all runs, so that
    differences between runs are paired.
    """
    from multitask_bert.utils.metrics import scores_of_sums

    runs = {
        (arm.name, head, seed): run.heads[head] for arm in arms for seed, run in arm.runs.items() if head in run.heads
    }
    counted = {key: tested.counts for key, tested in runs.items() if tested.counts is not None}
    metric = next(iter(runs.values())).metric
    if len(counted) < len(runs):
        return {}, f"{head}: {metric} does not follow from sums over examples, so only the seeds count for it"
    if len({len(counts.rows_NK) for counts in counted.values()}) > 1:
        return {}, f"{head}: runs were tested on different numbers of examples, so only the seeds count for it"
    by_seed: dict[int, set[str]] = {}  # what its runs were tested on
    for arm in arms:
        for seed, run in arm.runs.items():
            if head in run.heads and (examples := run.tested_on.get(task_of(head))) is not None:
                by_seed.setdefault(seed, set()).add(examples)
    if any(len(of_seed) > 1 for of_seed in by_seed.values()):
        return {}, f"{head}: runs of one seed were tested on different examples, so their gains are not paired"
    note = ""
    if len(set().union(*by_seed.values())) > 1:
        note = (
            f"{head}: each seed has test examples of its own, split off from train, which add to the differences "
            f"between seeds; with split_seed=1 a new study has the same ones for all seeds"
        )
    scores = resampled_scores([(one.rows_NK, partial(scores_of_sums, one)) for one in counted.values()])
    return dict(zip(counted, scores, strict=True)), note


def _collapses(arms: Sequence[Arm], head: str) -> Iterator[str]:
    found = {arm.shown: sum(head in run.collapsed for run in arm.runs.values()) for arm in arms}
    listed = ", ".join(f"{name} ({number})" for name, number in found.items() if number)
    if listed:
        yield f"{head} learned nothing in runs of {listed}: see docs/recipes.md before you believe gains with these"


def _score(arm: Arm, head: str, resampled: Mapping[tuple[str, str, int], Floats]) -> Score | None:
    by_seed = {seed: run.heads[head].score for seed, run in arm.runs.items() if head in run.heads}
    if not by_seed:
        return None
    of_runs = [resampled[arm.name, head, seed] for seed in by_seed if (arm.name, head, seed) in resampled]
    metric = next(run.heads[head].metric for run in arm.runs.values() if head in run.heads)
    return Score(
        arm.name, head, metric, float(np.mean(list(by_seed.values()))), by_seed,
        over_examples=percentile_interval(np.mean(of_runs, axis=0)) if of_runs else None,
        over_seeds=interval_of_mean(list(by_seed.values())),
    )  # fmt: skip


def _gains(
    subject: str, arms: Sequence[Arm], control: str, heads: Sequence[str],
    resampled: Mapping[tuple[str, str, int], Floats],
) -> Iterator[Gain]:  # fmt: skip
    """The gains of all heads with one control, with Holm's correction over them."""
    ours = [arm for arm in arms if control in arm.controls]
    everything = max((set(arm.trained) for arm in ours), key=len, default=set())
    found: list[tuple[str, Arm, GainTest]] = []
    for head in heads:
        task = task_of(head)
        pooled = PooledVariance.of([_by_seed(arm, head) for arm in arms if task in arm.trained])
        alone = next((arm for arm in ours if arm.trained == (task,)), None)
        for arm in ours if alone is not None else ():
            is_compared = task in arm.trained or (subject == LANGUAGES and set(arm.trained) == everything - {task})
            if arm is alone or not is_compared:
                continue
            assert alone is not None
            if (test := _test(arm, alone, head, resampled, pooled)) is not None:
                found.append((head, arm, test))
    for (head, arm, test), corrected in zip(found, holm([test.p_value for *_, test in found]), strict=True):
        alone = next(one for one in ours if one.trained == (task_of(head),))
        has_learned = any(head not in run.collapsed for one in (arm, alone) for run in one.runs.values())
        verdict = CANNOT_TELL if corrected >= LEVEL or not has_learned else HELPS if test.gain > 0 else HURTS
        partners = tuple(name for name in arm.trained if name != task_of(head))
        yield Gain(
            control, head, arm.name, partners, task_of(head) not in arm.trained, arm.is_separate, test, corrected,
            has_learned, verdict,
            needed(test, num_tests=len(found)) if verdict == CANNOT_TELL and has_learned else None,
        )  # fmt: skip


def _by_seed(arm: Arm, head: str) -> list[float]:
    return [run.heads[head].score for run in arm.runs.values() if head in run.heads]


def _test(
    arm: Arm, alone: Arm, head: str, resampled: Mapping[tuple[str, str, int], Floats], pooled: PooledVariance
) -> GainTest | None:
    """The gain over the seeds that both arms have finished; None with fewer than two, which have no variance."""
    seeds = [
        seed for seed in arm.runs
        if seed in alone.runs and head in arm.runs[seed].heads and head in alone.runs[seed].heads
    ]  # fmt: skip
    if len(seeds) < 2:
        return None
    differences = [arm.runs[seed].heads[head].score - alone.runs[seed].heads[head].score for seed in seeds]
    if (arm.name, head, seeds[0]) not in resampled:
        return gain_test(differences, None, pooled=pooled)
    pairs_SR = [resampled[arm.name, head, seed] - resampled[alone.name, head, seed] for seed in seeds]
    counts = arm.runs[seeds[0]].heads[head].counts
    assert counts is not None
    return gain_test(differences, np.mean(pairs_SR, axis=0), num_examples=len(counts.rows_NK), pooled=pooled)

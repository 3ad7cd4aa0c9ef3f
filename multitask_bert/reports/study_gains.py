"""The scores of the heads of a study, and their gains over training alone, with a verdict each (docs/studies.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from multitask_bert.records import task_of
from multitask_bert.reports.study_runs import Arm
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

LANGUAGES = "languages"  # the subject of a study
HELPS, HURTS, CANNOT_TELL = "helps", "hurts", "cannot tell"


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


def resampled_runs(arms: Sequence[Arm], head: str) -> tuple[dict[tuple[str, str, int], Floats], str]:
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


def notes_on_collapses(arms: Sequence[Arm], head: str) -> Iterator[str]:
    found = {arm.shown: sum(head in run.collapsed for run in arm.runs.values()) for arm in arms}
    listed = ", ".join(f"{name} ({number})" for name, number in found.items() if number)
    if listed:
        yield f"{head} learned nothing in runs of {listed}: see docs/recipes.md before you believe gains with these"


def score_of(arm: Arm, head: str, resampled: Mapping[tuple[str, str, int], Floats]) -> Score | None:
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


def gains_of(
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

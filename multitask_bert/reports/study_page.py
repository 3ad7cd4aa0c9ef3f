"""The report of a study, at any time of it: `report.html`, its plots as files, its tables as Markdown and LaTeX,
and `report.json`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from multitask_bert.records import task_of
from multitask_bert.reports.pages import Plot, TextTable, render
from multitask_bert.reports.study import StudyReport, read_study
from multitask_bert.reports.study_gains import CANNOT_TELL, LANGUAGES, Gain, Score
from multitask_bert.reports.study_plots import CONTROLS, draw_plots
from multitask_bert.reports.study_runs import Arm
from multitask_bert.reports.text_tables import as_latex, as_markdown
from multitask_bert.utils.bootstrap import NUM_RESAMPLES, Interval
from multitask_bert.utils.files import finite, write_bytes, write_json
from multitask_bert.utils.significance import LEVEL, POWER

PAGE, VALUES, PLOTS, MARKDOWN, LATEX = "report.html", "report.json", "plots", "tables.md", "tables.tex"
METHOD = (
    f"Gain: mean over the seeds of the difference on test to training the task alone, in points. Intervals: 95%; over "
    f"examples by {NUM_RESAMPLES:,} paired bootstrap resamples of the test set, over seeds by Student's t on the "
    f"differences by seed. The verdict is that of a t-test with both variances, at {LEVEL:.0%} after Holm's correction "
    f"for all gains of the table. To tell: for a power of {POWER:.0%}, if the gain is as large as it seems: so many "
    f"seeds with these examples, or so many examples with these seeds. docs/studies.md has the formulas."
)


def write_study_report(study: optuna.Study, folder: Path) -> StudyReport:
    """Write the files of the report in `folder`, of what is finished by now."""
    report = read_study(study, folder)
    plots, tables = list(draw_plots(report)), list(tables_of(report))
    (folder / PLOTS).mkdir(parents=True, exist_ok=True)
    for plot in plots:
        write_bytes(folder / PLOTS / f"{plot.name}.png", plot.png)
    write_bytes(folder / PAGE, page_of(report, plots, tables))
    write_bytes(folder / MARKDOWN, "\n".join(map(as_markdown, tables)).encode(errors="replace"))
    write_bytes(folder / LATEX, "\n".join(map(as_latex, tables)).encode(errors="replace"))
    write_json(folder / VALUES, finite(_values(report)))
    return report


def verdicts(report: StudyReport) -> Iterator[str]:
    """One line per gain, and one per arm that misses runs."""
    for control in report.controls:
        gains = report.gains_of(control)
        if gains:
            yield f"With {CONTROLS[control]}, over {report.seeds} seeds:"
        for gain in gains:
            verdict = f"{gain.verdict} ({_needed(gain)})" if _needed(gain) else gain.verdict
            interval = f" {_over_both(gain)}" if _over_both(gain) else ""
            yield f"  {gain.head} {gain.shown_partners}: {_points(gain.test.gain)}{interval}, {verdict}"
    for arm, why in report.missing.items():
        yield f"Missing: {arm}, {why}"


def page_of(report: StudyReport, plots: Sequence[Plot], tables: Sequence[TextTable]) -> bytes:
    """The page, with its plots in it."""
    title = "Does training together help?" if report.subject != LANGUAGES else "From language to language"
    num_runs = sum(len(arm.runs) for arm in report.arms)
    missing = [(arm, why) for arm, why in report.missing.items()]
    facts = {
        "Study": report.study,
        "Tasks": ", ".join(report.tasks),
        "Runs": f"{num_runs} of {len(report.arms) * report.seeds}: {len(report.arms)} arms over {report.seeds} seeds",
        "Controls": "; ".join(CONTROLS[control] for control in report.controls),
        "Same in every run": " ".join(report.fixed_overrides) or "no overrides",
        "Written": report.written,
    }
    return render(
        "study.html", title=title, facts=facts, notes=report.notes, summary=list(_summary(report)), plots=plots,
        tables=tables, missing=TextTable("Missing", ("arm", "runs"), missing),
    )  # fmt: skip


def tables_of(report: StudyReport) -> Iterator[TextTable]:
    for control in report.controls:
        if report.subject == LANGUAGES:
            yield _languages(report, control)
        if gains := report.gains_of(control):
            yield _gains(gains, control)
    yield _scores(report)
    if rows := list(_regrets(report)):
        note = (
            "Regret: the best score of the head at any evaluation on dev, minus its score at the step whose model is "
            "kept, which is the best for all together; mean over the seeds, in points."
        )
        columns = ("trained together", "control", "head", "regret", "worst seed")
        yield TextTable("What one joint checkpoint costs", columns, rows, num_names=3, note=note)
    yield _costs(report)


def _summary(report: StudyReport) -> Iterator[str]:
    """The verdicts in one sentence per control."""
    for control in report.controls:
        gains = report.gains_of(control)
        if not gains:
            yield f"With {CONTROLS[control]}: no two arms have two seeds in common yet."
            continue
        found = [gain for gain in gains if gain.verdict != CANNOT_TELL]
        told = "; ".join(
            f"{gain.head} {gain.shown_partners} {gain.verdict} ({_points(gain.test.gain)})" for gain in found
        )
        num_open = len(gains) - len(found)
        rest = f"of {num_open} of {len(gains)} gains one cannot tell" if num_open else "no gain is open"
        yield f"With {CONTROLS[control]}: {told + '; ' if told else ''}{rest}."


def _gains(gains: Sequence[Gain], control: str) -> TextTable:
    rows = [
        (
            gain.head, gain.shown_partners, gain.verdict, _points(gain.test.gain), _over_both(gain),
            _range(gain.test.over_examples), _range(gain.test.over_seeds), _p(gain.corrected), _needed(gain),
        )
        for gain in gains
    ]  # fmt: skip
    columns = (
        "head",
        "trained",
        "verdict",
        "gain",
        "95% over both",
        "over examples",
        "over seeds",
        "p (Holm)",
        "to tell",
    )
    return TextTable(f"Gains over alone, with {CONTROLS[control]}", columns, rows, num_names=3, note=METHOD)


def _over_both(gain: Gain) -> str:
    """The interval by which the verdict goes; empty for equal scores, whose variance would be that of other arms."""
    return "" if gain.test.is_equal else _range(gain.test.over_both)


def _needed(gain: Gain) -> str:
    """What it takes to tell, as `needs 12 seeds or 4,300 examples`; empty where one can."""
    if gain.verdict != CANNOT_TELL:
        return ""
    if not gain.has_learned:
        return "the head learned nothing"
    if gain.test.is_equal:
        return "both scored the same with every seed"
    if gain.needed is None:
        return "no difference was seen"
    ways = [f"{gain.needed.seeds:,} seeds"] if gain.needed.seeds is not None else []
    ways += [f"{gain.needed.examples:,} examples"] if gain.needed.examples is not None else []
    return f"needs {' or '.join(ways) or f'{_factor(gain.needed.times)} times as many seeds and examples'}"


def _languages(report: StudyReport, control: str) -> TextTable:
    """Zero-shot, joint and alone side by side, for each language."""
    arms = report.arms_of(control)
    everything = max((set(arm.trained) for arm in arms), key=len, default=set())
    rows = []
    for head in report.heads:
        task = task_of(head)
        others = everything - {task}
        single = [
            s for arm in arms if len(arm.trained) == 1 and task not in arm.trained and (s := report.score(arm, head))
        ]
        best = max(single, key=lambda score: score.mean, default=None)
        mean = f"{100 * float(np.mean([score.mean for score in single])):.1f}" if single else ""
        from_best = "" if best is None else f"{_with_interval(best)} ({best.arm})"
        rows.append((
            head, mean, from_best, _of(report, arms, head, others), _of(report, arms, head, {task}),
            _of(report, arms, head, everything), _of(report, arms, head, everything, is_separate=True),
        ))  # fmt: skip
    columns = (
        "head", "zero-shot from one: mean", "best of them, by test", "zero-shot from all others", "alone", "joint",
        "joint, separate heads",
    )  # fmt: skip
    used = [index for index, _ in enumerate(columns) if index == 0 or any(row[index] for row in rows)]
    note = "Mean headline score on test over the seeds, in points, with its 95% interval over the test examples."
    return TextTable(
        f"Zero-shot, alone and joint, with {CONTROLS[control]}", [columns[index] for index in used],
        [[row[index] for index in used] for row in rows], num_names=1, note=note,
    )  # fmt: skip


def _of(report: StudyReport, arms: Sequence[Arm], head: str, trained: set[str], *, is_separate: bool = False) -> str:
    arm = next((arm for arm in arms if set(arm.trained) == trained and arm.is_separate == is_separate), None)
    score = None if arm is None else report.score(arm, head)
    return "" if score is None else _with_interval(score)


def _scores(report: StudyReport) -> TextTable:
    arms = {arm.name: arm for arm in report.arms}
    rows = []
    for score in report.scores:
        by_seed = " ".join(f"{seed}: {100 * value:.1f}" for seed, value in sorted(score.by_seed.items()))
        intervals = _range(score.over_examples), _range(score.over_seeds)
        controls = ", ".join(arms[score.arm].controls)
        rows.append((score.arm, controls, score.head, score.metric, f"{100 * score.mean:.1f}", *intervals, by_seed))
    columns = ("arm", "control", "head", "metric", "mean", "95% over examples", "over seeds", "by seed")
    return TextTable("Scores on test, in points", columns, rows, num_names=4)


def _regrets(report: StudyReport) -> Iterator[tuple[str, ...]]:
    for arm in report.arms:
        if len(arm.trained) < 2:
            continue
        for head in report.heads:
            by_seed = [run.regrets[head] for run in arm.runs.values() if head in run.regrets]
            if by_seed and task_of(head) in arm.trained:
                mean, worst = 100 * float(np.mean(by_seed)), 100 * max(by_seed)
                yield arm.shown, ", ".join(arm.controls), head, f"{mean:.1f}", f"{worst:.1f}"


def _costs(report: StudyReport) -> TextTable:
    rows = [
        (arm.shown, ", ".join(arm.controls), *_cost([arm]))
        for arm in report.arms if arm.runs
    ]  # fmt: skip
    for control in report.controls:
        arms = [arm for arm in report.arms_of(control) if arm.runs and not arm.is_separate]
        alone = [arm for arm in arms if len(arm.trained) == 1]
        joint = max(arms, key=lambda arm: len(arm.trained), default=None)
        if joint is not None and len(alone) == len(joint.trained) > 1:
            rows.append((f"{len(alone)} models, each alone", control, *_cost(alone)))
            rows.append(("one model for all", control, *_cost([joint])))
    columns = ("trained", "control", "steps", "seconds", "parameters")
    note = "Mean over the seeds, of one training: updates, seconds of training, and parameters of the model or models."
    return TextTable("Cost", columns, rows, num_names=2, note=note)


def _cost(arms: Sequence[Arm]) -> tuple[str, str, str]:
    """Steps, seconds and parameters of one training of each arm, together."""

    def total(field: str) -> float:
        return sum(float(np.mean([getattr(run, field) for run in arm.runs.values()])) for arm in arms)

    return f"{total('steps'):,.0f}", f"{total('seconds'):,.1f}", f"{total('parameters'):,.0f}"


def _values(report: StudyReport) -> dict[str, Any]:
    """The report in JSON types, without the counts of single examples."""
    arms = [
        {
            "name": arm.name, "trained": arm.trained, "controls": arm.controls, "is_separate": arm.is_separate,
            "folder": arm.folder, "problem": arm.problem,
            "runs": {
                str(seed): {
                    "steps": run.steps, "seconds": run.seconds, "parameters": run.parameters,
                    "regrets": dict(run.regrets), "collapsed": sorted(run.collapsed),
                    "scores": {name: head.score for name, head in run.heads.items()},
                }
                for seed, run in arm.runs.items()
            },
        }
        for arm in report.arms
    ]  # fmt: skip
    plain = {name: value for name, value in vars(report).items() if name not in ("arms", "scores", "gains")}
    return {**plain, "arms": arms, "scores": list(map(asdict, report.scores)), "gains": list(map(asdict, report.gains))}


def _with_interval(score: Score) -> str:
    return f"{100 * score.mean:.1f} {_range(score.over_examples)}".strip()


def _points(gain: float) -> str:
    return f"{100 * gain:+.1f}"


def _range(interval: Interval | None) -> str:
    return "" if interval is None else f"[{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _factor(times: float | None) -> str:
    return "over 100" if times is None or times > 100 else f"{times:.0f}" if times >= 10 else f"{times:.1f}"

"""`verify=true`: runs a study once per seed, and checks whether the mean scores are those that the study expects.

Rule: a score passes where |mean over the seeds - expected| <= tolerance (`at_least`: mean >= expected - tolerance). The
interval beside it is that of the mean by Student's t; it shows the spread over the seeds, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from multitask_bert.config.checks import notes_on_tests_by_seed
from multitask_bert.config.overrides import as_word
from multitask_bert.config.schema import ExpectedScore, ExperimentConfig, StudyConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import expected_here
from multitask_bert.saving.run_folder import HYDRA_CONFIG, collapsed_heads, read_results, save_config
from multitask_bert.tracking.console import Console
from multitask_bert.tracking.loggers import METRICS_FILE
from multitask_bert.utils.command import command
from multitask_bert.utils.files import finite, shown, write_json
from multitask_bert.utils.sharing import sharing
from multitask_bert.utils.significance import interval_of_mean

VERIFICATION = "verification.json"
PASS, FAIL = "PASS", "FAIL"
RULE = "|mean - expected| <= tolerance; at_least: mean >= expected - tolerance"
Train = Callable[[ExperimentConfig, Path], Any]  # trains in a folder and writes `results.json` there


@dataclass(frozen=True)
class Compared:
    """One expected score beside those of the runs."""

    key: str
    expected: ExpectedScore
    by_seed: Mapping[int, float | None]  # None: not a number

    @property
    def values(self) -> list[float]:
        return [value for value in self.by_seed.values() if value is not None]

    @property
    def mean(self) -> float | None:
        """The mean over the seeds; None if a seed's score is not a number."""
        return sum(self.values) / len(self.values) if len(self.values) == len(self.by_seed) else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% interval of the mean, by Student's t; None for a single seed, or if there is no mean."""
        return None if self.mean is None else interval_of_mean(self.values)

    @property
    def is_passed(self) -> bool:
        if self.mean is None:
            return False
        above = self.mean - self.expected.score
        slack = self.expected.tolerance + 1e-12  # a difference of exactly the tolerance passes, despite rounding
        return above >= -slack and (self.expected.at_least or above <= slack)

    def described(self) -> dict[str, Any]:
        by_seed = {str(seed): value for seed, value in self.by_seed.items()}
        return {
            **asdict(self.expected), "by_seed": by_seed, "mean": self.mean, "interval": self.interval,
            "passed": self.is_passed,
        }  # fmt: skip


@dataclass(frozen=True)
class Verification:
    """All scores that a study expects of the tasks in the run, compared."""

    study: StudyConfig
    scores: Sequence[Compared]
    collapsed: Mapping[int, Sequence[str]] = field(default_factory=dict)  # by seed, heads that learned nothing

    @property
    def is_passed(self) -> bool:
        return all(compared.is_passed for compared in self.scores)

    @property
    def left_out(self) -> list[str]:
        """Keys of the expected scores whose tasks are not in the run."""
        compared = {one.key for one in self.scores}
        return [key for key in self.study.expected if key not in compared]

    def described(self) -> dict[str, Any]:
        study = self.study
        return {
            "passed": self.is_passed, "rule": RULE, "source": study.source, "table": study.table,
            "caveats": study.caveats, "seeds": list(study.seeds),
            "scores": {compared.key: compared.described() for compared in self.scores},
            "left_out": self.left_out,
            "collapsed": {str(seed): list(names) for seed, names in self.collapsed.items()},
        }  # fmt: skip

    def tell(self, console: Console, folder: Path) -> None:
        """Print the table, the study's source and caveats, and in the last line PASS or FAIL."""
        console.show_rows("Verification", COLUMNS, [_row(compared) for compared in self.scores])
        for name in ("source", "table", "caveats"):
            if (text := getattr(self.study, name)) is not None:
                console.say(f"{name.capitalize():<12} {text}")
        if self.left_out:
            console.say(f"Not compared {', '.join(self.left_out)}: their tasks are not in this run")
        for seed, names in self.collapsed.items():
            console.say(f"Seed {seed:<7} {', '.join(names)} learned nothing: see collapsed in its results.json")
        console.say(f"Rule         {RULE}; the interval is that of the mean, by Student's t over the seeds")
        console.say(f"In figures   {shown(folder / VERIFICATION)}")
        console.say(PASS if self.is_passed else FAIL)


COLUMNS = ("score", "set", "expected", "tolerance", "mean", "95% interval", "seeds", "")


def verify_study(config: ExperimentConfig, folder: Path, train: Train) -> Verification:
    """Train once per seed of `config.study`, each in `folder`/seed_N as an ordinary run, and compare the scores.

    With `resume`, complete runs are kept, and one that was stopped is resumed.

    Raises:
        InputError: the folder holds a verification already, or no run reports an expected score.
        SystemExit: a run was asked to end, with its exit status.
    """
    folders = {seed: folder / f"seed_{seed}" for seed in config.study.seeds}
    if not config.resume and any((own / METRICS_FILE).exists() for own in folders.values()):
        raise InputError(
            f"hydra.run.dir={folder}: this folder holds runs of a verification already; resume it (resume=true), "
            f"name another, or remove it first"
        )
    console = Console()
    for note in notes_on_tests_by_seed(config) if len(folders) > 1 else ():
        console.say(f"Note: {note}")
    try:
        with sharing():
            for number, (seed, own) in enumerate(folders.items(), start=1):
                console.say(f"verify: seed {seed}, {number} of {len(folders)}")
                train(_config_of_seed(config, seed, own), own)
    except SystemExit:
        console.say(f"All seeds    {command()} {as_word('run_dir', shown(folder))} resume=true")
        raise
    results = {seed: read_results(own) for seed, own in folders.items()}
    found = compare(config, {seed: of_seed["metrics"] for seed, of_seed in results.items()})
    found = replace(found, collapsed=_collapsed(results))
    write_json(folder / VERIFICATION, finite(found.described()))
    found.tell(console, folder)
    return found


def compare(config: ExperimentConfig, metrics: Mapping[int, Mapping[str, Any]]) -> Verification:
    """Compare the expected scores with `metrics`, which are those of each seed's `results.json`.

    Raises:
        InputError: an expected score is not among the metrics.
    """
    scores = []
    for key, expected in expected_here(config).items():
        for seed, of_seed in metrics.items():
            if key not in of_seed.get(expected.split, {}):
                raise InputError(
                    f"study.expected.{key}: the run with seed {seed} has no such score on {expected.split}; it has "
                    f"{', '.join(of_seed.get(expected.split, {})) or 'none there'}"
                )
        by_seed = {seed: of_seed[expected.split][key] for seed, of_seed in metrics.items()}
        scores.append(Compared(key, expected, by_seed))
    return Verification(config.study, scores)


def _collapsed(results: Mapping[int, Mapping[str, Any]]) -> dict[int, list[str]]:
    """The heads that have learned nothing in a run's best model, by seed; seeds without such heads are left out."""
    return {seed: names for seed, of_seed in results.items() if (names := collapsed_heads(of_seed))}


def _config_of_seed(config: ExperimentConfig, seed: int, folder: Path) -> ExperimentConfig:
    """The config of one seed's run, saved in its folder as Hydra saves one, so that other actions find it."""
    own = replace(config, seed=seed, verify=False, study=StudyConfig(), run_dir=None, resume=False)
    if not (folder / HYDRA_CONFIG).is_file():
        save_config(own, folder)
    return replace(own, resume=config.resume)


def _row(compared: Compared) -> tuple[str, ...]:
    expected, interval = compared.expected, compared.interval
    return (
        compared.key, expected.split, f"{'>= ' if expected.at_least else ''}{expected.score:.4f}",
        f"{expected.tolerance:.4f}", "not a number" if compared.mean is None else f"{compared.mean:.4f}",
        "" if interval is None else f"{interval[0]:.4f} {interval[1]:.4f}",
        " ".join("-" if value is None else f"{value:.4f}" for value in compared.by_seed.values()),
        PASS if compared.is_passed else FAIL,
    )  # fmt: skip

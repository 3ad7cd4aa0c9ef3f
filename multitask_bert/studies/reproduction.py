"""`action=reproduce`: compares an earlier run with the run that repeats it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from multitask_bert.errors import InputError
from multitask_bert.saving.run_folder import RESULTS, read_results
from multitask_bert.training import provenance
from multitask_bert.utils.visible import on_one_line

SAME, WITHIN_SPREAD, DIFFERENT = "the same, to the bit", "the same within the spread", "different"


@dataclass(frozen=True)
class Earlier:
    """The results and provenance of a finished run."""

    provenance: Mapping[str, Any]
    results: Mapping[str, Any]


def read_earlier(folder: Path) -> Earlier:
    """Read the results and provenance of a finished run.

    Raises:
        InputError: the run is not finished, or one of its files is missing or damaged.
    """
    for name in (provenance.PROVENANCE, RESULTS):
        if not (folder / name).is_file():
            raise InputError(f"run_dir={folder}: has no {name}; only a finished run can be reproduced")
    try:
        described = provenance.read(folder)
        results = read_results(folder)
        # Checked now, since a missing entry would otherwise be found only after the training.
        needed = [*(described[name] for name in provenance.INPUTS), results["metrics"]["eval"]]
        has_ended = "final" in described
        needed += [described["final"]["weights"], described["final"]["metrics"]] if has_ended else []
        if not all(needed):
            raise ValueError("an entry is empty")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"run_dir={folder}: {provenance.PROVENANCE} or {RESULTS} is damaged ({error!r})") from error
    if not has_ended:
        raise InputError(f"run_dir={folder}: this run is not finished, so there is nothing to compare with")
    if provenance.hash_of_metrics(results["metrics"]) != described["final"]["metrics"]:
        raise InputError(
            f"run_dir={folder}: the scores in {RESULTS} do not match the hash in {provenance.PROVENANCE}; one of the "
            f"two files was changed after the run"
        )
    return Earlier(described, results)


def verdict(before: Earlier, now: Earlier) -> tuple[str, Table]:
    """How two runs compare, and a table of their test scores (dev scores if there are none)."""
    finals = [run.provenance["final"] for run in (before, now)]
    results = [run.results for run in (before, now)]
    split = "test" if all("test" in result["metrics"] for result in results) else "eval"
    then, again = (result["metrics"][split] for result in results)
    intervals: Mapping[str, Any] = results[0].get("test_intervals", {}) if split == "test" else {}
    table = Table(title=f"Scores on {split}", title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for name, justify in (("score", "left"), ("then", "right"), ("now", "right"), ("95% interval then", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    is_within = bool(intervals)
    for key in sorted({*then, *again}):
        low, high = intervals.get(key, (None, None))
        if low is not None:
            is_within &= again.get(key) is not None and low <= again[key] <= high
        table.add_row(
            on_one_line(key),
            *map(_shown, (then.get(key), again.get(key))),
            "" if low is None else f"{low:.4f} {high:.4f}",
        )
    if finals[0] == finals[1]:
        return SAME, table
    return WITHIN_SPREAD if is_within else DIFFERENT, table


def circumstances(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What else differs and may be the cause: code, packages, hardware."""
    return provenance.differences(before, now, provenance.CIRCUMSTANCES)


def _shown(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"

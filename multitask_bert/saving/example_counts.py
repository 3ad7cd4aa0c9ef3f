"""`test_counts.npz`: what each test example adds to the headline scores of a run, for paired tests between runs.

For every head, as `task.head`, the file has the rows of `utils/metrics` (of entities: right, gold and found in the
sentence). The entry `heads` is JSON: by head the metric, its class and its score on test. A headline that does not
follow from sums over examples has no rows.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from multitask_bert.errors import InputError
from multitask_bert.records import TaskResult, task_of
from multitask_bert.utils.bootstrap import Counts
from multitask_bert.utils.files import write_bytes

TEST_COUNTS = "test_counts.npz"
HEADS = "heads"  # no `task.head` is called so


@dataclass(frozen=True)
class TestedHead:
    """The headline score of a head on test, and the counts that it follows from, if it does."""

    metric: str
    score: float
    counts: Counts | None


def write_test_counts(folder: Path, results: Mapping[str, TaskResult]) -> None:
    """Write the file; named test sets and pooled scores are not in it."""
    heads: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for task, result in results.items():
        for head, scores in result.scores.items() if task == task_of(task) else ():
            metric, score = next(iter(scores.items()))
            counts = result.counts.get(head)
            heads[f"{task}.{head}"] = {"metric": metric, "score": score, "family": counts and counts.family}
            if counts is not None:
                rows_NK = counts.rows_NK
                as_integers = rows_NK.astype(np.int32)
                arrays[f"{task}.{head}"] = as_integers if (as_integers == rows_NK).all() else rows_NK
    content = io.BytesIO()
    np.savez_compressed(content, **{HEADS: np.array(json.dumps(heads)), **arrays})
    write_bytes(folder / TEST_COUNTS, content.getvalue())


def read_test_counts(folder: Path) -> dict[str, TestedHead]:
    """The tested heads of a run by `task.head`; empty if the run has no such file.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / TEST_COUNTS
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as file:
            described = json.loads(str(file[HEADS]))
            return {
                name: TestedHead(
                    head["metric"], float(head["score"]),
                    None if head["family"] is None
                    else Counts(head["family"], head["metric"], file[name].astype(np.float64)),
                )
                for name, head in described.items()
            }  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: is damaged ({error}); evaluate or train this run again") from error

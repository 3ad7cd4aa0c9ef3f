"""What a run writes into its folder: before it trains, what it is made from; at its end, the model and its results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from multitask_bert.config.overrides import as_word
from multitask_bert.data.splits import as_split
from multitask_bert.errors import InputError
from multitask_bert.records import TaskResult
from multitask_bert.saving.example_counts import write_test_counts
from multitask_bert.saving.predictions import write_predictions
from multitask_bert.saving.run_folder import REPRODUCE, RESULTS, write_reproduction, write_results
from multitask_bert.training import provenance
from multitask_bert.training.calibration import calibrated_heads, describe_calibration
from multitask_bert.training.metric_keys import gather_intervals
from multitask_bert.training.restart import Restart
from multitask_bert.training.trainer import Trainer
from multitask_bert.utils.clock import seconds_since
from multitask_bert.utils.command import command
from multitask_bert.utils.files import shown


def write_start(
    trainer: Trainer, folder: Path, before: Mapping[str, Any] | None, config_files: Mapping[str, str] | None
) -> None:
    """Write what the run is made from, before it trains.

    Raises:
        InputError: that is not what the run `before` was made from.
    """
    with writing_to(folder):
        write_reproduction(trainer.config, folder)
    described = {**provenance.describe(trainer), "config_files": dict(config_files or {})}
    with writing_to(folder):
        provenance.write_start(folder, described)
    if before is not None:
        provenance.refuse_other_inputs(before, described)


def write_end(
    trainer: Trainer,
    restart: Restart | None,
    folder: Path,
    started: float,
    metrics: dict[str, dict[str, float]],
    tested: dict[str, Any],
    on_dev: Mapping[str, TaskResult],
) -> None:
    """Write the model and the results; last `results.json`, which marks the run as complete.

    `metrics`: the scores of dev and test. `tested`: those of each head's own best model. `on_dev`: the results of the
    best model on dev.

    Raises:
        InputError: a file cannot be written.
    """
    state = trainer.state
    trainer.best.publish(folder / "model")
    results = {
        "metrics": metrics,
        "test_intervals": gather_intervals(trainer.results.get("test", {})),
        "best": {
            "metric": trainer.best.metric,
            "value": state.best_score,
            "step": state.best_step,
            "epoch": state.best_epoch,
            "weights": state.best_weights,
        },
        "best_by_head": state.best_by_head,
        "test_of_own_best": tested,
        **_calibration(trainer, on_dev),
        "steps": state.step,
        "skipped_steps": state.num_skipped,
        "stopped_early": state.stopped_early,
        "evaluations": state.num_evaluations,
        "collapsed": _collapses(trainer),
        "restarted": None if restart is None else asdict(restart),
        "pruned": state.pruned,
        "train_seconds": state.train_seconds,
        "total_seconds": seconds_since(started),
        "train_tokens": state.num_tokens,
        "train_examples": state.num_examples,
        "train_tokens_per_second": state.tokens_per_second,
        "data": [asdict(report) for report in trainer.output.data_reports],
    }
    with writing_to(folder):
        _keep_predictions(trainer, folder, on_dev)
        if "test" in metrics:
            write_test_counts(folder, trainer.results["test"])
        provenance.write_end(folder, trainer.model, metrics)
        write_results(folder, results)
    for name in (REPRODUCE, provenance.PROVENANCE, RESULTS):
        trainer.reporter.log_artifact(folder / name)
    if any(getattr(logger, "log_model", False) for logger in trainer.reporter.loggers):
        trainer.reporter.log_artifact(folder / "model")
    assert trainer.checkpoints is not None
    trainer.checkpoints.remove()


def _calibration(trainer: Trainer, on_dev: Mapping[str, TaskResult]) -> dict[str, Any]:
    """The entry `calibration` of the results; none if no head calibrates."""
    if not calibrated_heads(trainer.model):
        return {}
    splits = {
        "dev": (on_dev, trainer.eval_datasets),
        "test": (trainer.results.get("test", {}), trainer.test_datasets),
    }
    return {"calibration": describe_calibration(trainer.model, splits)}


def _keep_predictions(trainer: Trainer, folder: Path, on_dev: Mapping[str, TaskResult]) -> None:
    """Write the predictions of the best model on dev and test, as its evaluations made them."""
    if (limit := trainer.config.trainer.keep_predictions) == 0:
        return
    found = (("dev", on_dev, trainer.eval_datasets), ("test", trainer.results.get("test", {}), trainer.test_datasets))
    for split, results, datasets in found:
        if results:
            examples = {name: as_split(dataset).examples() for name, dataset in datasets.items()}
            write_predictions(folder, split, trainer.model.heads, results, examples, limit=limit)


def _collapses(trainer: Trainer) -> dict[str, Any]:
    """The heads that had learned nothing at an evaluation, by `task.head`: at how many, and how in the best model."""
    at_best = {f"{task}.{head}": how for task, result in trainer.results.get("best", {}).items()
               for head, how in result.collapsed.items()}  # fmt: skip
    return {
        name: {"evaluations": number, "best_model": at_best.get(name)}
        for name, number in trainer.state.num_collapses.items()
    }


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turn an `OSError` into an error that says how to resume.

    Raises:
        InputError: a file cannot be written; files are written completely or not at all.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: a file of the run cannot be written there ({error}); free disk space and resume with   "
            f"{command()} {as_word('run_dir', shown(folder))} resume=true"
        ) from error

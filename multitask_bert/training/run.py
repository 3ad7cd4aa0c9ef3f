"""One run from its config to its folder: train, evaluate, and leave everything behind that it takes to believe it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from multitask_bert.config.overrides import as_word
from multitask_bert.config.recipes import advice_on_steep_end, describe_recipe
from multitask_bert.config.schema import ExperimentConfig, run_name
from multitask_bert.errors import InputError
from multitask_bert.saving.resume import refuse_another_config
from multitask_bert.saving.run_folder import (
    REPRODUCE,
    RESULTS,
    places,
    read_reproduction,
    read_results,
    write_reproduction,
    write_results,
)
from multitask_bert.tracking.console import Console
from multitask_bert.training import provenance
from multitask_bert.training.checkpoint import Savepoints, Stopped
from multitask_bert.training.collapse import CollapsedError, begin_anew, read_restart, restarted
from multitask_bert.training.evaluation import gather_intervals
from multitask_bert.training.non_finite import NonFiniteLossError
from multitask_bert.training.trainer import Trainer, Watcher
from multitask_bert.trust.classes import named_class
from multitask_bert.utils import signals
from multitask_bert.utils.clock import seconds_since
from multitask_bert.utils.files import remove_half_written, shown

OWN_BEST_COLUMNS = ("head", "score of the best model", "own best", "at step", "cost of the joint choice")


def run_training(
    config: ExperimentConfig,
    folder: Path,
    *,
    tags: Mapping[str, str],
    name: str | None = None,
    watcher: Watcher | None = None,
    before: Mapping[str, Any] | None = None,
    config_files: Mapping[str, str] | None = None,
    started: float | None = None,
) -> float:
    """Train, evaluate the best model on dev and test, and leave everything in `folder`; returns the best score.

    `name`: of the run in the loggers; None: that of the config, or its tasks. `watcher`: hears each evaluation and may
    end the run there; its model is then not evaluated on test. `before`: the provenance of a run that is to be
    reproduced. `config_files`: by name, what the config was read from. `started`: when the run began, by
    `time.perf_counter`; None: now.

    Raises:
        InputError: bad input; or what `before` was trained on has changed.
    """
    started = time.perf_counter() if started is None else started
    console = Console()
    restart = read_restart(folder)
    if restart is not None:
        config = restarted(config, restart)
    if config.resume and (began_with := read_reproduction(folder)) is not None:
        refuse_another_config(began_with, config)
    if config.resume and (folder / RESULTS).is_file():
        console.say(f"{shown(folder)}: this run is complete; there is nothing to go on with")
        Savepoints(folder, config).remove()  # as the run did itself, unless it was killed over it
        results = read_results(folder)
        return float(results["best"]["value"])
    console.say(f"{run_name(config)}: run folder {shown(folder)}")
    console.say(describe_recipe(config))
    if config.resume:
        remove_half_written(folder)
    options: dict[str, Any] = {
        "tags": tags, "name": name, "watcher": watcher, "before": before, "config_files": config_files,
        "started": started, "console": console,
    }  # fmt: skip
    try:
        return _train_once(config, folder, **options)
    except CollapsedError as error:
        restart = begin_anew(folder, config, str(error))
        console.say(f"{error}; begun anew, with scheduler.warmup_ratio={restart.warmup_ratio:g}")
        return _train_once(restarted(config, restart), folder, **options)


def _train_once(
    config: ExperimentConfig,
    folder: Path,
    *,
    tags: Mapping[str, str],
    name: str | None,
    watcher: Watcher | None,
    before: Mapping[str, Any] | None,
    config_files: Mapping[str, str] | None,
    started: float,
    console: Console,
) -> float:
    """One attempt at a run: train, test the best model, leave the files; returns the best score.

    Raises:
        CollapsedError: a head learns nothing, and the config asks to begin anew.
    """
    trainer: Trainer | None = None
    try:
        with signals.asking(_end_at_once):
            named_class("trainer._target_", config.trainer._target_.removesuffix(".from_config"), Trainer)
            # The class comes from conf/trainer/*.yaml; the call is an ordinary one, so that errors keep their type.
            make_trainer = instantiate({"_target_": config.trainer._target_, "_partial_": True})
            trainer = make_trainer(config, folder=folder, tags=tags, console=console, watcher=watcher, name=name)
            assert trainer is not None
            with _writing_to(folder):
                write_reproduction(config, folder)
            described = {**provenance.describe(trainer), "config_files": dict(config_files or {})}
            with _writing_to(folder):
                provenance.write_start(folder, described)
            if before is not None:
                provenance.refuse_other_inputs(before, described)
            with signals.asking(trainer.ask_to_stop):
                state = trainer.train()
            _finish(trainer, folder, started)
    except NonFiniteLossError:
        assert trainer is not None
        trainer.best.publish(folder / "model")
        console.say(_what_is_kept(trainer, folder))
        raise
    except (KeyboardInterrupt, Stopped) as stop:
        _tell_what_is_kept(trainer, config, folder, console, f"stopped by {stop}" if str(stop) else "interrupted")
        raise SystemExit(signals.exit_status(str(stop) or "SIGINT")) from None
    finally:
        if trainer is not None:
            trainer.close()
    console.show_end(state, trainer.best.metric, trainer.results, places(config, folder))
    if rows := trainer.own_best.rows(trainer.results["best"]):
        console.show_rows("Each head's own best", OWN_BEST_COLUMNS, rows)
    is_whole = trainer.best.is_higher_better and not state.stopped_early and not state.pruned
    if is_whole and (advice := advice_on_steep_end(state.score_history)) is not None:
        console.say(f"{trainer.best.metric} {advice}")
    assert state.best_score is not None
    return state.best_score


def _finish(trainer: Trainer, folder: Path, started: float) -> None:
    """Test the best model, and leave what came out; `results.json` is the last of it, and says that all is there."""
    state = trainer.state
    metrics, tested = {"eval": state.best_metrics}, {}
    if state.pruned:
        trainer.console.say(f"pruned at step {state.step} of {state.num_steps}: other trials do better")
    elif trainer.test_datasets:
        metrics["test"] = trainer.evaluate(test=True)
        tested = trainer.evaluate_own_best()
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
        "steps": state.step,
        "skipped_steps": state.num_skipped,
        "stopped_early": state.stopped_early,
        "evaluations": state.num_evaluations,
        "collapsed": _collapses(trainer),
        "restarted": None if (restart := read_restart(folder)) is None else asdict(restart),
        "pruned": state.pruned,
        "train_seconds": state.train_seconds,
        "total_seconds": seconds_since(started),
        "train_tokens": state.num_tokens,
        "train_examples": state.num_examples,
        "train_tokens_per_second": state.tokens_per_second,
        "data": [asdict(report) for report in trainer.data_reports],
    }
    with _writing_to(folder):
        provenance.write_end(folder, trainer.model, metrics)
        write_results(folder, results)
    for name in (REPRODUCE, provenance.PROVENANCE, RESULTS):
        trainer.reporter.log_artifact(folder / name)
    if any(getattr(logger, "log_model", False) for logger in trainer.reporter.loggers):
        trainer.reporter.log_artifact(folder / "model")
    trainer.savepoints.remove()


def _collapses(trainer: Trainer) -> dict[str, Any]:
    """By `task.head` that had learnt nothing at an evaluation: at how many, and in what way the best model has not."""
    at_best = {f"{task}.{head}": how for task, result in trainer.results.get("best", {}).items()
               for head, how in result.collapsed.items()}  # fmt: skip
    return {
        name: {"evaluations": number, "best_model": at_best.get(name)}
        for name, number in trainer.state.num_collapses.items()
    }


def _end_at_once(signal_name: str) -> None:
    """Before and after training: what is done there is done again when the run goes on."""
    raise KeyboardInterrupt if signal_name == "SIGINT" else Stopped(signal_name)


@contextlib.contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    """Turn an error of the disk into one that says how to go on.

    Raises:
        InputError: a file cannot be written; each is written whole or not at all.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder}: a file of the run cannot be written there ({error}); make room and go on with   "
            f"python run.py {as_word('run_dir', shown(folder))} resume=true"
        ) from error


def _tell_what_is_kept(
    trainer: Trainer | None, config: ExperimentConfig, folder: Path, console: Console, how: str
) -> None:
    if trainer is None or not trainer.state.num_steps:
        console.say(f"{how} before training began")
    else:
        trainer.best.publish(folder / "model")
        console.say(f"{how} at step {trainer.state.step}; {_what_is_kept(trainer, folder)}")
    if config.trainer.keep_last and not (folder / RESULTS).is_file():
        console.say(f"Go on with   python run.py {as_word('run_dir', shown(folder))} resume=true")


def _what_is_kept(trainer: Trainer, folder: Path) -> str:
    if trainer.state.best_score is None:
        return "no model is kept, since none was evaluated yet (trainer.eval_every=N evaluates more often)"
    return f"the best model so far, of step {trainer.state.best_step}, is in {shown(folder / 'model')}"

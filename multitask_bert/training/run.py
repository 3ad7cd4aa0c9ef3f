"""A whole run: train, evaluate the best model on test, and save the evidence for its scores (run_files.py)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.utils import instantiate

from multitask_bert.config.overrides import as_word
from multitask_bert.config.recipes import describe_recipe
from multitask_bert.config.schema import AUTO_PRECISION, ExperimentConfig, run_name
from multitask_bert.records import TaskResult
from multitask_bert.saving.resume import refuse_changed_config
from multitask_bert.saving.run_folder import (
    RESULTS,
    describe_outputs,
    read_reproduction,
    read_results,
    recorded_precision,
    with_precision,
)
from multitask_bert.saving.store import CheckpointStore
from multitask_bert.tracking.console import Console
from multitask_bert.training.calibration import calibrated_heads
from multitask_bert.training.loop import Stopped
from multitask_bert.training.non_finite import NonFiniteLossError
from multitask_bert.training.output import RunOutput, Watcher
from multitask_bert.training.restart import (
    CollapsedError,
    Restart,
    prepare_restart,
    read_restart,
    restarted,
    set_first_attempt_aside,
)
from multitask_bert.training.run_files import write_end, write_start, writing_to
from multitask_bert.training.steep_end import advice_on_steep_end
from multitask_bert.training.trainer import Trainer
from multitask_bert.trust.classes import named_class
from multitask_bert.utils import signals
from multitask_bert.utils.command import command
from multitask_bert.utils.files import remove_half_written, shown
from multitask_bert.utils.ranks import this_run

# Draws the pictures of a run that is complete but for them, from its folder, and returns their files; raises nothing.
Draw = Callable[[Path], Sequence[Path]]
BEST_PER_HEAD_COLUMNS = ("head", "score of the best model", "own best", "at step", "cost of the joint choice")


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
    draw: Draw | None = None,
) -> float:
    """Train, evaluate the best model on dev and test, and save all results in `folder`; return the best score.

    `tags`, `name`, `watcher`: see `RunOutput`; the model of a run that the watcher prunes is not evaluated on test.
    `before`: the provenance of a run to reproduce. `config_files`: the files that the config was composed from, by
    name. `started`: when the run began, by `time.perf_counter`; None: now. `draw`: None: no pictures are drawn.

    Raises:
        InputError: bad input; or weights, tokenizer or data are not those of `before`.
    """
    started = time.perf_counter() if started is None else started
    ranks = this_run()
    console = Console(quiet=not ranks.is_first)
    restart = ranks.of_first(read_restart(folder) if ranks.is_first else None)
    if restart is not None:
        if ranks.is_first:
            with writing_to(folder):
                set_first_attempt_aside(folder)  # a kill may have kept it from being done
        config = restarted(config, restart)
    if config.resume and config.trainer.precision == AUTO_PRECISION:  # elsewhere it might stand for another
        precision = ranks.of_first(recorded_precision(folder) if ranks.is_first else None)
        config = config if precision is None else with_precision(config, precision)
    if config.resume and ranks.is_first and (began_with := read_reproduction(folder)) is not None:
        refuse_changed_config(began_with, config)
    if config.resume and ranks.is_first:
        remove_half_written(folder)
    if ranks.of_first(config.resume and (folder / RESULTS).is_file()):
        console.say(f"{shown(folder)}: this run is complete; there is nothing to resume")
        if ranks.is_first:
            CheckpointStore(folder).remove()  # as the run did itself, unless it was killed meanwhile
        return ranks.of_first(_best_value(folder) if ranks.is_first else math.nan)
    console.say(f"{run_name(config)}: run folder {shown(folder)}")
    console.say(describe_recipe(config))
    output = RunOutput(folder if ranks.is_first else None, name=name, tags=tags, console=console, watcher=watcher)
    try:
        return _train_once(config, restart, folder, output, started, before, config_files, draw)
    except CollapsedError as error:  # of several processes, all learn of it from the same scores
        if ranks.is_first:
            with writing_to(folder):
                restart = prepare_restart(folder, config, str(error))
        restart = ranks.of_first(restart)
        assert restart is not None
        console.say(f"{error}; restarting with scheduler.warmup_ratio={restart.warmup_ratio:g}")
        config = restarted(config, restart)
        return _train_once(config, restart, folder, output, started, before, config_files, draw)


def _best_value(folder: Path) -> float:
    """The best score of the complete run in `folder`; not a number where it was none."""
    value = read_results(folder)["best"]["value"]
    return math.nan if value is None else float(value)


def _train_once(
    config: ExperimentConfig,
    restart: Restart | None,
    folder: Path,
    output: RunOutput,
    started: float,
    before: Mapping[str, Any] | None,
    config_files: Mapping[str, str] | None,
    draw: Draw | None,
) -> float:
    """One attempt at a run: train, evaluate the best model on test, write the files; return the best score.

    `restart`: None in the first attempt.

    Raises:
        CollapsedError: a head learns nothing, and the config asks for a restart.
    """
    console = output.console
    trainer: Trainer | None = None
    try:
        with signals.asking(_stop_at_once):
            named_class("trainer._target_", config.trainer._target_.removesuffix(".from_config"), Trainer)
            # The class comes from conf/trainer/*.yaml; the call is an ordinary one, so that errors keep their type.
            make_trainer = instantiate({"_target_": config.trainer._target_, "_partial_": True})
            trainer = make_trainer(config, output)
            assert trainer is not None
            if trainer.ranks.is_first:
                write_start(trainer, folder, before, config_files)
            with signals.asking(trainer.ask_to_stop):
                state = trainer.train()
            metrics, tested = _test(trainer)
            on_dev = _best_on_dev(trainer)
            if trainer.ranks.is_first:
                write_end(trainer, restart, folder, started, metrics, tested, on_dev)
            if trainer.ranks.is_first and draw is not None and not state.pruned:
                for path in draw(folder):
                    trainer.reporter.log_artifact(path)
    except NonFiniteLossError:
        assert trainer is not None
        trainer.best.publish(folder / "model")
        console.say(_saved_model(trainer, folder))
        trainer.ranks.sums([0])  # as below
        raise
    except (KeyboardInterrupt, Stopped) as stop:
        this_run().may_tell()  # others that have lost this process need not
        _say_stopped(trainer, config, folder, console, f"stopped by {stop}" if str(stop) else "interrupted")
        if trainer is not None and trainer.stop_reason is not None:
            trainer.ranks.sums([0])  # the first process to end would have rank 0 killed, which still writes
        raise SystemExit(signals.exit_status(str(stop) or "SIGINT")) from None
    finally:
        if trainer is not None:
            trainer.close()
    console.show_end(state, trainer.best.metric, trainer.results, describe_outputs(config, folder))
    if restart is not None:
        longer = f"scheduler.warmup_ratio={restart.warmup_ratio:g}"
        console.say(f"Second attempt, with {longer}; the first: {restart.reason}")
    if rows := trainer.best_per_head.rows(trainer.results["best"]):
        console.show_rows("Each head's own best", BEST_PER_HEAD_COLUMNS, rows)
    is_whole = trainer.best.is_higher_better and not state.stopped_early and not state.pruned
    if is_whole and (advice := advice_on_steep_end(state.score_history)) is not None:
        console.say(f"{trainer.best.metric} {advice}")
    assert state.best_score is not None
    return state.best_score


def _test(trainer: Trainer) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Evaluate the best model on test: the scores of dev and test, and those of each head's own best model."""
    state = trainer.state
    metrics, tested = {"eval": state.best_metrics}, {}
    if state.pruned:
        trainer.console.say(f"pruned at step {state.step} of {state.num_steps}: other trials do better")
    elif trainer.test_datasets:
        metrics["test"] = trainer.evaluate(test=True)
        tested = trainer.evaluate_best_per_head()
    return metrics, tested


def _best_on_dev(trainer: Trainer) -> Mapping[str, TaskResult]:
    """The results of the best model on dev, with predictions if these are kept or calibrated.

    A run that was resumed after its best step has no predictions on dev any more, and makes them again.
    """
    best = trainer.results.get("best", {})
    has_all = all(name in best and best[name].predictions for name in trainer.eval_datasets)
    if has_all or (trainer.config.trainer.keep_predictions == 0 and not calibrated_heads(trainer.model)):
        return best
    return trainer.evaluator.evaluate_all(trainer.eval_datasets)


def _stop_at_once(signal_name: str) -> None:
    """End a run before or after training, where a resumed run does the same work again."""
    raise KeyboardInterrupt if signal_name == "SIGINT" else Stopped(signal_name)


def _say_stopped(trainer: Trainer | None, config: ExperimentConfig, folder: Path, console: Console, how: str) -> None:
    """Say what a stopped run has saved, and how to resume it."""
    if trainer is None or not trainer.state.num_steps:
        console.say(f"{how} before training began")
    else:
        trainer.best.publish(folder / "model")
        console.say(f"{how} at step {trainer.state.step}; {_saved_model(trainer, folder)}")
    if config.trainer.keep_last and not (folder / RESULTS).is_file():
        console.say(f"Resume with  {command()} {as_word('run_dir', shown(folder))} resume=true")


def _saved_model(trainer: Trainer, folder: Path) -> str:
    if trainer.state.best_score is None:
        return "no model is saved, since none was evaluated yet (trainer.eval_every=N evaluates more often)"
    return f"the best model so far, of step {trainer.state.best_step}, is in {shown(folder / 'model')}"

"""Inside a job: train one trial, report its scores to the pruner, and tell the study the result.

1. `run_trial` finds the trial by its number, which is in the job's environment.
2. With one seed, every evaluation is reported. With several, they train one after the other, with a report after each.
3. The job tells the result, not the controller: a trial that finished is kept, whatever happens to the controller.

A job may be several processes (docs/scaling.md): all of them train; rank 0 has the trial, and tells the others what the
pruner says.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from optuna import Study
from optuna.trial import Trial, TrialState

from multitask_bert.config.schema import AUTO_PRECISION, ExperimentConfig
from multitask_bert.config.sweep_config import THREADS, TRIAL, SweepConfig
from multitask_bert.saving.run_folder import RESULTS, collapsed_heads, read_results, save_config, with_precision
from multitask_bert.sweeps.processes import this_process
from multitask_bert.sweeps.study import HEARTBEAT_SECONDS, PRECISION, database_of, load_study, lock
from multitask_bert.sweeps.trials import SECONDS
from multitask_bert.training.preparation import resolve_precision
from multitask_bert.utils.clock import seconds_since
from multitask_bert.utils.files import finite, write_json
from multitask_bert.utils.ranks import PeerLostError, this_run
from multitask_bert.utils.schedules import permille_of
from multitask_bert.utils.sharing import sharing
from multitask_bert.utils.terminal import make_console

log = logging.getLogger(__name__)

ERROR_LENGTH = 2000  # characters of an error that the study keeps


class Train(Protocol):
    """Trains in a folder and writes `results.json`; stops when `on_evaluation(step, num_steps, scores)` is True."""

    def __call__(
        self, config: ExperimentConfig, folder: Path, on_evaluation: Callable[[int, int, Mapping[str, float]], bool], /
    ) -> Any: ...


class DivergenceError(RuntimeError):
    """A score or a loss is infinite or not a number."""


@dataclass
class Outcome:
    """The results of a trial's trainings."""

    is_pruned: bool = False
    by_seed: dict[int, dict[str, float]] = field(default_factory=dict)  # final scores of each finished training
    collapsed: set[str] = field(default_factory=set)  # heads (task.head) that learned nothing, of the best models
    num_steps: int = 0  # of all finished trainings

    def add(self, seed: int, results: Mapping[str, Any]) -> None:
        """Add the `results.json` of a training."""
        self.by_seed[seed] = results["metrics"]["eval"]
        self.collapsed.update(collapsed_heads(results))
        self.num_steps += results["steps"]

    def mean(self, key: str) -> float:
        scores = [scores[key] for scores in self.by_seed.values()]
        return sum(scores) / len(scores)

    def means(self) -> dict[str, float]:
        keys = dict.fromkeys(key for scores in self.by_seed.values() for key in scores)
        return {key: self.mean(key) for key in keys if all(key in scores for scores in self.by_seed.values())}


def run_trial(config: ExperimentConfig, folder: Path, train: Train) -> float | None:
    """Train the config as a trial of the study; the value of the first metric, None if the trial failed."""
    sweeper = OmegaConf.to_object(HydraConfig.get().sweeper)
    assert isinstance(sweeper, SweepConfig)
    ranks = this_run()
    trial = _begun_trial(sweeper, folder) if ranks.is_first else None
    if not ranks.of_first(trial is not None):
        return None
    config = _in_precision_of_study(config, trial, folder.parent)
    # A trial that dies is retried from its beginning, so it needs no checkpoints to resume from.
    config = replace(config, trainer=replace(config.trainer, keep_last=0))
    if THREADS in os.environ:
        torch.set_num_threads(int(os.environ[THREADS]))
    started = time.perf_counter()
    with nullcontext() if trial is None else _heartbeat(trial), sharing():
        try:
            outcome = _train(config, folder, train, trial, sweeper)
            if trial is None:
                return None
            trial.set_user_attr(SECONDS, seconds_since(started))
            return _tell(trial, outcome, sweeper)
        except Exception as error:
            if trial is not None:
                log.info("trial %d failed", trial.number, exc_info=True)
                trial.set_user_attr(SECONDS, seconds_since(started))
                _tell_failure(trial, error)
            elif not isinstance(error, PeerLostError):
                ranks.may_tell(error, _described(error))
            return None
        finally:
            _free_device()


def _begun_trial(sweeper: SweepConfig, folder: Path) -> Trial | None:
    """The trial of this job, which belongs to this process from now on; None if it was failed before it started."""
    study = load_study(sweeper, folder.parent)
    number = int(os.environ[TRIAL])
    frozen = study.get_trials(deepcopy=False)[number]
    assert frozen.number == number
    if frozen.state != TrialState.RUNNING:
        log.warning("trial %d was failed before it started, and is retried elsewhere", number)
        return None
    trial = Trial(study, frozen._trial_id)
    trial.set_user_attr("process", this_process())
    return trial


def _in_precision_of_study(config: ExperimentConfig, trial: Trial | None, folder: Path) -> ExperimentConfig:
    """The config with `trainer.precision=auto` as the first trial resolved it, so that all trials can be compared.

    `trial`: None in another process than rank 0, which looks the precision up for all.
    """
    if config.trainer.precision != AUTO_PRECISION:
        return config
    precision = "" if trial is None else _precision_of_study(config, trial.study, folder)
    return with_precision(config, this_run().of_first(precision))


def _precision_of_study(config: ExperimentConfig, study: Study, folder: Path) -> str:
    with lock(folder):
        if PRECISION not in study.user_attrs:
            study.set_user_attr(PRECISION, resolve_precision(config, make_console().print).trainer.precision)
    return str(study.user_attrs[PRECISION])


def _free_device() -> None:
    """Free the memory of the GPU that a failed trial still holds."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def _train(config: ExperimentConfig, folder: Path, train: Train, trial: Trial | None, sweeper: SweepConfig) -> Outcome:
    """Train with each seed, or until the trial is pruned; `trial`: None in another process than rank 0."""
    metrics, outcome = sweeper.metrics, Outcome()
    is_first = trial is not None
    last_reported = 0

    def report(step: int, num_steps: int, scores: Mapping[str, float]) -> bool:
        nonlocal last_reported
        _refuse_nan(step, scores, metrics)
        shares = config.trainer.eval_shares
        place = permille_of(step, num_steps, shares) if shares else step
        if len(metrics) > 1 or place <= last_reported:  # an attempt after a restart is not judged by the first one
            return False
        last_reported = place
        return _is_pruned(trial, scores[metrics[0]], place)

    if sweeper.seeds == 1:
        train(config, folder, report)
        results = _results_in(folder)
        outcome.is_pruned = results["pruned"]
        outcome.add(config.seed, results)
        return outcome
    for seed in range(config.seed, config.seed + sweeper.seeds):
        seed_config, seed_folder = replace(config, seed=seed), folder / f"seed_{seed}"
        if is_first:
            save_config(seed_config, seed_folder)
        train(seed_config, seed_folder, lambda step, num_steps, scores: _refuse_nan(step, scores, metrics))
        outcome.add(seed, _results_in(seed_folder))
        is_last = len(outcome.by_seed) == sweeper.seeds
        if len(metrics) == 1:
            score, mean = outcome.by_seed[seed][metrics[0]], outcome.mean(metrics[0])
            reported = score if sweeper.pruner_name == "wilcoxon" else mean
            outcome.is_pruned = _is_pruned(trial, reported, len(outcome.by_seed)) and not is_last
        if is_first:
            _write_summary(folder, outcome, metrics)
        if outcome.is_pruned:
            if is_first:
                make_console().print(
                    f"pruned after {len(outcome.by_seed)} of {sweeper.seeds} seeds: other trials do better"
                )
            break
    return outcome


def _is_pruned(trial: Trial | None, score: float, step: int) -> bool:
    """Report a score, and ask whether the pruner ends the trial; all processes get the answer of rank 0."""
    answer = False
    if trial is not None:
        trial.report(score, step)
        answer = bool(trial.should_prune())  # some pruners return a NumPy bool, which is not JSON
    return this_run().of_first(answer)


def _results_in(folder: Path) -> dict[str, Any]:
    """The `results.json` of a training, which rank 0 has written."""
    ranks = this_run()
    return ranks.of_first(read_results(folder) if ranks.is_first else {})


def _tell(trial: Trial, outcome: Outcome, sweeper: SweepConfig) -> float | None:
    means, metrics = outcome.means(), sweeper.metrics
    values = [means[metric] for metric in metrics]
    by_seed = {seed: [scores[metric] for metric in metrics] for seed, scores in outcome.by_seed.items()}
    trial.set_user_attr("scores", means)
    trial.set_user_attr("collapsed", sorted(outcome.collapsed))
    trial.set_user_attr("steps", outcome.num_steps)
    trial.set_user_attr(
        "seed_scores", {str(seed): scores if len(scores) > 1 else scores[0] for seed, scores in by_seed.items()}
    )
    if outcome.is_pruned:
        trial.study.tell(trial.number, state=TrialState.PRUNED)
    else:
        trial.study.tell(trial.number, values)
    return values[0]


def _tell_failure(trial: Trial, error: Exception) -> None:
    text = _described(error)[:ERROR_LENGTH]
    if isinstance(error, PeerLostError):
        text = (this_run().told() or "a process of this trial has ended without a word (killed?)")[:ERROR_LENGTH]
    trial.set_user_attr("error", text)
    trial.study.tell(trial.number, state=TrialState.FAIL)
    make_console().print(f"trial {trial.number} failed: {text.splitlines()[0]}")


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _refuse_nan(step: int, scores: Mapping[str, float], metrics: list[str]) -> bool:
    """Raise if the training diverged; always False, so that the trial is not pruned.

    Raises:
        DivergenceError: a metric or the loss is not finite.
    """
    for name in (*metrics, "eval_loss"):
        if not math.isfinite(scores[name]):
            raise DivergenceError(f"{name} is {scores[name]} at step {step}: the training diverged")
    return False


def _write_summary(folder: Path, outcome: Outcome, metrics: list[str]) -> None:
    """Write `results.json` of a trial with several seeds, beside those of each seed."""
    by_seed = {f"seed_{seed}": {name: scores[name] for name in metrics} for seed, scores in outcome.by_seed.items()}
    summary = {"metrics": {"eval": outcome.means()}, "seeds": by_seed, "pruned": outcome.is_pruned}
    write_json(folder / RESULTS, finite(summary))


@contextmanager
def _heartbeat(trial: Trial) -> Iterator[None]:
    """Send heartbeats from a thread, if the storage keeps them."""
    database = database_of(trial.storage)
    if database is None:
        yield
        return
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(HEARTBEAT_SECONDS):
            try:
                database.record_heartbeat(trial._trial_id)
            except Exception as error:  # keep training: a storage that is down shows at the next report
                log.info("the storage did not take a heartbeat: %s", error)

    database.record_heartbeat(trial._trial_id)
    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()

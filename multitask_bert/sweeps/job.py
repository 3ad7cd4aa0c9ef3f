"""Inside a job: one trial trains, reports its scores, prunes itself and tells its result to the study.

1. `run_trial` finds the trial by its number, which travels in the job's environment.
2. One seed: every evaluation is reported. Several: one training after the other, a report after each.
3. The result is told here, not by the controller: whatever happens to that one, what finished is kept.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import optuna
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from optuna.storages import RDBStorage
from optuna.trial import Trial, TrialState

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.saving.run_folder import RESULTS, collapsed_heads, keep_config, read_results
from multitask_bert.sweeps.liveness import this_process
from multitask_bert.sweeps.settings import THREADS, TRIAL, SweepConfig
from multitask_bert.sweeps.study import HEARTBEAT_SECONDS, load_study
from multitask_bert.sweeps.trials import SECONDS
from multitask_bert.utils.clock import seconds_since
from multitask_bert.utils.files import finite, write_json
from multitask_bert.utils.sharing import sharing
from multitask_bert.utils.terminal import make_console

log = logging.getLogger(__name__)

ERROR_LENGTH = 2000  # characters of an error that are kept in the study


class Train(Protocol):
    """Trains in a folder and leaves `results.json` there; tells each evaluation, and ends where that says True."""

    def __call__(
        self, config: ExperimentConfig, folder: Path, watcher: Callable[[int, int, Mapping[str, float]], bool], /
    ) -> Any: ...


class DivergenceError(RuntimeError):
    """A score or a loss is not a number any more."""


@dataclass
class Outcome:
    """What a trial's trainings gave."""

    is_pruned: bool = False
    by_seed: dict[int, dict[str, float]] = field(default_factory=dict)  # final scores of each finished training
    collapsed: set[str] = field(default_factory=set)  # heads (task.head) that learned nothing, of the best models
    num_steps: int = 0  # of all finished trainings

    def add(self, seed: int, results: Mapping[str, Any]) -> None:
        """What a training left in its `results.json`."""
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
    """Train what the config says as a trial of the study; the first metric's value, or None where there is none."""
    settings = OmegaConf.to_object(HydraConfig.get().sweeper)
    assert isinstance(settings, SweepConfig)
    study = load_study(settings, folder.parent)
    number = int(os.environ[TRIAL])
    frozen = study.get_trials(deepcopy=False)[number]
    assert frozen.number == number
    if frozen.state != TrialState.RUNNING:
        log.warning("trial %d was given up before it began, and tried again elsewhere", number)
        return None
    trial = Trial(study, frozen._trial_id)
    trial.set_user_attr("process", this_process())
    # A trial is tried again from its beginning, so it needs no checkpoints to go on from.
    config = replace(config, trainer=replace(config.trainer, keep_last=0))
    if THREADS in os.environ:
        torch.set_num_threads(int(os.environ[THREADS]))
    started = time.perf_counter()
    with _heartbeat(trial), sharing():
        try:
            outcome = _train(config, folder, train, trial, settings)
            trial.set_user_attr(SECONDS, seconds_since(started))
            return _tell(study, trial, outcome, settings)
        except Exception as error:
            log.info("trial %d failed", number, exc_info=True)
            trial.set_user_attr(SECONDS, seconds_since(started))
            _tell_failure(study, trial, error)
            return None
        finally:
            _free_device()


def permille_of(step: int, num_steps: int, shares: Sequence[float]) -> int:
    """How much of its steps a trial has done: the nearest of the shares at which all trials evaluate, in permille.

    Trials of different lengths are compared there: at equal steps, the rate of a longer one has yet to decay.
    """
    return round(1000 * min([*shares, 1.0], key=lambda share: abs(share * num_steps - step)))


def _free_device() -> None:
    """What a trial that ran out of memory still holds there, before the next one begins."""
    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def _train(config: ExperimentConfig, folder: Path, train: Train, trial: Trial, settings: SweepConfig) -> Outcome:
    metrics, outcome = settings.metrics, Outcome()

    def report(step: int, num_steps: int, scores: Mapping[str, float]) -> bool:
        _refuse_nan(step, scores, metrics)
        if len(metrics) > 1:
            return False
        shares = config.trainer.eval_shares
        trial.report(scores[metrics[0]], permille_of(step, num_steps, shares) if shares else step)
        return bool(trial.should_prune())  # some pruners answer with a NumPy bool, which JSON does not know

    if settings.seeds == 1:
        train(config, folder, report)
        results = read_results(folder)
        outcome.is_pruned = results["pruned"]
        outcome.add(config.seed, results)
        return outcome
    for seed in range(config.seed, config.seed + settings.seeds):
        own, own_folder = replace(config, seed=seed), folder / f"seed_{seed}"
        keep_config(own, own_folder)
        train(own, own_folder, lambda step, num_steps, scores: _refuse_nan(step, scores, metrics))
        outcome.add(seed, read_results(own_folder))
        is_last = len(outcome.by_seed) == settings.seeds
        if len(metrics) == 1:
            own_score, mean = outcome.by_seed[seed][metrics[0]], outcome.mean(metrics[0])
            trial.report(own_score if settings.pruner_name == "wilcoxon" else mean, len(outcome.by_seed))
            outcome.is_pruned = bool(trial.should_prune()) and not is_last
        _write_summary(folder, outcome, metrics)
        if outcome.is_pruned:
            make_console().print(
                f"pruned after {len(outcome.by_seed)} of {settings.seeds} seeds: other trials do better"
            )
            break
    return outcome


def _tell(study: optuna.Study, trial: Trial, outcome: Outcome, settings: SweepConfig) -> float | None:
    means, metrics = outcome.means(), settings.metrics
    values = [means[metric] for metric in metrics]
    by_seed = {seed: [scores[metric] for metric in metrics] for seed, scores in outcome.by_seed.items()}
    trial.set_user_attr("scores", means)
    trial.set_user_attr("collapsed", sorted(outcome.collapsed))
    trial.set_user_attr("steps", outcome.num_steps)
    trial.set_user_attr("seed_scores", {str(seed): own if len(own) > 1 else own[0] for seed, own in by_seed.items()})
    if outcome.is_pruned:
        study.tell(trial.number, state=TrialState.PRUNED)
    else:
        study.tell(trial.number, values)
    return values[0]


def _tell_failure(study: optuna.Study, trial: Trial, error: Exception) -> None:
    text = f"{type(error).__name__}: {error}"[:ERROR_LENGTH]
    trial.set_user_attr("error", text)
    study.tell(trial.number, state=TrialState.FAIL)
    make_console().print(f"trial {trial.number} failed: {text.splitlines()[0]}")


def _refuse_nan(step: int, scores: Mapping[str, float], metrics: list[str]) -> bool:
    """End a trial whose training diverged; never asks for it to be pruned.

    Raises:
        DivergenceError: a metric or the loss is not finite.
    """
    for name in (*metrics, "eval_loss"):
        if not math.isfinite(scores[name]):
            raise DivergenceError(f"{name} is {scores[name]} at step {step}: the training diverged")
    return False


def _write_summary(folder: Path, outcome: Outcome, metrics: list[str]) -> None:
    """`results.json` of a trial of several seeds; those of each seed have their own."""
    by_seed = {f"seed_{seed}": {name: scores[name] for name in metrics} for seed, scores in outcome.by_seed.items()}
    summary = {"metrics": {"eval": outcome.means()}, "seeds": by_seed, "pruned": outcome.is_pruned}
    write_json(folder / RESULTS, finite(summary))


@contextmanager
def _heartbeat(trial: Trial) -> Iterator[None]:
    """Signs of life from a thread, where the storage keeps them."""
    storage: Any = trial.storage
    backend = getattr(storage, "_backend", storage)  # behind the cache that Optuna puts before a database
    if not isinstance(backend, RDBStorage):
        yield
        return
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(HEARTBEAT_SECONDS):
            try:
                backend.record_heartbeat(trial._trial_id)
            except Exception as error:  # the training goes on; what it reports will tell
                log.info("no sign of life could be left in the storage: %s", error)

    backend.record_heartbeat(trial._trial_id)
    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()

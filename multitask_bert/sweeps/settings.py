"""What a sweep is made of: `hydra.sweeper` with `hydra/sweeper=study`. Imported at every start of Hydra: kept light."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional

from multitask_bert.config.schema import is_lower_better

TRIAL = "MULTITASK_BERT_TRIAL"  # environment of a job: the number of its trial in the study
PARENT_RUN = "MULTITASK_BERT_PARENT_RUN"  # environment of a job: MLflow's id of the sweep's run
THREADS = "MULTITASK_BERT_THREADS"  # environment of a job: its share of the machine's cores
OWN = "own"  # attribute of a trial: it has the values of the config itself
MAXIMIZE, MINIMIZE = "maximize", "minimize"


@dataclass
class SweepConfig:
    """One study: what is searched, for which score, how, and for how long; see docs/sweeps.md."""

    _target_: str = "hydra_plugins.multitask_bert_sweeper.StudySweeper"
    space: Dict[str, Any] = field(default_factory=dict)  # by config key: {low, high, log, step, type} or a list
    function: Optional[str] = None  # module.function(trial) that defines what depends on other choices; null: none
    n_trials: int = 20  # trials in the study, all commands that work on it taken together
    seeds: int = 1  # trainings per trial, with seeds seed, seed+1, …; the value is their mean
    metric: Any = "eval_mean_f1"  # a key of Trainer.evaluate, or a list of keys: several objectives
    direction: Any = None  # maximize | minimize, one per metric; null: minimize losses and errors, else maximize
    sampler: str = "tpe"  # tpe | gp | cmaes | random | grid | nsga2
    sampler_options: Dict[str, Any] = field(default_factory=dict)  # keyword arguments of Optuna's class
    pruner: Optional[str] = None  # rank | median | successive_halving | hyperband | wilcoxon | none; null: see docs
    pruner_options: Dict[str, Any] = field(default_factory=dict)  # keyword arguments of Optuna's class
    storage: Optional[str] = None  # sqlite:///… or postgresql://…; null: study.journal in the sweep's folder
    study: str = "${short_name:${hydra.runtime.choices.sweep}_${hydra.runtime.choices.tasks}}"  # the same name goes on
    max_failures: int = 3  # trials that may fail; with one more the sweep stops
    n_jobs: Optional[int] = None  # trials launched at once; null: as many as the launcher runs side by side
    try_own: bool = False  # the first trial has the config's own values (its encoder's recipe), if in the space
    measure: bool = True  # before the first trial, train a few steps here, to say how long the sweep takes
    seed: int = 1  # of the sampler; with the same one, all proposals are the same again
    take_over: bool = False  # also take for dead what runs on a machine that cannot be asked

    @property
    def metrics(self) -> list[str]:
        return [str(name) for name in self.metric] if isinstance(self.metric, list) else [str(self.metric)]

    @property
    def directions(self) -> list[str]:
        """maximize or minimize, by metric."""
        if isinstance(self.direction, list):
            return [str(direction) for direction in self.direction]
        if self.direction is not None:
            return [str(self.direction)] * len(self.metrics)
        return [MINIMIZE if is_lower_better(metric) else MAXIMIZE for metric in self.metrics]

    @property
    def pruner_name(self) -> str:
        """The pruner that is meant where none is named: between evaluations `rank`, between seeds `median`; nothing
        prunes several objectives."""
        if self.pruner is not None:
            return self.pruner
        return "none" if len(self.metrics) > 1 else "median" if self.seeds > 1 else "rank"

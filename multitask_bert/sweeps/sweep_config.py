"""The typed config of `hydra.sweeper` with `hydra/sweeper=study`. Every start of Hydra imports it: keep it light."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from multitask_bert.config.schema import is_lower_better

# Environment variables of a job.
TRIAL = "MULTITASK_BERT_TRIAL"  # number of its trial in the study
PARENT_RUN = "MULTITASK_BERT_PARENT_RUN"  # id of the sweep's MLflow run
THREADS = "MULTITASK_BERT_THREADS"  # its share of the machine's cores
HAS_CONFIG_VALUES = "own"  # user attribute of a trial whose parameters are the config's values (`try_own`)
MAXIMIZE, MINIMIZE = "maximize", "minimize"


@dataclass
class SweepConfig:
    """One study: the search space, the metric, the methods and the budget; see docs/sweeps.md."""

    _target_: str = "hydra_plugins.multitask_bert_sweeper.StudySweeper"
    space: Dict[str, Any] = field(default_factory=dict)  # by config key: {low, high, log, step, type} or a list
    arms: Optional[str] = None  # transfer | languages: trials are the arms of a study (docs/studies.md), not a search
    subsets: List[str] = field(default_factory=list)  # of a study: which tasks are trained together
    controls: List[str] = field(default_factory=list)  # of a study: recipe and equal_updates, or one of them
    function: Optional[str] = None  # module.function(trial) that suggests values depending on others; null: none
    n_trials: int = 20  # trials in the study, of all commands that work on it together
    seeds: int = 1  # trainings per trial, with seeds seed, seed+1, …; the value is their mean
    metric: Any = "eval_mean_f1"  # a key of Trainer.evaluate, or a list of keys for several objectives
    direction: Any = None  # maximize | minimize, one per metric; null: minimize losses and errors, maximize others
    sampler: str = "tpe"  # tpe | gp | cmaes | random | grid | nsga2
    sampler_options: Dict[str, Any] = field(default_factory=dict)  # keyword arguments of Optuna's class
    pruner: Optional[str] = None  # rank | median | successive_halving | hyperband | wilcoxon | none; null: see docs
    pruner_options: Dict[str, Any] = field(default_factory=dict)  # keyword arguments of Optuna's class
    storage: Optional[str] = None  # sqlite:///… or postgresql://…; null: study.journal in the sweep's folder
    study: str = "${short_name:${hydra.runtime.choices.sweep}_${hydra.runtime.choices.tasks}}"  # same name: resume it
    max_failures: int = 3  # trials that may fail; with one more the sweep stops
    n_jobs: Optional[int] = None  # trials launched at once; null: as many as the launcher runs in parallel
    try_own: bool = False  # the first trial uses the config's values (the encoder's recipe), if the space has them
    measure: bool = True  # before the first trial, train a few steps here to estimate how long the sweep takes
    seed: int = 1  # of the sampler; the same seed proposes the same values again
    take_over: bool = False  # count running trials of other machines as dead, too

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
        """The given pruner, else `rank` between evaluations or `median` between seeds; none for several objectives."""
        if self.pruner is not None:
            return self.pruner
        return "none" if len(self.metrics) > 1 else "median" if self.seeds > 1 else "rank"

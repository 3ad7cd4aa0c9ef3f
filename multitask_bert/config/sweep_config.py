"""The typed config of `hydra.sweeper` with `hydra/sweeper=study`. Every start of Hydra imports it: keep it light."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from multitask_bert.config.schema import is_lower_better
from multitask_bert.config.setting import setting

# Environment variables of a job.
TRIAL = "MULTITASK_BERT_TRIAL"  # number of its trial in the study
PARENT_RUN = "MULTITASK_BERT_PARENT_RUN"  # id of the sweep's MLflow run
THREADS = "MULTITASK_BERT_THREADS"  # its share of the machine's cores
HAS_CONFIG_VALUES = "own"  # user attribute of a trial whose parameters are the config's values (`try_own`)
MAXIMIZE, MINIMIZE = "maximize", "minimize"


@dataclass
class SweepConfig:
    """One study: the search space, the metric, the methods and the budget; see docs/sweeps.md."""

    _target_: str = setting("hydra_plugins.multitask_bert_sweeper.StudySweeper", "what Hydra instantiates")
    space: Dict[str, Any] = setting(dict, "by config key: {low, high, log, step, type} or a list")
    arms: Optional[str] = setting(
        None,
        "trials are the arms of a study (docs/studies.md), not a search; null: a search",
        choices=("transfer", "languages"),
    )
    subsets: List[str] = setting(list, "of a study: which tasks are trained together")
    controls: List[str] = setting(list, "of a study: recipe and equal_updates, or one of them")
    function: Optional[str] = setting(
        None, "module.function(trial) that suggests values depending on others; null: none"
    )
    n_trials: int = setting(20, "trials in the study, of all commands that work on it together", at_least=1)
    seeds: int = setting(1, "trainings per trial, with seeds seed, seed+1, …; the value is their mean", at_least=1)
    metric: Any = setting("eval_mean_f1", "a key of Trainer.evaluate, or a list of keys for several objectives")
    direction: Any = setting(
        None, "maximize | minimize, one per metric; null: minimize losses and errors, maximize others"
    )
    sampler: str = setting("tpe", "how values are proposed", choices=("tpe", "gp", "cmaes", "random", "grid", "nsga2"))
    sampler_options: Dict[str, Any] = setting(dict, "keyword arguments of Optuna's class")
    pruner: Optional[str] = setting(
        None,
        "how unpromising trials are ended; null: rank, median with several seeds, none with several metrics",
        choices=("rank", "median", "successive_halving", "hyperband", "wilcoxon", "none"),
    )
    pruner_options: Dict[str, Any] = setting(dict, "keyword arguments of Optuna's class")
    storage: Optional[str] = setting(None, "sqlite:///… or postgresql://…; null: study.journal in the sweep's folder")
    study: str = setting(
        "${short_name:${hydra.runtime.choices.sweep}_${hydra.runtime.choices.tasks}}",
        "name of the study; the same name resumes it",
    )
    max_failures: int = setting(3, "trials that may fail; with one more the sweep stops", at_least=0)
    n_jobs: Optional[int] = setting(
        None, "trials launched at once; null: as many as the launcher runs in parallel", at_least=1
    )
    try_own: bool = setting(
        False, "the first trial uses the config's values (the encoder's recipe), if the space has them"
    )
    measure: bool = setting(True, "before the first trial, train a few steps here to estimate how long the sweep takes")
    seed: int = setting(1, "of the sampler; the same seed proposes the same values again", at_least=0)
    take_over: bool = setting(False, "count running trials of other machines as dead, too")

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

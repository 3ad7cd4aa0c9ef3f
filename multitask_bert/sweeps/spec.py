"""The specification of a sweep: read from its config and the command line, checked before the first trial."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from multitask_bert.config.joined_tasks import GROUP
from multitask_bert.config.schema import ExperimentConfig, is_lower_better
from multitask_bert.config.sweep_config import MINIMIZE, SweepConfig
from multitask_bert.config.tree import from_tree, unknown_key, without_hydra
from multitask_bert.errors import InputError
from multitask_bert.heads import metric_for_best, reported_keys
from multitask_bert.sweeps import conf_files
from multitask_bert.sweeps.arms import Arms, plan_arms
from multitask_bert.sweeps.samplers_and_pruners import check_sampler_and_pruner, grid_size
from multitask_bert.sweeps.space import (
    FIELD,
    Dimension,
    as_overrides,
    plain_choice,
    probe_overrides,
    read_request,
)
from multitask_bert.sweeps.study import ARMS, quiet_optuna
from multitask_bert.sweeps.trials import Define, distribution_of, load_function, overrides_of
from multitask_bert.utils.cost import EVALUATION_SPEEDUP, Work
from multitask_bert.utils.ranks import num_processes_of_job

# Shares of their steps at which trials evaluate if they may be pruned: the first list that is cheap enough.
REPORT_SHARES = ((0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), (0.2, 0.3, 0.5, 0.75, 1.0))
MOST_FOR_EVALUATIONS = 0.25  # of the cost of a trial's training; see docs/experiments.md, "Pruning"
NUM_PROBES = 3  # random configs that are checked before the first trial if a function defines the space
DIR_LINE = "hydra: {sweep: {dir: outputs/sweeps/${hydra.sweeper.study}}}"

log = logging.getLogger(__name__)

Check = Callable[[DictConfig], ExperimentConfig]


@dataclass(frozen=True)
class SweepSpec:
    """A checked sweep."""

    sweeper: SweepConfig
    dimensions: tuple[Dimension, ...]
    define: Define | None
    fixed: tuple[str, ...]  # overrides of every trial
    folder: Path
    conf: tuple[Path, ...]  # folders with configs
    groups: tuple[str, ...]  # names of the config groups, those that only some trials use included
    configs: frozenset[str] | None  # what trials are composed from, as in `tasks/ner`; None: a function decides
    num_jobs: int  # trials in parallel
    num_processes: int  # of each trial
    threads_per_job: int | None  # of each of its processes; None: no limit
    config: ExperimentConfig  # of the first probe, without `fixed`
    probes: tuple[tuple[str, ...], ...]  # overrides of configs that trials could have
    compose: Callable[[Sequence[str]], ExperimentConfig]  # gives the config of a trial with these overrides
    config_values: Mapping[str, Any] | None  # parameters of the first trial, if `try_own` wants the config's values
    config_values_problem: str | None  # why the first trial cannot have them
    runs_elsewhere: bool  # trials run on other machines, as on a cluster
    caveats: tuple[str, ...] = ()  # why the metric does not compare its trials
    arms: Arms | None = None  # of a study, whose trials they are

    @property
    def n_trials(self) -> int:
        wanted = self.sweeper.n_trials
        return min(wanted, grid_size(self.dimensions)) if self.sweeper.sampler == "grid" else wanted

    @property
    def reports(self) -> str:
        """The unit of the steps that are reported to the pruner: steps | permille (of a trial's own steps) | seeds."""
        if self.sweeper.seeds > 1:
            return "seeds"
        return "permille" if self.compose(self.probes[0]).trainer.eval_shares else "steps"

    def conf_files(self) -> dict[str, str]:
        return conf_files.hash_files(self.conf, self.groups)

    def refuse_changed_files(self, before: Mapping[str, str]) -> None:
        """Refuse to resume a study, which has recorded the config files `before`; see `conf_files.refuse_changes`."""
        conf_files.refuse_changes(before, self.conf_files(), self.conf, self.configs)

    def attributes(self) -> dict[str, Any]:
        """User attributes of the study."""
        files = self.conf_files()
        return {
            "space": {dimension.key: dimension.described() for dimension in self.dimensions},
            "function": self.sweeper.function,
            "metrics": self.sweeper.metrics,
            "directions": self.sweeper.directions,
            "seeds": self.sweeper.seeds,
            "reports": self.reports,
            "fixed_overrides": list(self.fixed),
            "caveats": list(self.caveats),
            **({} if self.arms is None else {ARMS: self.arms.described()}),
            "conf_hash": conf_files.hash_of(files),
            "conf_files": files,
        }


def make_spec(
    arguments: Sequence[str],
    config: DictConfig,
    loader: ConfigLoader,
    check: Check,
    *,
    count_work: Callable[[ExperimentConfig], Work],
) -> SweepSpec:
    """Read and check everything that is known before the first trial.

    `arguments`: overrides of the command line; `config`: composed with those that are not sweeps; `check`: gives the
    typed config or refuses it; `count_work`: counts the steps and tokens of a config, for which it reads the data.

    Raises:
        InputError: the sweep cannot work; names the field, its value and the way out.
    """
    quiet_optuna()
    sweeper = OmegaConf.to_object(config.hydra.sweeper)
    assert isinstance(sweeper, SweepConfig)
    _check_folder(config)
    request = read_request(arguments, sweeper, config)
    groups = [str(name) for name in config.hydra.runtime.choices if not str(name).startswith("hydra/")]
    for dimension in request.dimensions:
        _check_key(dimension.key, config, groups)
    check_sampler_and_pruner(sweeper, request.dimensions)
    define = load_function(sweeper.function) if sweeper.function is not None else None
    configs = set(config.hydra.runtime.files)

    def compose(overrides: Sequence[str]) -> ExperimentConfig:
        tree = loader.load_sweep_config(config, [*request.fixed, *overrides])
        configs.update(tree.hydra.runtime.files)
        groups.extend(name.rpartition("/")[0] for name in tree.hydra.runtime.files if "/" in name)
        return check(tree)

    arms = None
    if sweeper.arms is not None:
        joined = str(config.hydra.runtime.choices[GROUP])
        arms = plan_arms(
            sweeper, joined, request,
            compose=lambda overrides: check(loader.load_sweep_config(config, list(overrides))),
            read=lambda overrides: from_tree(without_hydra(loader.load_sweep_config(config, list(overrides)))),
            count_work=count_work,
        )  # fmt: skip
        request = arms.request
    probes = [(compose(overrides), overrides) for overrides in _probes(request.dimensions, define)]
    for probe, overrides in probes:
        _check_metrics(sweeper, probe, overrides)
    first = probes[0][0]
    fixed = (*request.fixed, *_best_by_objective(sweeper, first), *_report_points(sweeper, first, count_work))
    config_values, problem = _config_values(sweeper, request.dimensions, config, groups)
    num_jobs = _num_jobs(sweeper, config)
    return SweepSpec(
        sweeper=sweeper,
        dimensions=request.dimensions,
        define=define,
        fixed=fixed,
        folder=Path(config.hydra.sweep.dir).absolute(),
        conf=tuple(conf_files.folders_of(loader, config)),
        groups=tuple(dict.fromkeys(groups)),
        configs=frozenset(configs) if define is None else None,
        num_jobs=num_jobs,
        num_processes=num_processes_of_job(config.hydra.launcher),
        threads_per_job=_threads_per_job(num_jobs, config),
        config=first,
        caveats=tuple(_caveats(sweeper, [probe for probe, _ in probes])) if arms is None else arms.notes,
        arms=arms,
        probes=tuple(tuple(overrides) for _, overrides in probes),
        compose=lambda overrides: check(loader.load_sweep_config(config, [*fixed, *overrides])),
        config_values=config_values,
        config_values_problem=problem,
        runs_elsewhere="Slurm" in config.hydra.launcher._target_,
    )


def _check_folder(config: DictConfig) -> None:
    raw = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    assert isinstance(raw, dict)
    if "${now:" in str(raw["dir"]):
        raise InputError(
            f"hydra.sweep.dir={raw['dir']}: a sweep that can be resumed needs the same folder each time; "
            f"put into the sweep's file: {DIR_LINE}"
        )


def _check_key(key: str, config: DictConfig, groups: Sequence[str]) -> None:
    if key in groups or key.startswith("+"):
        return
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if isinstance(node, DictConfig) and name in node:
        return
    siblings = [str(sibling) for sibling in node if sibling != "hydra"] if isinstance(node, DictConfig) else []
    raise InputError(f"{FIELD}.{unknown_key(key, siblings)}")


def _probes(dimensions: Sequence[Dimension], define: Define | None) -> list[list[str]]:
    """Overrides of configs to check: both ends and every choice of each dimension; random if there is `define`."""
    if define is None:
        return probe_overrides(dimensions)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = {dimension.key: distribution_of(dimension) for dimension in dimensions}
    return [overrides_of(study.ask(distributions), dimensions, define) for _ in range(NUM_PROBES)]


def _check_metrics(sweeper: SweepConfig, config: ExperimentConfig, overrides: Sequence[str]) -> None:
    if config.action != "train":
        raise InputError(f"action={config.action}: a sweep trains; leave action out")
    if config.verify:
        raise InputError("verify=true: a sweep cannot verify; leave verify or the sweep out")
    if config.resume:
        raise InputError("resume=true: the same command resumes a sweep by itself; leave resume out")
    reported = reported_keys(config.tasks)
    for metric in sweeper.metrics:
        if metric not in reported:
            where = f" with {' '.join(overrides)}" if overrides else ""
            raise InputError(
                f"hydra.sweeper.metric={metric}: no head reports it{where}; choose one of {', '.join(reported)}"
            )


def _caveats(sweeper: SweepConfig, probes: Sequence[ExperimentConfig]) -> Iterator[str]:
    """Warn of metrics that are means over different heads in different trials."""
    sets = sorted({"+".join(probe.tasks) for probe in probes})
    tasks = {name for probe in probes for name in probe.tasks}
    for metric in sweeper.metrics if len(sets) > 1 else ():
        if not any(metric.startswith(f"eval_{task}_") for task in tasks):
            yield (
                f"{metric} is a mean over a trial's own tasks, and trials have different ones ({', '.join(sets)}), so "
                f"it does not rank them. Compare the scores of each head (report.json, results.json), or "
                f"search for a score that all of them report: hydra.sweeper.metric=eval_TASK_HEAD_METRIC"
            )


def _best_by_objective(sweeper: SweepConfig, config: ExperimentConfig) -> list[str]:
    """Overrides that keep the best checkpoint by the metric of the sweep, unless the config names another metric."""
    metric, direction = sweeper.metrics[0], sweeper.directions[0]
    if config.trainer.metric_for_best is not None or metric == metric_for_best(config):
        return []
    values: dict[str, Any] = {"trainer.metric_for_best": metric}
    if (direction == MINIMIZE) != is_lower_better(metric):
        values["trainer.higher_is_better"] = direction != MINIMIZE
    return as_overrides(values)


def _report_points(
    sweeper: SweepConfig, config: ExperimentConfig, count_work: Callable[[ExperimentConfig], Work]
) -> list[str]:
    """Override that lets trials which may be pruned evaluate early and often, as far as that is cheap.

    Empty if the config says when to evaluate, or has patience or an average over evaluations, which depend on it.
    """
    trainer = config.trainer
    is_open = trainer.eval_every is None and not trainer.eval_shares
    depends = trainer.patience is not None or config.averaging.kind == "last"
    if sweeper.pruner_name == "none" or sweeper.seeds > 1 or not is_open or depends:
        return []
    try:
        work = count_work(config)
    except InputError as error:  # the trials will report it, too
        log.warning("trainer.eval_shares was not chosen: %s", error)
        return []
    num_passes = 1 if config.averaging.kind == "none" else 2  # over dev in an evaluation
    cost = num_passes * work.num_dev_tokens / EVALUATION_SPEEDUP / work.num_tokens
    shares = next((shares for shares in REPORT_SHARES if len(shares) * cost <= MOST_FOR_EVALUATIONS), ())
    return [f"trainer.eval_shares=[{','.join(map(str, shares))}]"] if shares else []


def _config_values(
    sweeper: SweepConfig, dimensions: Sequence[Dimension], config: DictConfig, groups: Sequence[str]
) -> tuple[dict[str, Any] | None, str | None]:
    """The config's value of each dimension, if `try_own` asks for it; else None, and why they cannot be tried."""
    if not sweeper.try_own:
        return None, None
    if sweeper.sampler == "grid" or sweeper.function is not None:
        return None, f"hydra.sweeper.try_own has no effect with sampler={sweeper.sampler} or a function"
    values: dict[str, Any] = {}
    for dimension in dimensions:
        key = dimension.key
        value = config.hydra.runtime.choices[key] if key in groups else OmegaConf.select(config, key)
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        if not dimension.holds(value):
            return (
                None,
                f"the config's {key}={value} is outside of the space, so it is not tried first",
            )
        values[key] = plain_choice(value)
    return values, None


def _num_jobs(sweeper: SweepConfig, config: DictConfig) -> int:
    """`n_jobs` if given, else as many as the launcher runs in parallel."""
    launcher = config.hydra.launcher
    if launcher._target_.endswith(".BasicLauncher"):  # one after the other, so each proposal knows all results
        if (sweeper.n_jobs or 1) > 1:
            log.warning(
                "hydra.sweeper.n_jobs=%d has no effect without a launcher that runs trials side by side, such as "
                "hydra/launcher=workers", sweeper.n_jobs
            )  # fmt: skip
        return 1
    found = sweeper.n_jobs or launcher.get("n_jobs") or launcher.get("array_parallelism") or 1
    return found if found > 0 else _num_cores()


def _threads_per_job(num_jobs: int, config: DictConfig) -> int | None:
    """The cores of this machine divided among the processes of all jobs; None for a single process, and on a cluster,
    which assigns them."""
    num_processes = num_jobs * num_processes_of_job(config.hydra.launcher)
    if num_processes == 1 or "Slurm" in config.hydra.launcher._target_:
        return None
    return max(1, min(int(os.environ.get("OMP_NUM_THREADS", _num_cores())), _num_cores() // num_processes))


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

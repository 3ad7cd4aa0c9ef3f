"""What a sweep is to do, read from its config and the command line, and refused where it cannot work."""

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

from multitask_bert.config.schema import ExperimentConfig, is_lower_better
from multitask_bert.config.tree import unknown_key
from multitask_bert.errors import InputError
from multitask_bert.heads import metric_for_best, reported_keys
from multitask_bert.sweeps import conf_files
from multitask_bert.sweeps.methods import check_methods, grid_size
from multitask_bert.sweeps.settings import MINIMIZE, SweepConfig
from multitask_bert.sweeps.space import FIELD, Dimension, as_overrides, probe_overrides, read_request
from multitask_bert.sweeps.study import quiet_optuna
from multitask_bert.sweeps.trials import Define, distribution_of, load_function, overrides_of
from multitask_bert.utils.cost import Work

# When trials that may be pruned evaluate, as shares of their steps: the first of these that is cheap enough.
REPORT_SHARES = ((0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), (0.2, 0.3, 0.5, 0.75, 1.0))
EVALUATION_COST = 1 / 3  # of a token that is evaluated, beside one that is learnt from: no backward pass
MOST_FOR_EVALUATIONS = 0.25  # of what a whole trial's training costs; see docs/experiments.md, "Pruning"
NUM_PROBES = 3  # configs that are composed before the first trial where a function decides what is in them
DIR_LINE = "hydra: {sweep: {dir: outputs/sweeps/${hydra.sweeper.study}}}"

log = logging.getLogger(__name__)

Check = Callable[[DictConfig], ExperimentConfig]


@dataclass(frozen=True)
class Plan:
    """One sweep, checked."""

    settings: SweepConfig
    dimensions: tuple[Dimension, ...]
    define: Define | None
    fixed: tuple[str, ...]  # overrides of every trial
    folder: Path
    conf: tuple[Path, ...]  # folders with configs
    groups: tuple[str, ...]  # names of the config groups, also of those that a trial's own choices or files bring in
    num_jobs: int  # trials side by side
    threads_per_job: int | None  # None: as many as a process takes
    config: ExperimentConfig  # of the first probe
    probes: tuple[tuple[str, ...], ...]  # overrides of configs that trials could have
    compose: Callable[[Sequence[str]], ExperimentConfig]  # the config of a trial with these overrides
    own: Mapping[str, Any] | None  # values of the first trial, where the config's own are to be tried
    not_own: str | None  # why they are not, where they are to be
    runs_elsewhere: bool  # trials, as on the nodes of a cluster
    caveats: tuple[str, ...] = ()  # why its trials cannot be compared by the metric

    @property
    def n_trials(self) -> int:
        wanted = self.settings.n_trials
        return min(wanted, grid_size(self.dimensions)) if self.settings.sampler == "grid" else wanted

    @property
    def reports(self) -> str:
        """What the numbers count under which scores are reported to the pruner: steps | permille of them | seeds."""
        if self.settings.seeds > 1:
            return "seeds"
        return "permille" if self.compose(self.probes[0]).trainer.eval_shares else "steps"

    def conf_files(self) -> dict[str, str]:
        return conf_files.hash_files(self.conf, self.groups)

    def attributes(self) -> dict[str, Any]:
        """What is kept with the study."""
        files = self.conf_files()
        return {
            "space": {dimension.key: dimension.described() for dimension in self.dimensions},
            "function": self.settings.function,
            "metrics": self.settings.metrics,
            "directions": self.settings.directions,
            "seeds": self.settings.seeds,
            "reports": self.reports,
            "fixed_overrides": list(self.fixed),
            "caveats": list(self.caveats),
            "conf_hash": conf_files.hash_of(files),
            "conf_files": files,
        }


def make_plan(
    arguments: Sequence[str],
    config: DictConfig,
    loader: ConfigLoader,
    check: Check,
    *,
    count_work: Callable[[ExperimentConfig], Work],
) -> Plan:
    """Everything that can be known before the first trial.

    `arguments`: the command line's overrides; `config`: composed with those that are no sweeps; `check`: refuses a
    config that cannot be run; `count_work`: reads the data of one that can.

    Raises:
        InputError: with the field and the way out.
    """
    quiet_optuna()
    settings = OmegaConf.to_object(config.hydra.sweeper)
    assert isinstance(settings, SweepConfig)
    _check_folder(config)
    request = read_request(arguments, settings, config)
    groups = [str(name) for name in config.hydra.runtime.choices if not str(name).startswith("hydra/")]
    for dimension in request.dimensions:
        _check_key(dimension.key, config, groups)
    check_methods(settings, request.dimensions)
    define = load_function(settings.function) if settings.function is not None else None

    def compose(overrides: Sequence[str]) -> ExperimentConfig:
        tree = loader.load_sweep_config(config, [*request.fixed, *overrides])
        groups.extend(name.rpartition("/")[0] for name in tree.hydra.runtime.files if "/" in name)
        return check(tree)

    probes = [(compose(overrides), overrides) for overrides in _probes(request.dimensions, define)]
    for probe, overrides in probes:
        _check_metrics(settings, probe, overrides)
    first = probes[0][0]
    fixed = (*request.fixed, *_best_by_objective(settings, first), *_report_points(settings, first, count_work))
    own, not_own = _own_values(settings, request.dimensions, config, groups)
    num_jobs = _num_jobs(settings, config)
    return Plan(
        settings=settings,
        dimensions=request.dimensions,
        define=define,
        fixed=fixed,
        folder=Path(config.hydra.sweep.dir).absolute(),
        conf=tuple(conf_files.folders_of(loader, config)),
        groups=tuple(dict.fromkeys(groups)),
        num_jobs=num_jobs,
        threads_per_job=_threads_per_job(num_jobs, config),
        config=first,
        caveats=tuple(_caveats(settings, [probe for probe, _ in probes])),
        probes=tuple(tuple(overrides) for _, overrides in probes),
        compose=lambda overrides: check(loader.load_sweep_config(config, [*fixed, *overrides])),
        own=own,
        not_own=not_own,
        runs_elsewhere="Slurm" in config.hydra.launcher._target_,
    )


def _check_folder(config: DictConfig) -> None:
    raw = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    assert isinstance(raw, dict)
    if "${now:" in str(raw["dir"]):
        raise InputError(
            f"hydra.sweep.dir={raw['dir']}: a sweep that can go on needs the same folder each time; "
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
    """Overrides of configs that trials could have: both ends and every choice of each dimension."""
    if define is None:
        return probe_overrides(dimensions)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    distributions = {dimension.key: distribution_of(dimension) for dimension in dimensions}
    return [overrides_of(study.ask(distributions), define) for _ in range(NUM_PROBES)]


def _check_metrics(settings: SweepConfig, config: ExperimentConfig, overrides: Sequence[str]) -> None:
    if config.action != "train":
        raise InputError(f"action={config.action}: a sweep trains; leave it out")
    if config.verify:
        raise InputError("verify=true: a sweep searches, and compares with no study; leave one of the two out")
    if config.resume:
        raise InputError("resume=true: a sweep goes on by itself when its command is given again; leave it out")
    reported = reported_keys(config.tasks)
    for metric in settings.metrics:
        if metric not in reported:
            where = f" with {' '.join(overrides)}" if overrides else ""
            raise InputError(
                f"hydra.sweeper.metric={metric}: no head reports it{where}; choose one of {', '.join(reported)}"
            )


def _caveats(settings: SweepConfig, probes: Sequence[ExperimentConfig]) -> Iterator[str]:
    """A mean over the heads of a trial is of other heads where the tasks are others."""
    sets = sorted({"+".join(probe.tasks) for probe in probes})
    tasks = {name for probe in probes for name in probe.tasks}
    for metric in settings.metrics if len(sets) > 1 else ():
        if not any(metric.startswith(f"eval_{task}_") for task in tasks):
            yield (
                f"{metric} is a mean over a trial's own tasks, and trials have different ones ({', '.join(sets)}), so "
                f"their order by it says nothing. Compare the scores of each head (report.json, results.json), or "
                f"search for a score that all of them report: hydra.sweeper.metric=eval_TASK_HEAD_METRIC"
            )


def _best_by_objective(settings: SweepConfig, config: ExperimentConfig) -> list[str]:
    """The checkpoint that a trial keeps is the best by what is searched for, unless the config says otherwise."""
    metric, direction = settings.metrics[0], settings.directions[0]
    if config.trainer.metric_for_best is not None or metric == metric_for_best(config):
        return []
    values: dict[str, Any] = {"trainer.metric_for_best": metric}
    if (direction == MINIMIZE) != is_lower_better(metric):
        values["trainer.higher_is_better"] = direction != MINIMIZE
    return as_overrides(values)


def _report_points(
    settings: SweepConfig, config: ExperimentConfig, count_work: Callable[[ExperimentConfig], Work]
) -> list[str]:
    """When a trial that may be pruned evaluates, where the config leaves it open: early and often, as far as it pays.

    What depends on the evaluations (patience, an average over them) keeps those at the ends of epochs.
    """
    trainer = config.trainer
    is_open = trainer.eval_every is None and not trainer.eval_shares
    depends = trainer.patience is not None or config.averaging.kind == "last"
    if settings.pruner_name == "none" or settings.seeds > 1 or not is_open or depends:
        return []
    try:
        work = count_work(config)
    except InputError as error:  # the trials will say it, too
        log.warning("no points of evaluation were chosen: %s", error)
        return []
    cost = EVALUATION_COST * work.num_dev_tokens / work.num_tokens
    shares = next((shares for shares in REPORT_SHARES if len(shares) * cost <= MOST_FOR_EVALUATIONS), ())
    return [f"trainer.eval_shares=[{','.join(map(str, shares))}]"] if shares else []


def _own_values(
    settings: SweepConfig, dimensions: Sequence[Dimension], config: DictConfig, groups: Sequence[str]
) -> tuple[dict[str, Any] | None, str | None]:
    """What the config has for each dimension; or None, and why that cannot be tried."""
    if not settings.try_own:
        return None, None
    if settings.sampler == "grid" or settings.function is not None:
        return None, f"hydra.sweeper.try_own has no effect with sampler={settings.sampler} or a function"
    values: dict[str, Any] = {}
    for dimension in dimensions:
        key = dimension.key
        value = config.hydra.runtime.choices[key] if key in groups else OmegaConf.select(config, key)
        if not dimension.holds(value):
            return None, f"the config's own {key}={value} lies outside of the space, and is not tried"
        values[key] = value
    return values, None


def _num_jobs(settings: SweepConfig, config: DictConfig) -> int:
    """As asked; else what the launcher runs side by side."""
    launcher = config.hydra.launcher
    if launcher._target_.endswith(".BasicLauncher"):  # one after the other, each with what was learnt from the last
        return 1
    found = settings.n_jobs or launcher.get("n_jobs") or launcher.get("array_parallelism") or 1
    return found if found > 0 else _num_cores()


def _threads_per_job(num_jobs: int, config: DictConfig) -> int | None:
    """A share of the cores for each of several jobs on this machine; a cluster gives each its own."""
    if num_jobs == 1 or "Slurm" in config.hydra.launcher._target_:
        return None
    return max(1, min(int(os.environ.get("OMP_NUM_THREADS", _num_cores())), _num_cores() // num_jobs))


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""What `run.py` calls: one function per action. Heavy imports happen inside."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from multitask_bert.config.checks import CHOICES
from multitask_bert.config.schema import ExperimentConfig, StudyConfig, TrainerConfig, run_name
from multitask_bert.config.tree import without_hydra
from multitask_bert.errors import InputError
from multitask_bert.saving.lock import hold, holding
from multitask_bert.saving.resume import config_to_go_on_with, keys_of, refuse_other_folder
from multitask_bert.saving.run_folder import (
    HYDRA_CONFIG,
    RESULTS,
    SWEEP,
    config_files_of,
    config_of,
    config_to_evaluate,
    existing_run,
    write_results,
)
from multitask_bert.sweeps.sweep_config import PARENT_RUN, TRIAL
from multitask_bert.tracking.mlflow.state import PARENT_TAG
from multitask_bert.tracking.mlflow.state import STATE_FILE as MLFLOW_STATE
from multitask_bert.trust import foreign_folders
from multitask_bert.trust.permissions import refuse
from multitask_bert.trust.yaml_files import read_tree
from multitask_bert.utils import signals
from multitask_bert.utils.caches import use_writable_caches
from multitask_bert.utils.files import shown
from multitask_bert.utils.terminal import discard, make_console, tolerate_lost_output
from multitask_bert.utils.versions import checkout

if TYPE_CHECKING:
    import optuna
    from hydra.core.config_loader import ConfigLoader
    from hydra.plugins.launcher import Launcher

    from multitask_bert.sweeps.spec import Check
    from multitask_bert.training.trainer import Watcher

log = logging.getLogger(__name__)


def run(config: ExperimentConfig) -> Any:
    """Do `config.action` with a config that was checked; returns what a sweep may optimise, or None."""
    calm_libraries()
    tolerate_lost_output()
    folder = Path(HydraConfig.get().runtime.output_dir)
    if config.run_dir is not None and foreign_folders.is_of_a_run(run_dir := Path(config.run_dir)):
        refuse(foreign_folders.link_problems(run_dir), f"run_dir={run_dir}")
    if config.action == "train" and config.resume and config.run_dir is not None:
        run_dir = existing_run(config)
        refuse_other_folder(run_dir, folder)
        config = config_to_go_on_with(run_dir, config, keys_of(HydraConfig.get().overrides.task))
        refuse(foreign_folders.store_problems(config.logger), run_dir)
        refuse(foreign_folders.upload_problems(run_dir, MLFLOW_STATE), run_dir)
    if config.action == "train" and config.verify:
        return verify(config, folder)
    if config.action == "train" and TRIAL in os.environ:
        from multitask_bert.sweeps.job import run_trial

        return run_trial(config, folder, train)
    return ACTIONS[config.action](config, folder)


def train(
    config: ExperimentConfig,
    folder: Path,
    watcher: Watcher | None = None,
    *,
    before: Mapping[str, Any] | None = None,
) -> float:
    """Train, evaluate the best model on dev and test, and leave everything in `folder`; see `run_training`."""
    started = time.perf_counter()
    from multitask_bert.training.run import run_training

    config = replace(config, study=StudyConfig())  # what is expected of a run is no part of it
    files = config_files_of(folder) or config_files_of(folder.parent)  # one of several seeds lies in the job's folder
    with holding(folder):
        return run_training(
            config, folder, tags=run_tags(config), name=logged_name(config, folder), watcher=watcher, before=before,
            started=started, config_files=files if before is None else before.get("config_files"),
        )  # fmt: skip


def verify(config: ExperimentConfig, folder: Path) -> None:
    """Train with each seed of the study, and say whether what it expects came out; exit status 1 where it did not.

    Raises:
        InputError: it did not, in one of several jobs, where the next ones are to run.
    """
    from multitask_bert.studies.verification import FAIL, verify_study

    if not verify_study(config, folder, train).is_passed:
        if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
            raise InputError(f"{FAIL}: {shown(folder)}")
        sys.exit(1)


def evaluate(config: ExperimentConfig, folder: Path) -> None:
    """Score a finished run's model again, on the data that the run's own config names."""
    from multitask_bert.data.caching import Cache
    from multitask_bert.data.processor import DataProcessor
    from multitask_bert.model.multitask import MultiTaskModel
    from multitask_bert.tracking.console import Console
    from multitask_bert.training.trainer import Trainer

    run_dir = existing_run(config)
    earlier = config_to_evaluate(run_dir, config)
    model, tokenizer = MultiTaskModel.load(run_dir / "model")
    processor = DataProcessor(
        earlier.tasks, data_root=earlier.data_root, seed=earlier.seed, known_heads=model.heads,
        cache=Cache.from_environment(), num_processes=config.batching.encoding_processes,
    )  # fmt: skip
    data = processor.process(tokenizer, max_length=earlier.batching.max_length)
    console = Console()
    console.show_data([report for report in data.reports if report.split != "train"])
    trainer = Trainer(earlier, model, tokenizer, dict(data.train), dict(data.dev), test_datasets=dict(data.test))
    metrics = {"eval": trainer.evaluate()}
    console.show_scores("Evaluation scores", trainer.results["eval"])
    if trainer.test_datasets:
        metrics["test"] = trainer.evaluate(test=True)
        console.show_scores("Test scores", trainer.results["test"])
    write_results(folder, {"run_dir": str(run_dir), "metrics": metrics})
    console.say(f"Results      {folder / RESULTS}")


def predict(config: ExperimentConfig, folder: Path) -> None:
    """What every head of a finished run's model says of each text, as lines of JSON; nothing else goes to stdout."""
    assert config.run_dir is not None
    assert config.input is not None
    try:
        from multitask_bert.inference.files import open_output, write_lines
        from multitask_bert.inference.own_files import open_inputs, own_sources

        tree = tree_of_run(Path(config.run_dir))
        precision = (tree.get("trainer") or {}).get("precision", TrainerConfig.precision)  # as its scores were computed
        sources = own_sources(tree)
        with open_inputs(config.input, sources) as read:  # refused before the model is loaded
            from multitask_bert.inference.predictor import Predictor

            predictor = Predictor.load(
                config.run_dir,
                device=config.trainer.device,
                batch_size=config.batching.eval_batch_size,
                max_tokens=config.batching.eval_max_tokens,
                precision=precision if precision in CHOICES["trainer.precision"] else TrainerConfig.precision,
            )
            with open_output(config.output) as output:
                count = write_lines(predictor.predict(read(predictor.model.heads)), output)
    except BrokenPipeError:  # whoever read them has seen enough, as in `| head`
        discard(sys.stdout)
    except KeyboardInterrupt:
        sys.exit(signals.INTERRUPTED)  # what was written stays
    else:
        place = config.output or "standard output"
        noun = "prediction" if count == 1 else "predictions"
        if sys.stderr is not None:  # it may be closed; then this would go to standard output
            make_console(sys.stderr).print(f"{count:,} {noun} written to {place}; the log is in {shown(folder)}")


def inspect(config: ExperimentConfig, folder: Path) -> None:
    """What is in the tasks' data, what of it leaks and what the config makes of it; nothing is trained."""
    from multitask_bert.reports.inspection import inspect_data
    from multitask_bert.reports.inspection_page import write_page
    from multitask_bert.reports.inspection_tables import show_tables
    from multitask_bert.utils.files import write_json

    inspection = inspect_data(config)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "inspect.json", asdict(inspection))
    write_page(folder / "inspect.html", inspection)
    show_tables(inspection)
    where = f"The same with plots: {shown(folder) / 'inspect.html'}; in figures: {shown(folder) / 'inspect.json'}"
    make_console().print(where)


def reproduce(config: ExperimentConfig, folder: Path) -> None:
    """Train as an earlier run did, and say whether the same came out; exit status 1 where it did not."""
    from multitask_bert.studies.reproduction import DIFFERENT, circumstances, read_earlier, verdict
    from multitask_bert.tracking.console import Console

    run_dir = existing_run(config)
    again = replace(config_of(run_dir, config), logger=config.logger, resume=False)
    if config.trainer.device != TrainerConfig.device:
        again = replace(again, trainer=replace(again.trainer, device=config.trainer.device))
    earlier = read_earlier(run_dir)
    train(again, folder, before=earlier.provenance)
    now = read_earlier(folder)
    found, table = verdict(earlier, now)
    console = Console()
    make_console().print(table)
    console.say(f"{shown(folder)} beside {shown(run_dir)}: {found}")
    for line in circumstances(earlier.provenance, now.provenance):
        console.say(f"  {line}")
    if found == DIFFERENT:
        sys.exit(1)


def report(config: ExperimentConfig, folder: Path) -> None:
    """What a sweep has found by now: the table of its best trials, and the page in the sweep's folder."""
    from multitask_bert.sweeps.results import study_of, table_of

    assert config.run_dir is not None
    sweep_folder = Path(config.run_dir)
    study = study_of(sweep_folder)
    make_console().print(table_of(study))
    write_report(study, sweep_folder)


def upload(config: ExperimentConfig, folder: Path) -> None:
    """Send to MLflow what an earlier run, or a sweep and its trials, could not send."""
    from multitask_bert.tracking.mlflow.upload import upload_sweep

    assert config.run_dir is not None
    run_dir = Path(config.run_dir)
    if not (run_dir / SWEEP).is_file():
        run_dir = existing_run(config)
        hold(run_dir, f"run_dir={run_dir}")
    for path in run_dir.rglob(MLFLOW_STATE):
        refuse(foreign_folders.upload_problems(path.parent, MLFLOW_STATE), path.parent)
    try:
        for line in upload_sweep(run_dir):  # a run is a sweep without trials
            make_console().print(line)
    except (ConnectionError, ValueError) as error:
        raise InputError(str(error)) from error


def sweep(
    arguments: Sequence[str], config: DictConfig, loader: ConfigLoader, launcher: Launcher, check: Check
) -> float | None:
    """Search as `hydra.sweeper` says, one job per trial; the best value, None where no trial is complete.

    `check`: gives the typed config of a composed job, or refuses it.
    """
    calm_libraries()
    tolerate_lost_output()
    from multitask_bert.sweeps.controller import Controller
    from multitask_bert.sweeps.cost_estimate import estimate_cost
    from multitask_bert.sweeps.spec import make_spec
    from multitask_bert.tracking.mlflow.sweep import MlflowSweep
    from multitask_bert.training import cost

    spec = make_spec(arguments, config, loader, lambda tree: check(without_hydra(tree)), count_work=cost.count_work)
    estimate = partial(estimate_cost, count_work=cost.count_work, measure_speed=cost.measure_speed)
    controller = Controller.open(spec, launcher, MlflowSweep.from_config(spec.config.logger), estimate)
    try:
        return controller.run()
    finally:
        write_report(controller.study, spec.folder)


def write_report(study: optuna.Study, folder: Path) -> None:
    """The page of a sweep; what goes wrong there takes nothing from the sweep."""
    from multitask_bert.reports.sweep_page import PAGE, write_sweep_report

    try:
        write_sweep_report(study, folder)
        make_console().print(f"Report       {shown(folder / PAGE)}")
    except Exception as error:  # drawing, or a full disk
        log.warning("%s: the report could not be written (%s); later: action=report", folder, error, exc_info=True)


ACTIONS: dict[str, Callable[[ExperimentConfig, Path], Any]] = {
    "train": train, "evaluate": evaluate, "inspect": inspect, "predict": predict, "upload": upload,
    "reproduce": reproduce, "report": report,
}  # fmt: skip


def tree_of_run(run_dir: Path) -> Any:
    """A run's config as plain dicts and lists; of a model's folder, which has none, an empty one."""
    path = run_dir / HYDRA_CONFIG
    return OmegaConf.to_container(read_tree(path)) if path.is_file() else {}


def logged_name(config: ExperimentConfig, folder: Path) -> str:
    """The run's name in a tracking server; one of several of a sweep, a study or a multirun also says which it is."""
    parts = [run_name(config)]
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if TRIAL in os.environ:
        parts.append(f"trial {os.environ[TRIAL]}")
    elif hydra is not None and hydra.mode == RunMode.MULTIRUN:
        parts.append(f"job {hydra.job.num}")
    own = None if hydra is None or OmegaConf.is_missing(hydra.runtime, "output_dir") else hydra.runtime.output_dir
    is_inside = own is not None and folder.absolute() != Path(own).absolute()  # one of several runs of a job
    if len(parts) > 1 or is_inside:
        parts.append(f"seed {config.seed}")
    return ", ".join(parts)


def run_tags(config: ExperimentConfig) -> dict[str, str]:
    """What finds a run again in a tracking server: its tasks, model, seed, and the code's commit."""
    tags = {"tasks": "+".join(config.tasks), "model": config.model.pretrained or "random", "seed": str(config.seed)}
    if code := checkout():
        tags["git_commit"] = code["commit"] + ("+changes" if code["is_changed"] else "")
    if TRIAL in os.environ:
        tags["trial"] = os.environ[TRIAL]
    if parent := os.environ.get(PARENT_RUN):
        tags[PARENT_TAG] = parent
    return tags


def calm_libraries() -> None:
    """Silence what a user can do nothing about, and see to caches; must come before the libraries are imported."""
    use_writable_caches()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # they warn when loader workers fork
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", module=r"(torch|transformers|mlflow|tensorboard|datasets|evaluate|google)\b.*")

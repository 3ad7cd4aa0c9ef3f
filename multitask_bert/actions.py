"""What `run.py` calls: one function per action. Heavy imports happen inside."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from multitask_bert.config import ExperimentConfig, InputError, run_name
from multitask_bert.folders import (
    REPRODUCE,
    RESULTS,
    config_of,
    earlier_config,
    existing_run,
    places,
    shown,
    write_reproduction,
    write_results,
)  # fmt: skip
from multitask_bert.sweeps.settings import PARENT_RUN, TRIAL
from multitask_bert.training import signals

if TYPE_CHECKING:
    import optuna
    from hydra.core.config_loader import ConfigLoader
    from hydra.plugins.launcher import Launcher

    from multitask_bert.sweeps.plan import Check
    from multitask_bert.training.trainer import Trainer, Watcher

log = logging.getLogger(__name__)


def run(config: ExperimentConfig) -> Any:
    """Do `config.action` with a config that was checked; returns what a sweep may optimise, or None."""
    calm_libraries()
    folder = Path(HydraConfig.get().runtime.output_dir)
    if config.action == "train" and config.resume and config.run_dir is not None:
        config = replace(config_of(existing_run(config)), resume=True)
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
    """Train, evaluate the best model on dev and test, and leave everything in `folder`; returns the best score.

    `watcher`: hears each evaluation and may end the run there; its model is then not evaluated on test. `before`: the
    provenance of a run that is to be reproduced.

    Raises:
        InputError: bad input; or what `before` was trained on has changed.
    """
    started = time.perf_counter()
    from hydra.utils import instantiate

    from multitask_bert.training import provenance
    from multitask_bert.training.console import Console
    from multitask_bert.training.evaluation import gather_intervals
    from multitask_bert.training.reproduction import refuse_other_inputs
    from multitask_bert.training.resumption import Stopped

    console = Console()
    if config.resume and (folder / RESULTS).is_file():
        console.say(f"{shown(folder)}: this run is complete; there is nothing to go on with")
        results = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        return float(results["best"]["value"])
    console.say(f"{run_name(config)}: run folder {shown(folder)}")
    # The class comes from conf/trainer/*.yaml; the call is an ordinary one, so that errors keep their type.
    make_trainer = instantiate({"_target_": config.trainer._target_, "_partial_": True})
    trainer: Trainer = make_trainer(config, folder=folder, tags=run_tags(config), console=console, watcher=watcher)
    try:
        write_reproduction(config, folder)
        described = provenance.describe(trainer)
        provenance.write_start(folder, described)
        if before is not None:
            refuse_other_inputs(before, described)
        with signals.asking(trainer.ask_to_stop):
            state = trainer.train()
        metrics = {"eval": state.best_metrics}
        if state.pruned:
            console.say(f"pruned at step {state.step} of {state.num_steps}: other trials do better")
        elif trainer.test_datasets:
            metrics["test"] = trainer.evaluate(test=True)
        trainer.best.publish(folder / "model")
        results = {
            "metrics": metrics,
            "test_intervals": gather_intervals(trainer.results.get("test", {})),
            "best": {
                "metric": trainer.metric_for_best,
                "value": state.best_score,
                "step": state.best_step,
                "epoch": state.best_epoch,
            },
            "steps": state.step,
            "stopped_early": state.stopped_early,
            "pruned": state.pruned,
            "train_seconds": state.train_seconds,
            "total_seconds": time.perf_counter() - started,
            "train_tokens": state.num_tokens,
            "train_examples": state.num_examples,
            "train_tokens_per_second": state.tokens_per_second,
            "data": [asdict(report) for report in trainer.data_reports],
        }
        write_results(folder, results)
        provenance.write_end(folder, trainer.model, metrics)
        for name in (REPRODUCE, provenance.PROVENANCE, RESULTS):
            trainer.reporter.log_artifact(folder / name)
        if any(getattr(logger, "log_model", False) for logger in trainer.reporter.loggers):
            trainer.reporter.log_artifact(folder / "model")
        trainer.forget_snapshots()
    except (KeyboardInterrupt, Stopped) as stop:
        trainer.best.publish(folder / "model")
        how = f"stopped by {stop}" if str(stop) else "interrupted"
        console.say(f"{how} at step {trainer.state.step}; {_what_is_kept(trainer, folder)}")
        if trainer.state.step < trainer.state.num_steps:
            console.say(f"Go on with   python run.py run_dir={shown(folder)} resume=true")
        raise SystemExit(signals.exit_status(str(stop) or "SIGINT")) from None
    finally:
        trainer.close()
    console.show_end(state, trainer.metric_for_best, trainer.results, places(config, folder))
    assert state.best_score is not None
    return state.best_score


def evaluate(config: ExperimentConfig, folder: Path) -> None:
    """Score a finished run's model again, on the data that the run's own config names."""
    from multitask_bert.data.caching import Cache
    from multitask_bert.data.processor import DataProcessor
    from multitask_bert.model.multitask import MultiTaskModel
    from multitask_bert.training.console import Console
    from multitask_bert.training.trainer import Trainer

    run_dir = existing_run(config)
    earlier = earlier_config(run_dir, config)
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
        from multitask_bert.inference.files import open_input, open_output, read_inputs, write_lines

        with open_input(config.input) as file:  # refused before the model is loaded
            from multitask_bert.inference.predictor import Predictor

            predictor = Predictor.load(
                config.run_dir,
                device=config.trainer.device,
                batch_size=config.batching.eval_batch_size,
                max_tokens=config.batching.eval_max_tokens,
            )
            columns, is_tsv_quoted = tables_of_run(Path(config.run_dir))
            inputs = read_inputs(file, config.input, columns=columns, is_tsv_quoted=is_tsv_quoted)
            with open_output(config.output) as output:
                count = write_lines(predictor.predict(inputs), output)
    except BrokenPipeError:  # whoever read them has seen enough, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # where Python's last flush goes
    except KeyboardInterrupt:
        sys.exit(signals.INTERRUPTED)  # what was written stays
    else:
        place = config.output or "standard output"
        noun = "prediction" if count == 1 else "predictions"
        print(f"{count:,} {noun} written to {place}; the log is in {shown(folder)}", file=sys.stderr)


def inspect(config: ExperimentConfig, folder: Path) -> None:
    """What is in the tasks' data, what of it leaks and what the config makes of it; nothing is trained."""
    from multitask_bert.reports.inspection import inspect_data
    from multitask_bert.reports.page import write_page
    from multitask_bert.reports.tables import show_tables
    from multitask_bert.utils.files import write_json

    inspection = inspect_data(config)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "inspect.json", asdict(inspection))
    write_page(folder / "inspect.html", inspection)
    show_tables(inspection)
    print(f"The same with plots: {shown(folder) / 'inspect.html'}; in figures: {shown(folder) / 'inspect.json'}")


def reproduce(config: ExperimentConfig, folder: Path) -> None:
    """Train as an earlier run did, and say whether the same came out; exit status 1 where it did not."""
    import rich

    from multitask_bert.training import provenance
    from multitask_bert.training.console import Console
    from multitask_bert.training.reproduction import DIFFERENT, circumstances, verdict

    run_dir = existing_run(config)
    try:
        before = provenance.read(run_dir)
    except (OSError, ValueError) as error:
        raise InputError(
            f"run_dir={run_dir}: {provenance.PROVENANCE} cannot be read there ({error}); only a run that finished "
            f"training can be reproduced"
        ) from error
    if "final" not in before:
        raise InputError(f"run_dir={run_dir}: this run did not end, so there is nothing to compare with")
    earlier = config_of(run_dir)
    data_root = config.data_root if config.data_root != ExperimentConfig.data_root else earlier.data_root
    train(replace(earlier, data_root=data_root, logger=config.logger, resume=False), folder, before=before)
    found, table = verdict(run_dir, folder)
    console = Console()
    rich.print(table)
    console.say(f"{shown(folder)} beside {shown(run_dir)}: {found}")
    for line in circumstances(before, provenance.read(folder)):
        console.say(f"  {line}")
    if found == DIFFERENT:
        sys.exit(1)


def report(config: ExperimentConfig, folder: Path) -> None:
    """What a sweep has found by now: the table of its best trials, and the page in the sweep's folder."""
    import rich

    from multitask_bert.sweeps.results import study_of, table_of

    assert config.run_dir is not None
    sweep_folder = Path(config.run_dir)
    study = study_of(sweep_folder)
    rich.print(table_of(study))
    write_report(study, sweep_folder)


def upload(config: ExperimentConfig, folder: Path) -> None:
    """Send to MLflow what an earlier run could not send."""
    from multitask_bert.training.mlflow_upload import upload_run

    try:
        print(upload_run(existing_run(config)))
    except (ConnectionError, ValueError) as error:
        raise InputError(str(error)) from error


def sweep(
    arguments: Sequence[str], config: DictConfig, loader: ConfigLoader, launcher: Launcher, check: Check
) -> float | None:
    """Search as `hydra.sweeper` says, one job per trial; the best value, None where no trial is complete.

    `check`: gives the typed config of a composed job, or refuses it.
    """
    calm_libraries()
    from multitask_bert.sweeps.controller import Controller
    from multitask_bert.sweeps.plan import make_plan
    from multitask_bert.training.mlflow_sweep import MlflowSweep

    plan = make_plan(arguments, config, loader, lambda tree: check(without_hydra(tree)))
    controller = Controller.open(plan, launcher, MlflowSweep.from_config(plan.config.logger))
    try:
        return controller.run()
    finally:
        write_report(controller.study, plan.folder)


def write_report(study: optuna.Study, folder: Path) -> None:
    """The page of a sweep; what goes wrong there takes nothing from the sweep."""
    from multitask_bert.reports.sweep import PAGE, write_sweep_report

    try:
        write_sweep_report(study, folder)
        print(f"Report       {shown(folder / PAGE)}")
    except Exception as error:  # drawing, or a full disk
        log.warning("%s: the report could not be written (%s); later: action=report", folder, error, exc_info=True)


ACTIONS: dict[str, Callable[[ExperimentConfig, Path], Any]] = {
    "train": train, "evaluate": evaluate, "inspect": inspect, "predict": predict, "upload": upload,
    "reproduce": reproduce, "report": report,
}  # fmt: skip


def without_hydra(tree: DictConfig) -> DictConfig:
    """What a job's config is of what Hydra composed."""
    return OmegaConf.masked_copy(tree, [str(key) for key in tree if key != "hydra"])


def tables_of_run(run_dir: Path) -> tuple[list[Any], bool]:
    """What a run's tasks call their texts, in tables and objects, and whether its .tsv files are quoted."""
    from multitask_bert.inference.columns import columns_of_task

    path = run_dir / ".hydra" / "config.yaml"
    tree = OmegaConf.to_container(OmegaConf.load(path)) if path.is_file() else {}  # a model's folder has none
    tasks = list(tree.get("tasks", {}).values()) if isinstance(tree, dict) else []
    columns = [found for found in map(columns_of_task, tasks) if found is not None]
    sources = [task["source"] for task in tasks]
    return columns, all(source.get("quoted", True) for source in sources if source.get("format") == "tsv")


def run_tags(config: ExperimentConfig) -> dict[str, str]:
    """What finds a run again in a tracking server: its tasks, model, seed, and the code's commit."""
    tags = {"tasks": "+".join(config.tasks), "model": config.model.pretrained or "random", "seed": str(config.seed)}
    try:
        git = ["git", "-C", str(Path(__file__).parent)]
        commit = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10
        ).stdout
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10).stdout
        tags["git_commit"] = commit.strip() + ("+changes" if changed.strip() else "")
    except (OSError, subprocess.SubprocessError):
        log.info("no git commit can be told: the code is not in a git checkout")
    if TRIAL in os.environ:
        tags["trial"] = os.environ[TRIAL]
    if parent := os.environ.get(PARENT_RUN):
        tags["mlflow.parentRunId"] = parent
    return tags


def calm_libraries() -> None:
    """Silence what a user can do nothing about; must come before the libraries are imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # they warn when loader workers fork
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", module=r"(torch|transformers|mlflow|tensorboard|datasets|evaluate|google)\b.*")


def _what_is_kept(trainer: Trainer, folder: Path) -> str:
    if trainer.state.best_score is None:
        return "no model is kept, since none was evaluated yet (trainer.eval_every=N evaluates more often)"
    return f"the best model so far, of step {trainer.state.best_step}, is in {shown(folder / 'model')}"

"""What `run.py` calls: one function per action of `config/action_table.py`, under its name.

Heavy imports happen inside.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from multitask_bert.command_line.job import given_overrides, names_other_tasks
from multitask_bert.config.checks import compared_folders
from multitask_bert.config.overrides import keys_of
from multitask_bert.config.schema import AUTO_PRECISION, ExperimentConfig, StudyConfig, TrainerConfig
from multitask_bert.config.setting import choices_of
from multitask_bert.config.sharing import share_groups, share_heads
from multitask_bert.config.sweep_config import TRIAL
from multitask_bert.config.tree import without_hydra
from multitask_bert.errors import InputError
from multitask_bert.run_extras import logged_name, pictures_of, run_tags, show_affinities
from multitask_bert.saving.lock import hold, holding
from multitask_bert.saving.resume import config_to_resume, refuse_other_folder
from multitask_bert.saving.run_folder import (
    HYDRA_CONFIG,
    PICTURES,
    RESULTS,
    SWEEP,
    config_files_of,
    config_of,
    config_to_evaluate,
    existing_run,
    recorded_precision,
    write_results,
)
from multitask_bert.tracking.mlflow.state import STATE_FILE as MLFLOW_STATE
from multitask_bert.trust import foreign_folders
from multitask_bert.trust.databases import store_problems
from multitask_bert.trust.permissions import refuse
from multitask_bert.trust.yaml_files import read_tree
from multitask_bert.utils import signals
from multitask_bert.utils.caches import use_writable_caches
from multitask_bert.utils.files import shown
from multitask_bert.utils.ranks import PeerLostError, this_run
from multitask_bert.utils.terminal import discard, make_console, tolerate_lost_output

if TYPE_CHECKING:
    import optuna
    from hydra.core.config_loader import ConfigLoader
    from hydra.plugins.launcher import Launcher

    from multitask_bert.inference.predictor import Predictor
    from multitask_bert.sweeps.spec import Check
    from multitask_bert.training.output import Watcher
    from multitask_bert.utils.cost import Speed, Work

log = logging.getLogger(__name__)


def run(config: ExperimentConfig) -> Any:
    """Do `config.action`; the config has been checked. Returns the score that a sweep optimises, or None."""
    calm_libraries()
    tolerate_lost_output()
    folder = Path(HydraConfig.get().runtime.output_dir)
    if config.run_dir is not None and foreign_folders.is_of_a_run(run_dir := Path(config.run_dir)):
        refuse(foreign_folders.link_problems(run_dir), f"run_dir={run_dir}")
    if config.action == "train" and config.resume and config.run_dir is not None:
        run_dir = existing_run(config)
        refuse_other_folder(run_dir, folder)
        config = config_to_resume(run_dir, config, keys_of(HydraConfig.get().overrides.task))
        refuse(store_problems(config.logger), run_dir)
        refuse(foreign_folders.upload_problems(run_dir, MLFLOW_STATE), run_dir)
    if config.action == "train" and config.verify:
        return verify(config, folder)
    if config.action == "train" and TRIAL in os.environ:
        from multitask_bert.sweeps.job import run_trial

        return run_trial(config, folder, train)
    is_shared = config.action != "train" and this_run().size > 1
    with signals.asking(end_by_signal) if is_shared else nullcontext():
        return globals()[config.action](config, folder)


def end_by_signal(name: str) -> None:
    """End one of several processes that a signal asks to end; training, which can be resumed, has a way of its own."""
    if name == "SIGINT":
        raise KeyboardInterrupt
    raise PeerLostError(
        f"stopped by {name}; torchrun sends SIGTERM to all processes when it is told to stop, and when one of them has "
        f"ended without a word (killed, or its machine is out of memory?)"
    )


def train(
    config: ExperimentConfig,
    folder: Path,
    watcher: Watcher | None = None,
    *,
    before: Mapping[str, Any] | None = None,
) -> float:
    """Train, evaluate the best model on dev and test, and save everything in `folder`; see `run_training`."""
    started = time.perf_counter()
    from multitask_bert.training.run import run_training

    config = replace(config, study=StudyConfig())  # the expected scores do not belong to the run
    files = config_files_of(folder) or config_files_of(folder.parent)  # of a seed's run, the job's folder
    with holding(folder) if this_run().is_first else nullcontext():
        best = run_training(
            config, folder, tags=run_tags(config), name=logged_name(config, folder), watcher=watcher, before=before,
            started=started, config_files=files if before is None else before.get("config_files"),
            draw=pictures_of(config),
        )  # fmt: skip
        if (config.trainer.cosines_every or config.trainer.lookahead_every) and this_run().is_first:
            show_affinities(folder)
        return best


def verify(config: ExperimentConfig, folder: Path) -> None:
    """Train with each seed of the study and compare with its expected scores; exit status 1 where they differ.

    Raises:
        InputError: they differ in a job of a multirun, whose next jobs should run.
    """
    from multitask_bert.studies.verification import FAIL, verify_study

    if not verify_study(config, folder, train).is_passed:
        if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
            raise InputError(f"{FAIL}: {shown(folder)}")
        sys.exit(1)


def evaluate(config: ExperimentConfig, folder: Path) -> None:
    """Score a finished run's model again, on the dev and test data that the run's own config names, or of the tasks in
    `tasks=…`, which have heads of the run's names or share them.
    """
    from multitask_bert.data.caching import Cache
    from multitask_bert.data.processor import DataProcessor
    from multitask_bert.data.splits import as_split
    from multitask_bert.heads import window_strides
    from multitask_bert.model.multitask import MultiTaskModel
    from multitask_bert.reports.pictures import draw_pictures
    from multitask_bert.saving.predictions import write_predictions
    from multitask_bert.tracking.console import Console
    from multitask_bert.training.balancing import head_weights
    from multitask_bert.training.evaluation import Evaluator
    from multitask_bert.training.metric_keys import gather_intervals, gather_metrics
    from multitask_bert.training.preparation import to_device

    run_dir = existing_run(config)
    has_tasks = names_other_tasks(config.action, given_overrides())
    earlier = config_to_evaluate(run_dir, config, other_tasks=has_tasks)
    model, tokenizer = MultiTaskModel.load(run_dir / "model")
    if has_tasks:
        model.add_tasks(earlier.tasks)
    processor = DataProcessor(
        earlier.tasks, data_root=earlier.data_root, seed=earlier.seed_of_splits, known_heads=model.heads,
        cache=Cache.from_environment(), num_processes=config.batching.encoding_processes, splits=("dev", "test"),
    )  # fmt: skip
    ranks = this_run()
    with ranks.one_per_machine_first():
        data = processor.process(
            tokenizer, max_length=earlier.batching.max_length, window_strides=window_strides(earlier)
        )
    console = Console(quiet=not ranks.is_first)
    console.show_data(data.reports)
    device = to_device(model, earlier)
    evaluator = Evaluator(model, earlier, pad_id=int(tokenizer.pad_token_id or 0), device=device)
    metrics, intervals = {}, {}
    for name, title, datasets in (("eval", "Evaluation scores", data.dev), ("test", "Test scores", data.test)):
        if datasets:
            trained = () if has_tasks else [task for task, one in earlier.tasks.items() if one.source.has_train]
            is_test = name == "test"
            results = evaluator.evaluate_all(
                dict(sorted(datasets.items())), tune=not is_test, intervals=is_test, trained=trained
            )
            metrics[name] = gather_metrics(results, head_weights(model))
            intervals = gather_intervals(results) if is_test else {}
            console.show_scores(title, results)
            if ranks.is_first and (limit := config.trainer.keep_predictions) != 0:
                split = {"eval": "dev"}.get(name, name)
                examples = {task: as_split(dataset).examples() for task, dataset in datasets.items()}
                write_predictions(folder, split, model.heads, results, examples, limit=limit)
    if ranks.is_first:
        write_results(folder, {"run_dir": str(run_dir), "metrics": metrics, "test_intervals": intervals})
    console.say(f"Results      {folder / RESULTS}")
    if ranks.is_first and config.trainer.pictures and draw_pictures(earlier, folder):
        console.say(f"Pictures     {folder / PICTURES}")


def predict(config: ExperimentConfig, folder: Path) -> None:
    """Write what each head of a finished run's model predicts for each text, as JSON lines; stdout has nothing else."""
    assert config.run_dir is not None
    assert config.input is not None
    try:
        from multitask_bert.inference.files import is_read_again, open_inputs
        from multitask_bert.inference.output import open_output, write_lines
        from multitask_bert.inference.several_processes import predict_for_first, predict_on_first
        from multitask_bert.inference.sources import task_sources

        tree, ranks = tree_of_run(Path(config.run_dir)), this_run()
        if not ranks.is_first:
            predict_for_first(load_predictor(config, tree), ranks)
            return
        if ranks.restart and not is_read_again(config.input):
            raise InputError(f"input={config.input}: the processes before this restart have read of it; give a file")
        sources, are_several = task_sources(tree), ranks.size > 1
        with open_inputs(config.input, sources) as read:  # refused before the model is loaded
            predictor = load_predictor(config, tree)
            with (
                open_output(config.output, is_whole=are_several) as output,
                closing(predict_on_first(predictor, read(predictor.model.heads), ranks)) as predictions,
            ):
                count = write_lines(predictions, output, whole=config.output if are_several else None)
    except BrokenPipeError:  # the reader has closed it, as in `| head`
        discard(sys.stdout)
    except KeyboardInterrupt:
        sys.exit(signals.INTERRUPTED)  # what was written stays
    else:
        target = config.output or "standard output"
        noun = "prediction" if count == 1 else "predictions"
        if sys.stderr is not None:  # if it is closed, this would go to standard output
            make_console(sys.stderr).print(f"{count:,} {noun} written to {target}; the log is in {shown(folder)}")


def serve(config: ExperimentConfig, folder: Path) -> None:
    """Answer requests over HTTP with the model of a finished run, until SIGINT or SIGTERM."""
    from multitask_bert.serving.server import listen, run_server

    assert config.run_dir is not None
    with listen(config.serve) as listener:  # a port in use is told before the model is loaded
        from multitask_bert.serving.app import make_app
        from multitask_bert.serving.batcher import Batcher
        from multitask_bert.serving.examples import examples_of_test_sets

        tree = tree_of_run(Path(config.run_dir))
        batcher = Batcher(partial(load_predictor, config, tree), max_waiting=config.serve.max_waiting)
        name = tree.get("name") or "+".join(batcher.predictor.tasks)
        examples = examples_of_test_sets(Path(config.run_dir), batcher.predictor)
        app = make_app(batcher, config.serve, name=name, examples=examples)
        run_server(app, listener, config.serve, name=name)


def export(config: ExperimentConfig, folder: Path) -> None:
    """Write a finished run's model for other programs, in `config.format`."""
    from multitask_bert.export.exporting import export_run

    target = export_run(config)
    make_console().print(f"{config.format} written to {shown(target)}; its card: {shown(target / 'README.md')}")


def inspect(config: ExperimentConfig, folder: Path) -> None:
    """Show what is in the tasks' data, where splits overlap, and the run that the config plans; nothing is trained."""
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
    """Train as an earlier run did and compare the results; exit status 1 where they differ."""
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
    """Show the best trials of a sweep so far, and write the page of a sweep or study in its folder; of any other folder
    with runs, a table of them.
    """
    from multitask_bert.reports.run_table import runs_in
    from multitask_bert.sweeps.results import is_ranked, study_of, table_of

    assert config.run_dir is not None
    sweep_folder = Path(config.run_dir)
    if not sweep_folder.is_dir():
        raise InputError(f"run_dir={sweep_folder}: there is no such folder")
    if not (sweep_folder / SWEEP).is_file():
        if runs_in(sweep_folder):
            return report_runs(sweep_folder, folder)
        raise InputError(f"run_dir={sweep_folder}: holds neither a sweep nor finished runs; name a folder above theirs")
    study = study_of(sweep_folder)
    if is_ranked(study):
        make_console().print(table_of(study))
    write_report(study, sweep_folder)


def report_runs(runs_folder: Path, folder: Path) -> None:
    """Show a table of the runs in `runs_folder`, and write it as a page, Markdown and CSV in `folder`."""
    from multitask_bert.reports.inspection_tables import print_tables
    from multitask_bert.reports.run_table import PAGE, read_runs, tables_of, write_run_table

    runs = read_runs(runs_folder)
    pictures = write_run_table(runs, runs_folder, folder)
    print_tables(tables_of(runs))
    make_console().print(f"The same as a page that sorts: {shown(folder) / PAGE}")
    for picture in pictures:
        make_console().print(f"Scores as a curve: {shown(picture)}")


def compare(config: ExperimentConfig, folder: Path) -> None:
    """Compare two runs on the test examples that both predicted; see `compare_runs`."""
    from multitask_bert.reports.comparison import compare_runs
    from multitask_bert.reports.comparison_page import NUM_FLIPS, PAGE, facts_of, tables_of, write_comparison
    from multitask_bert.reports.inspection_tables import print_tables

    assert config.run_dir is not None
    for run_dir in (folders := compared_folders(config.run_dir)):
        refuse(foreign_folders.link_problems(run_dir), f"run_dir={run_dir}")
    comparison = compare_runs(*folders)
    write_comparison(comparison, folder)
    console = make_console()
    for name, fact in facts_of(comparison).items():
        console.print(f"{name}: {fact}")
    for note in comparison.notes:
        console.print(note)
    print_tables(tables_of(comparison, NUM_FLIPS["console"]))
    console.print(f"The same with more examples: {shown(folder) / PAGE}")


def diagnose(config: ExperimentConfig, folder: Path) -> None:
    """Show what a finished run gets wrong, and, after as much training as `diagnose` asks for, suspect labels of train;
    see `diagnose_run`.
    """
    from multitask_bert.reports.diagnosis import diagnose_run
    from multitask_bert.reports.diagnosis_page import PAGE, summary_facts, summary_tables, write_diagnosis
    from multitask_bert.reports.inspection_tables import print_tables

    console = make_console()
    diagnosis = diagnose_run(config, console.print)
    write_diagnosis(diagnosis, folder)
    for name, fact in summary_facts(diagnosis).items():
        console.print(f"{name}: {fact}")
    for note in diagnosis.notes:
        console.print(note)
    print_tables(summary_tables(diagnosis))
    console.print(f"The same with examples: {shown(folder) / PAGE}")


def upload(config: ExperimentConfig, folder: Path) -> None:
    """Send to MLflow what an earlier run, or a sweep and its trials, could not send at the time."""
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
    """Search as `hydra.sweeper` says, one job per trial; returns the best value, or None if no trial is complete.

    `check`: returns the typed config of a composed job, or refuses it.
    """
    calm_libraries()
    tolerate_lost_output()
    from multitask_bert.sweeps.controller import Controller
    from multitask_bert.sweeps.cost_estimate import estimate_cost
    from multitask_bert.sweeps.spec import make_spec
    from multitask_bert.tracking.mlflow.sweep import MlflowSweep
    from multitask_bert.utils.once import EachMessageOnce

    once = EachMessageOnce()  # most trials read the same data, about which there is the same to say

    @once
    def count_work(config: ExperimentConfig) -> Work:
        from multitask_bert.training import cost  # imports torch, after the sweep's keys were checked

        return cost.count_work(config)

    @once
    def measure_speed(config: ExperimentConfig, *, num_threads: int | None = None) -> Speed:
        from multitask_bert.training import cost

        return cost.measure_speed(config, num_threads=num_threads)

    spec = make_spec(arguments, config, loader, lambda tree: check(without_hydra(tree)), count_work=count_work)
    estimate = partial(estimate_cost, count_work=count_work, measure_speed=measure_speed)
    controller = Controller.open(spec, launcher, MlflowSweep.from_config(spec.config.logger), estimate)
    try:
        return controller.run()
    finally:
        write_report(controller.study, spec.folder)


def write_report(study: optuna.Study, folder: Path) -> None:
    """Write the page of a sweep or of a study; an error there is logged, since the sweep itself is done."""
    from multitask_bert.reports.study import is_arms_study
    from multitask_bert.reports.study_page import verdicts, write_study_report
    from multitask_bert.reports.sweep_page import PAGE, write_sweep_report

    try:
        if is_arms_study(study):
            for line in verdicts(write_study_report(study, folder)):
                make_console().print(line)
        else:
            write_sweep_report(study, folder)
        make_console().print(f"Report       {shown(folder / PAGE)}")
    except Exception as error:  # drawing, or a full disk
        log.warning("%s: the report could not be written (%s); later: action=report", folder, error, exc_info=True)


def tree_of_run(run_dir: Path) -> Any:
    """A run's config, with the precision that it took, as plain dicts and lists; empty for a folder that holds only a
    model.
    """
    path = run_dir / HYDRA_CONFIG
    tree: Any = OmegaConf.to_container(read_tree(path)) if path.is_file() else {}
    if isinstance(tree, dict) and isinstance(tree.get("tasks"), dict):
        share_groups(tree.get("share"), tree["tasks"])
        share_heads(tree["tasks"])
    trainer = tree.get("trainer") if isinstance(tree, dict) else None
    if isinstance(trainer, dict) and trainer.get("precision") == AUTO_PRECISION:
        trainer["precision"] = recorded_precision(run_dir) or TrainerConfig.precision
    return tree


def load_predictor(config: ExperimentConfig, tree: Any) -> Predictor:
    """The model of the run `config.run_dir`, in the precision of its scores; `tree`: that run's config."""
    from multitask_bert.inference.predictor import Predictor

    assert config.run_dir is not None
    return Predictor.load(
        config.run_dir,
        device=config.trainer.device,
        batch_size=config.batching.eval_batch_size,
        max_tokens=config.batching.eval_max_tokens,
        precision=precision_of(tree),
        backend=config.backend,
    )


def precision_of(tree: Any) -> str:
    """The precision in which a run's scores were computed; `tree`: its config, as plain dicts and lists."""
    precision: Any = (tree.get("trainer") or {}).get("precision")
    return precision if precision in choices_of(TrainerConfig, "precision") else TrainerConfig.precision


def calm_libraries() -> None:
    """Silence warnings that no user can act on, and choose writable caches; call before importing the libraries."""
    use_writable_caches()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # tokenizers warn when loader workers fork
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.filterwarnings("ignore", module=r"(torch|transformers|mlflow|tensorboard|datasets|evaluate|google)\b.*")

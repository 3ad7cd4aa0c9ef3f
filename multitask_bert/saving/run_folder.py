"""The files of a run's folder: its config, `results.json` and `reproduce.yaml`, written and read again."""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from multitask_bert.config.checks import check
from multitask_bert.config.overrides import as_word
from multitask_bert.config.schema import AUTO_PRECISION, ExperimentConfig, TrainerConfig, run_name
from multitask_bert.config.setting import choices_of
from multitask_bert.config.tree import from_tree, to_dict
from multitask_bert.errors import InputError
from multitask_bert.trust import foreign_folders
from multitask_bert.trust.downloads import download_problems
from multitask_bert.trust.permissions import refuse
from multitask_bert.trust.yaml_files import read_tree, refuse_long_references
from multitask_bert.utils.addresses import without_password
from multitask_bert.utils.command import command
from multitask_bert.utils.files import finite, read_json, short_name, shown, write_bytes, write_json

log = logging.getLogger(__name__)

RESULTS, REPRODUCE, LOG = "results.json", "reproduce.yaml", "run.log"
PICTURES = "pictures.html"
SWEEP = "sweep.json"  # in a sweep's folder: which study it is of
HYDRA_CONFIG = Path(".hydra", "config.yaml")  # the config of a job, as Hydra saves it
HYDRA_SETTINGS = Path(".hydra", "hydra.yaml")  # the config of Hydra itself
BYTES_OF_LOG = 100_000  # at its end, which are searched for an error
LOG_RECORD = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ [\w.]+: ")  # as `hydra.job_logging` formats it
BAD_INPUT, ENDED_BY_ERROR = "error: ", "the run ended with an error"  # how the last record of a failed run begins


def existing_run(config: ExperimentConfig) -> Path:
    """The folder that `run_dir` names.

    Raises:
        InputError: it is not the folder of a run.
    """
    assert config.run_dir is not None
    run_dir = Path(config.run_dir)
    refuse_no_run(run_dir)
    return run_dir


def refuse_no_run(folder: Path) -> None:
    """Check that a folder is that of a run.

    Raises:
        InputError: it is not.
    """
    if not (folder / HYDRA_CONFIG).is_file():
        raise InputError(f"run_dir={folder}: not the folder of a run (it has no .hydra/config.yaml)")


def refuse_unfinished(folder: Path) -> None:
    """Check that a run is finished.

    Raises:
        InputError: it was stopped, killed, or ended with an error, or is still running.
    """
    if not (folder / RESULTS).is_file():
        raise InputError(
            f"run_dir={folder}: this run is not finished (it has no {RESULTS}); wait for it, or continue it: "
            f"{command()} {as_word('run_dir', shown(folder))} resume=true"
        )


def config_of(run_dir: Path, now: ExperimentConfig | None = None) -> ExperimentConfig:
    """The config that an earlier run began with, and the precision that it took; with the data root of `now`, where
    that names one.

    Raises:
        InputError: the config is invalid, or names code or paths that a file may not name (trust/).
    """
    path = run_dir / HYDRA_CONFIG
    tree = read_tree(path)
    plain: Any = OmegaConf.to_container(tree)
    refuse(foreign_folders.run_problems(plain), path)
    refuse_long_references(plain)
    data_root = None if now is None or now.data_root == ExperimentConfig.data_root else now.data_root
    if data_root is not None:
        tree.data_root = data_root
    config = from_tree(tree)
    check(config)
    if config.trainer.precision == AUTO_PRECISION and (precision := recorded_precision(run_dir)) is not None:
        config = with_precision(config, precision)
    if data_root is None:
        refuse(download_problems(to_dict(config)["tasks"], config.data_root), path)
    return config


def with_precision(config: ExperimentConfig, precision: str) -> ExperimentConfig:
    """The config with this `trainer.precision`."""
    return replace(config, trainer=replace(config.trainer, precision=precision))


def recorded_precision(run_dir: Path) -> str | None:
    """What `trainer.precision=auto` stood for as a run began; None if it has not begun, or does not say it.

    Raises:
        InputError: `reproduce.yaml` is damaged.
    """
    trainer = (read_reproduction(run_dir) or {}).get("trainer")
    precision = trainer.get("precision") if isinstance(trainer, dict) else None
    return precision if precision != AUTO_PRECISION and precision in choices_of(TrainerConfig, "precision") else None


def config_to_evaluate(run_dir: Path, now: ExperimentConfig, *, other_tasks: bool = False) -> ExperimentConfig:
    """The config of an earlier run without its loggers, with the device and evaluation batches of `now`.

    `other_tasks`: with the tasks of `now` in place of its own.
    """
    earlier = config_of(run_dir, now)
    batching = replace(
        earlier.batching, eval_batch_size=now.batching.eval_batch_size, eval_max_tokens=now.batching.eval_max_tokens
    )
    if other_tasks:
        earlier = replace(earlier, tasks=now.tasks)
        if now.data_root == ExperimentConfig.data_root:
            refuse(download_problems(to_dict(earlier)["tasks"], earlier.data_root), run_dir / HYDRA_CONFIG)
    return replace(earlier, logger={}, batching=batching, trainer=replace(earlier.trainer, device=now.trainer.device))


def save_config(config: ExperimentConfig, folder: Path) -> None:
    """Save the config of one of a job's several runs as Hydra saves that of a job, so that other actions find it."""
    path = folder / HYDRA_CONFIG
    path.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(to_dict(config)), path)


def config_files_of(folder: Path) -> dict[str, str]:
    """The files that a job's config was composed from, by name, as in `tasks/ner`; empty if that is not known."""
    try:
        files = OmegaConf.select(OmegaConf.load(folder / HYDRA_SETTINGS), "hydra.runtime.files")
        return {str(name): str(file) for name, file in files.items()}
    except (OSError, YAMLError, OmegaConfBaseException, AttributeError):
        return {}


def read_results(folder: Path) -> dict[str, Any]:
    """A run's `results.json`.

    Raises:
        OSError, ValueError: the file is missing or damaged.
    """
    results: dict[str, Any] = read_json(folder / RESULTS)
    return results


def last_error(folder: Path) -> str | None:
    """The error that ended a run, on one line, from its `run.log`; None: the log does not end with one."""
    try:
        with (folder / LOG).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - BYTES_OF_LOG))
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    record = LOG_RECORD.split(text)[-1].rstrip()  # a run that was resumed has logged more after its error
    if record.startswith(BAD_INPUT):
        return record.removeprefix(BAD_INPUT).splitlines()[0]
    if record.startswith(ENDED_BY_ERROR):
        _, _, trace = record.rpartition("Traceback (most recent call last):\n")  # the last one of a chain
        return next((line for line in trace.splitlines() if line and not line[0].isspace()), None)
    return None


def collapsed_heads(results: Mapping[str, Any]) -> list[str]:
    """The heads, as `task.head`, that have learned nothing in a run's best model; `results`: its `results.json`."""
    return [name for name, how in results.get("collapsed", {}).items() if how["best_model"] is not None]


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write `results.json`, with null for numbers that are not finite, which JSON does not have."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULTS, finite(results))


def write_reproduction(config: ExperimentConfig, folder: Path) -> None:
    """Write `reproduce.yaml`: see `primary_config`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = shlex.quote(str(shown(folder)))
    text = primary_config(config, f"# python run.py --config-dir {path} --config-name {Path(REPRODUCE).stem}")
    write_bytes(folder / REPRODUCE, text.encode())


def primary_config(config: ExperimentConfig, *first_lines: str) -> str:
    """The whole config as the text of a primary config, with no config groups left to compose."""
    name = short_name(re.sub(r"[^\w.+-]", "_", run_name(config)))
    run = {"dir": f"outputs/${{now:%Y-%m-%d}}/${{now:%H-%M-%S-%f}}_{name}"}
    tree = {
        "defaults": ["schema", "hydra_settings", "_self_"],
        **to_dict(replace(config, resume=False)),
        "hydra": {"run": run},
    }
    return without_password("\n".join([*first_lines, OmegaConf.to_yaml(OmegaConf.create(tree))]))


def read_reproduction(folder: Path) -> dict[str, Any] | None:
    """The config in `reproduce.yaml`, as plain dicts; None if there is no such file."""
    if not (folder / REPRODUCE).is_file():
        return None
    tree = OmegaConf.to_container(read_tree(folder / REPRODUCE), resolve=False)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items() if key not in ("defaults", "hydra")}


def describe_outputs(config: ExperimentConfig, folder: Path) -> dict[str, str]:
    """What a run has left for its user, and the path or command to look at it."""
    short = shown(folder)
    found = {
        "Run folder": f"{short}",
        "Results": f"{short / RESULTS}",
        "Best model": f"{short / 'model'}",
        "Every step": f"{short / 'metrics.jsonl'}",
    }
    if (folder / PICTURES).is_file():
        found["Pictures"] = f"{short / PICTURES}"
    if "tensorboard" in config.logger:
        found["TensorBoard"] = f"tensorboard --logdir {short}"
    if "mlflow" in config.logger:
        uri = without_password(str(config.logger["mlflow"].get("tracking_uri")))
        found["MLflow"] = uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
    return found

"""What a run's folder holds, and how an earlier run is found again by it."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from multitask_bert.config.checks import check
from multitask_bert.config.schema import ExperimentConfig, run_name
from multitask_bert.config.tree import from_tree, to_dict
from multitask_bert.errors import InputError
from multitask_bert.trust import foreign_folders
from multitask_bert.trust.downloads import download_problems
from multitask_bert.trust.permissions import refuse
from multitask_bert.trust.yaml_files import read_tree, refuse_long_references
from multitask_bert.utils.addresses import without_password
from multitask_bert.utils.files import finite, read_json, short_name, shown, write_bytes, write_json

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

RESULTS, REPRODUCE = "results.json", "reproduce.yaml"
SWEEP = "sweep.json"  # in a sweep's folder: which study it is of
HYDRA_CONFIG = Path(".hydra", "config.yaml")  # of a job, as Hydra keeps it
HYDRA_SETTINGS = Path(".hydra", "hydra.yaml")  # beside it: what Hydra itself was told


def existing_run(config: ExperimentConfig) -> Path:
    """The folder that `run_dir` names."""
    assert config.run_dir is not None
    run_dir = Path(config.run_dir)
    if not (run_dir / HYDRA_CONFIG).is_file():
        raise InputError(f"run_dir={run_dir}: not the folder of a run (it has no .hydra/config.yaml)")
    return run_dir


def config_of(run_dir: Path, now: ExperimentConfig | None = None) -> ExperimentConfig:
    """That of an earlier run, as it began; but for its data root, where `now` names another.

    Raises:
        InputError: it cannot be right, or names code or places that a file may not name (trust.py).
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
    if data_root is None:
        refuse(download_problems(to_dict(config)["tasks"], config.data_root), path)
    return config


def config_to_evaluate(run_dir: Path, now: ExperimentConfig) -> ExperimentConfig:
    """That of an earlier run without its loggers, evaluated as `now` says."""
    earlier = config_of(run_dir, now)
    batching = replace(
        earlier.batching, eval_batch_size=now.batching.eval_batch_size, eval_max_tokens=now.batching.eval_max_tokens
    )
    return replace(earlier, logger={}, batching=batching, trainer=replace(earlier.trainer, device=now.trainer.device))


def keep_config(config: ExperimentConfig, folder: Path) -> None:
    """Where Hydra keeps that of a job: for a run inside of one, so that other actions find it."""
    path = folder / HYDRA_CONFIG
    path.parent.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(OmegaConf.create(to_dict(config)), path)


def config_files_of(folder: Path) -> dict[str, str]:
    """By name, as in `tasks/ner`: the files that a job's config was composed from; empty where that is not known."""
    try:
        files = OmegaConf.select(OmegaConf.load(folder / HYDRA_SETTINGS), "hydra.runtime.files")
        return {str(name): str(file) for name, file in files.items()}
    except (OSError, YAMLError, OmegaConfBaseException, AttributeError):
        return {}


def read_results(folder: Path) -> dict[str, Any]:
    """A run's `results.json`.

    Raises:
        OSError, ValueError: there is no `results.json`, or it is damaged.
    """
    results: dict[str, Any] = read_json(folder / RESULTS)
    return results


def collapsed_heads(results: Mapping[str, Any]) -> list[str]:
    """`task.head` of each head that had learnt nothing in a run's best model; `results`: its results.json."""
    return [name for name, how in results.get("collapsed", {}).items() if how["best_model"] is not None]


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """`results.json`: null where a number is not finite, for which JSON has no word."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / RESULTS, finite(results))


def write_reproduction(config: ExperimentConfig, folder: Path) -> None:
    """`reproduce.yaml`: see `primary_config`."""
    folder.mkdir(parents=True, exist_ok=True)
    place = shlex.quote(str(shown(folder)))
    text = primary_config(config, f"# python run.py --config-dir {place} --config-name {Path(REPRODUCE).stem}")
    write_bytes(folder / REPRODUCE, text.encode())


def primary_config(config: ExperimentConfig, *first_lines: str) -> str:
    """The whole config as a primary config of its own, with nothing left to be looked up."""
    name = short_name(re.sub(r"[^\w.+-]", "_", run_name(config)))
    run = {"dir": f"outputs/${{now:%Y-%m-%d}}/${{now:%H-%M-%S-%f}}_{name}"}
    tree = {
        "defaults": ["schema", "hydra_settings", "_self_"],
        **to_dict(replace(config, resume=False)),
        "hydra": {"run": run},
    }
    return without_password("\n".join([*first_lines, OmegaConf.to_yaml(OmegaConf.create(tree))]))


def read_reproduction(folder: Path) -> dict[str, Any] | None:
    """The config in `reproduce.yaml`, as plain dicts; None where there is none."""
    if not (folder / REPRODUCE).is_file():
        return None
    tree = OmegaConf.to_container(read_tree(folder / REPRODUCE), resolve=False)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items() if key not in ("defaults", "hydra")}


def places(config: ExperimentConfig, folder: Path) -> dict[str, str]:
    """What a user may want to look at after a run, and where it is."""
    short = shown(folder)
    found = {
        "Run folder": f"{short}",
        "Results": f"{short / RESULTS}",
        "Best model": f"{short / 'model'}",
        "Every step": f"{short / 'metrics.jsonl'}",
    }
    if "tensorboard" in config.logger:
        found["TensorBoard"] = f"tensorboard --logdir {short}"
    if "mlflow" in config.logger:
        uri = without_password(str(config.logger["mlflow"].get("tracking_uri")))
        found["MLflow"] = uri if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
    return found

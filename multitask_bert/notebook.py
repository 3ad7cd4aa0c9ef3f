"""A run from Python: compose a config, use data that is in memory, train, predict. For notebooks and scripts.

from multitask_bert.notebook import compose, task_in_memory, train

reviews = task_in_memory({"train": frame}, text="review", heads={"mood": {"type": "classification", "column": "mood"}})
run = train(compose("model=minilm", "logger=none", tasks={"reviews": reviews}))
run.results["metrics"]["test"]
list(run.predictor().predict(["Nzuri sana!"]))
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from multitask_bert.config.schema import SPLITS, ExperimentConfig, HeadConfig, SourceConfig, TaskConfig, run_name
from multitask_bert.config.tree import from_tree, unknown_key
from multitask_bert.errors import InputError
from multitask_bert.saving.lock import holding
from multitask_bert.saving.run_folder import read_results, save_config
from multitask_bert.trust.paths import OWN_CONF
from multitask_bert.utils.files import sha256_of, short_name

if TYPE_CHECKING:
    from multitask_bert.inference.predictor import Predictor

DATA_FOLDER = Path("outputs/data")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, as the command line leaves it, and what its `results.json` says."""

    folder: Path
    results: dict[str, Any]

    def predictor(self, **options: Any) -> Predictor:
        """The run's best model, loaded for prediction; `options`: see `Predictor.load`."""
        from multitask_bert.inference.predictor import Predictor

        return Predictor.load(self.folder, **options)


def compose(
    *overrides: str, tasks: Mapping[str, TaskConfig] | None = None, config_dir: str | Path | None = None
) -> ExperimentConfig:
    """The config that `python run.py OVERRIDES` has: `compose("tasks=ner+sentiment", "model=tiny")`.

    `tasks`: used instead of `tasks=…`, by name; `share=a+b` is among them. `config_dir`: a folder of your own config
    files, as for `--config-dir`.

    Raises:
        InputError: a key or an option that does not exist, or a value that cannot be right.
    """
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import CompactHydraException

    from multitask_bert.command_line.explanations import explain_hydra
    from multitask_bert.config import composition
    from multitask_bert.config.checks import check
    from multitask_bert.heads import check_heads

    composition.register()
    searched = [] if config_dir is None else [f"hydra.searchpath=[file://{Path(config_dir).absolute()}]"]
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(OWN_CONF), version_base="1.3"):
            tree = hydra.compose("config", [*overrides, *searched])
    except CompactHydraException as error:
        raise InputError(explain_hydra(error)) from error
    if tasks is not None:
        tree.tasks = dict(tasks)
    config = from_tree(tree)
    check(config)
    check_heads(config)
    return config


def task_in_memory(
    splits: Mapping[str, Any],
    *,
    heads: Mapping[str, Mapping[str, Any]] | None = None,
    share: str | None = None,
    folder: Path = DATA_FOLDER,
    **source: Any,
) -> TaskConfig:
    """A task whose examples are in memory, for `compose(tasks={"name": …})`.

    `splits`: by `train`, `dev` and `test`, a `pandas.DataFrame` or a `datasets.Dataset` (whose class ids become names);
    without `dev` or `test`, they are split off train. `heads`: by name, the fields of a head, as in a task's YAML;
    `share`: the task whose heads it shares. `source`: the other fields of a source, as `text="review"`. Each split is
    written to a Parquet file in `folder`, named after its content, so that a run can be reproduced.

    Raises:
        InputError: a split of another name, without rows, or of another type; or a field that does not exist.
    """
    if not isinstance(splits, Mapping):
        raise InputError(f"splits: {type(splits).__name__} is no dict; give the splits by name, as {{'train': frame}}")
    _refuse_unknown_fields(SourceConfig, source, "")
    for name, of_head in (heads or {}).items():
        _refuse_unknown_fields(HeadConfig, of_head, f"heads.{name}.")
    files = {split: _write_parquet(split, data, folder.absolute()).name for split, data in splits.items()}
    of_source: dict[str, Any] = {"format": "parquet", "folder": str(folder.absolute()), **files, **source}
    return TaskConfig(
        source=SourceConfig(**of_source),
        heads={name: HeadConfig(**of_head) for name, of_head in sorted((heads or {}).items())},
        share=share,
    )


def train(config: ExperimentConfig, folder: str | Path | None = None) -> Run:
    """Train, keep the best model and test it, as `python run.py` does.

    `folder`: of the run; None: a new one in outputs/.

    Raises:
        InputError: bad config or data; or another run is being written to the folder.
    """
    from multitask_bert.actions import calm_libraries
    from multitask_bert.run_extras import pictures_of, run_tags
    from multitask_bert.training.run import run_training

    calm_libraries()
    config = _retyped(config)
    if folder is None:
        folder = Path(
            "outputs", time.strftime("%Y-%m-%d"), f"{time.strftime('%H-%M-%S')}_{short_name(run_name(config))}"
        )
    folder = Path(folder).absolute()
    with holding(folder):
        save_config(config, folder)
        run_training(config, folder, tags=run_tags(config), draw=pictures_of(config))
    return Run(folder, read_results(folder))


def _refuse_unknown_fields(schema: type, given: Mapping[str, Any], where: str) -> None:
    known = [field.name for field in fields(schema)]
    if unknown := [unknown_key(f"{where}{name}", known) for name in given if name not in known]:
        raise InputError("\n".join(unknown))


def _retyped(config: ExperimentConfig) -> ExperimentConfig:
    """The config with its fields as they are now, of the right types.

    Raises:
        InputError: a field of the wrong type, or an attribute that is no field.
    """
    _refuse_new_attributes(config, "")
    return from_tree(OmegaConf.create(asdict(config)))


def _refuse_new_attributes(node: Any, where: str) -> None:
    if is_dataclass(node):
        _refuse_unknown_fields(type(node), vars(node), where)
    for name, child in (vars(node) if is_dataclass(node) else node if isinstance(node, dict) else {}).items():
        _refuse_new_attributes(child, f"{where}{name}.")


def _write_parquet(split: str, data: Any, folder: Path) -> Path:
    if split not in SPLITS:
        raise InputError(f"splits: {split} is none of {', '.join(SPLITS)}")
    if not hasattr(data, "to_parquet"):
        raise InputError(f"splits: {split} is a {type(data).__name__}; give a pandas.DataFrame or a datasets.Dataset")
    if len(data) == 0:
        raise InputError(f"splits: {split} has no rows")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        file = Path(partial, "split.parquet")
        data.to_parquet(file)
        path = folder / f"{sha256_of(file)[:32]}.parquet"
        shutil.move(file, path)
    return path

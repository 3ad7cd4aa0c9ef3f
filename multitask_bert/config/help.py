"""What `python run.py --help` lists beside Hydra's groups: actions, the keys used most, and the user's own files.

`python -m multitask_bert.config.help >docs/settings.md` writes the page of all keys.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import _MISSING_TYPE, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING

from multitask_bert.config.action_table import ACTIONS
from multitask_bert.config.families import families_in
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.search_order import is_named_by_user
from multitask_bert.config.setting import setting_of
from multitask_bert.config.sweep_config import SweepConfig
from multitask_bert.trust.paths import OWN_CONF, is_own

USED_MOST = (
    "optimizer.lr", "scheduler.warmup_ratio", "batching.batch_size", "batching.max_length", "trainer.num_epochs",
    "trainer.max_steps", "trainer.eval_every", "trainer.metric_for_best", "trainer.patience",
    "tasks.<name>.heads.<name>.weight", "model.pretrained", "model.dropout", "seed", "data_root", "name",
)  # fmt: skip
SWEEPER = "hydra.sweeper."


def actions_help() -> str:
    """One line per action: how it is written, and what it does."""
    lines = {
        f"action={name}" + (" run_dir=RUN" if action.needs_run_dir else ""): action.meaning
        for name, action in ACTIONS.items()
    }
    return _table(lines)


def keys_help() -> str:
    """One line per key that is used most: what it means, its unit, choices and bounds."""
    items = {f"{where}{item.name}": item for where, schema in schemas() for item in fields(schema)}
    return _table({key: setting_of(items[key]).described() for key in USED_MOST})


def settings_page() -> str:
    """docs/settings.md: a table for each part of the config."""
    lines = [
        "# Settings", "",
        "Every key with its default, from `multitask_bert/config/schema.py`. The files in `conf/` and the encoder's",
        "recipe may set another value: `python run.py --cfg job` shows those of a run. The last table is of sweeps.",
    ]  # fmt: skip
    for where, schema in (*schemas(), (SWEEPER, SweepConfig)):
        lines += ["", f"## {where.removesuffix('.') or 'At the top'}", "", f"{schema.__doc__}", ""]
        lines += ["| key | default | meaning |", "|---|---|---|"]
        for item in fields(schema):
            meaning = setting_of(item).described().replace("|", "\\|")
            lines.append(f"| `{where}{item.name}` | {_default(item)} | {meaning} |")
    return "\n".join([*lines, ""])


def schemas(schema: Any = ExperimentConfig, where: str = "") -> Iterator[tuple[str, Any]]:
    """The config's classes, and how their full names begin; <name> stands for what the user names."""
    yield where, schema
    hints = get_type_hints(schema)
    for item in fields(schema):
        hint, name = hints[item.name], f"{where}{item.name}"
        if get_origin(hint) is dict:
            hint, name = get_args(hint)[1], f"{name}.<name>"
        if is_dataclass(hint):
            yield from schemas(hint, f"{name}.")


def families_help() -> str:
    """One line per family of tasks with its languages, those of the user's folders included."""
    sources = HydraConfig.get().runtime.config_sources
    families = families_in(Path(source.path) for source in sources if source.schema == "file")
    return _table({f"{family}_": ", ".join(languages) for family, languages in families.items()})


def _default(item: Field[Any]) -> str:
    """The default as it is written in YAML."""
    if not isinstance(item.default_factory, _MISSING_TYPE):
        made = item.default_factory()
        return "see below" if is_dataclass(made) else f"`{made}`"
    return "required" if item.default == MISSING else f"`{json.dumps(item.default)}`"


def _table(lines: dict[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join(f"  {left:{width}}  {right}" for left, right in lines.items())


def users_options() -> str:
    """The user's own files by group, for `--help`; empty where no folder of the user's is searched."""
    lines = []
    for source in HydraConfig.get().runtime.config_sources:
        folder = Path(source.path)
        if source.schema != "file" or not is_named_by_user(source.provider) or is_own(source.path, "."):
            continue
        lines += ["", f"Your own, in {folder} (*: read in place of the shipped one)"]
        files = (*folder.glob("*/*.yaml"), *folder.glob("hydra/*/*.yaml"))
        for group in sorted({file.parent.relative_to(folder).as_posix() for file in files}):
            names = sorted(file.stem for file in (folder / group).glob("*.yaml"))
            shipped = {file.stem for file in (OWN_CONF / group).glob("*.yaml")}
            lines.append(f"{group}: {', '.join(name + '*' * (name in shipped) for name in names)}")
    return "\n".join([*lines, ""]) if lines else ""


if __name__ == "__main__":
    print(settings_page(), end="")

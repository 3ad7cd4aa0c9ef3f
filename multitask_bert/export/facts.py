"""What a run's folder says of its model, for the model card and the metadata of an export."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from multitask_bert.config.schema import ExperimentConfig, ExportConfig
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.saving.run_folder import config_files_of, read_results
from multitask_bert.training.provenance import PROVENANCE
from multitask_bert.utils.files import read_json


@dataclass(frozen=True)
class Facts:
    """What the card of a run, or of one of its heads, says."""

    model: MultiTaskModel
    config: ExperimentConfig
    stated: ExportConfig  # licence and languages, as the user states them
    results: Mapping[str, Any]  # `results.json`; empty: there is none
    provenance: Mapping[str, Any]
    comments: Mapping[str, str]  # by task, and `model`: the comment at the head of its file in conf/
    owners: Sequence[tuple[str, str]]  # the heads that have weights of their own, by task and name
    classes: dict[tuple[str, str], str] = field(default_factory=dict)  # hf: by task and head

    def of_head(self, task: str, name: str) -> Facts:
        """The facts of the card of one head."""
        return replace(self, owners=[(task, name)])

    @property
    def tasks(self) -> dict[str, Any]:
        """The configs of the tasks whose heads the card is about, those included that share them."""
        owners = set(self.owners)
        found = {
            task
            for task, heads in self.model.heads.items()
            if any(self.model.owner_of(task, name) in owners for name in heads)
        }
        return {task: config for task, config in self.config.tasks.items() if task in found}


def read_facts(run_dir: Path, config: ExperimentConfig, model: MultiTaskModel, stated: ExportConfig) -> Facts:
    """The facts that a run's folder holds; what is missing or damaged there is left out."""
    files = config_files_of(run_dir)
    comments = {task: _comment(files, f"tasks/{task}") for task in config.tasks}
    encoder = next((name for name in files if name.startswith("model/")), "")
    comments["model"] = _comment(files, encoder)
    return Facts(
        model, config, stated, _read(lambda: read_results(run_dir)), _read(lambda: read_json(run_dir / PROVENANCE)),
        comments, model.owners,
    )  # fmt: skip


def _comment(files: Mapping[str, str], name: str) -> str:
    """The comment at the head of a config's file, in one line; empty where there is none, or the file has another name.

    The path stands in the run's folder, which may be somebody else's: only comments of a file of that name are read.
    """
    path = Path(files.get(name, ""))
    if not name or path.suffix != ".yaml" or not path.with_suffix("").as_posix().endswith(name):
        return ""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return " ".join(comment)


def _read(read: Callable[[], Any]) -> Mapping[str, Any]:
    try:
        found = read()
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

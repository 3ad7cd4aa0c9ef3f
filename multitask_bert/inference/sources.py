"""Which of the run's tasks a file to be predicted for belongs to, whose reader then reads it. In this order:

1. the task that has this very file
2. by its name: `.conllu`, `.conll`, `.parquet`, `.json`, a folder, one of parallel files, or an ending of the run's own
3. a text file whose examples, with their labels, can be read like the run's own files of that ending
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data.downloads import part_of
from multitask_bert.data.readers import can_read, reader_of
from multitask_bert.data.readers.parallel import file_names
from multitask_bert.errors import InputError
from multitask_bert.heads import HEAD_TYPES, Head
from multitask_bert.inference.columns import Columns, columns_of_task, pair_fields_of
from multitask_bert.trust.permissions import is_allowed
from multitask_bert.utils.files import expand_user_path

log = logging.getLogger(__name__)

BY_ENDING = {".conll": "conll", ".conllu": "conllu", ".parquet": "parquet", ".json": "squad"}
OF_TEXTS = ("", ".txt", ".text")  # endings of files with a text per line, unless they look like the run's own
OF_LINES = (".csv", ".tsv", ".jsonl", ".ndjson")
NUM_COMPARED = 20  # examples of a text file that must read like the run's own


@dataclass(frozen=True)
class TaskSource:
    """A task's data, as the run's config names it."""

    task: str
    source: SourceConfig
    heads: Mapping[str, HeadConfig]
    columns: Columns | None  # what it calls its texts; None: they have no names
    paths: tuple[Path, ...]  # of its splits

    @property
    def endings(self) -> set[str]:
        """The endings of its files' names, in lower case."""
        return {path.suffix.lower() for path in self.paths}

    @property
    def pair_fields(self) -> tuple[str, str]:
        """The keys under which two texts are given to its heads."""
        return pair_fields_of(head.type for head in self.heads.values())


def task_sources(tree: Any) -> list[TaskSource]:
    """The sources of a run's tasks; `tree`: its config, as plain dicts and lists."""
    tasks = tree.get("tasks") if isinstance(tree, Mapping) else None
    root = Path(expand_user_path(str(tree.get("data_root") or ""))) if tasks else Path()
    found = []
    for name, task in (tasks or {}).items():
        source = SourceConfig(**_known(SourceConfig, task["source"]))
        heads = {
            head: HeadConfig(**_known(HeadConfig, config))
            for head, config in (task.get("heads") or {}).items()
            if config.get("type") in HEAD_TYPES or is_allowed(str(config.get("type")))
        }
        splits = (source.train, source.dev, source.test, *(source.tests or {}).values())
        folder = root / expand_user_path(source.folder)
        paths = tuple(folder / expand_user_path(split) for split in splits if split)
        found.append(TaskSource(name, source, heads, columns_of_task(task), paths))
    return found


def source_by_name(name: str, own: Sequence[TaskSource]) -> TaskSource | None:
    """The source as which a file is to be read, judged by its path and name; None: its ending alone tells its format.

    Raises:
        InputError: a file of columns, of which it is not known which one has the words.
    """
    path, suffix = Path(name), Path(name).suffix.lower()
    for one in own:
        if any(_is_same(path, part) for part in _files(one)):
            return one
    if path.is_dir() or (parallel := _parallel_of(path, own)) is not None:
        return next((one for one in own if one.source.format == "parallel"), None) if path.is_dir() else parallel
    if suffix in OF_LINES:
        return None
    wanted = BY_ENDING.get(suffix)
    of_format = [one for one in own if one.source.format == wanted]
    of_ending = [] if suffix in OF_TEXTS else [one for one in own if suffix in one.endings]
    chosen = next(iter([one for one in of_format if suffix in one.endings] or of_ending or of_format), None)
    if chosen is None and wanted == "conllu":
        return TaskSource("", SourceConfig(wanted), {}, None, ())
    if chosen is None and wanted == "conll":
        raise InputError(
            f"input={name}: no task of the run has files in columns (`format: conll`), so it is not known in which "
            f'one the words are; give a .jsonl file with the words, as in {{"words": ["Asha", "alifika"]}}'
        )
    return chosen


def source_by_content(
    name: str, own: Sequence[TaskSource], heads: Mapping[str, Mapping[str, Head]]
) -> TaskSource | None:
    """The source whose files a text file resembles, with labels that the model's heads know; None: there is none."""
    path = Path(name)
    if path.suffix.lower() not in OF_TEXTS:
        return None
    for one in own:
        if path.suffix.lower() in one.endings and _fits(path, one, heads.get(one.task, {})):
            log.warning("%s: read in the format of the run's task %s (%s)", name, one.task, one.source.format)
            return one
    return None


def _fits(path: Path, own: TaskSource, heads: Mapping[str, Head]) -> bool:
    """Whether the first examples can be read with their labels, and the heads know these."""
    if not can_read(own.source.format) or not own.heads or own.heads.keys() != heads.keys():
        return False
    with suppress(InputError):
        examples = reader_of(own.source.format)(path, own.source, own.heads)
        for example in itertools.islice(examples, NUM_COMPARED):
            for name, head in heads.items():
                head.check_label(example.labels[name], example)
        return True
    return False


def _known(record: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are fields of a dataclass."""
    names = {field.name for field in fields(record)}
    return {name: value for name, value in values.items() if name in names}


def _files(own: TaskSource) -> Iterator[Path]:
    """All files that the source names; for parallel files their folder, too."""
    if own.source.format == "datasets":
        return
    for path in own.paths:
        yield path
        if own.source.format == "parallel":
            yield from (part_of(path, name) for name in _texts(own))


def _parallel_of(path: Path, own: Sequence[TaskSource]) -> TaskSource | None:
    """The source whose files with texts have this name: `seq.in` in any folder, or `any.in`."""
    for one in own:
        if one.source.format == "parallel":
            is_pattern = any("*" in path.name for path in one.paths)
            if any(path.suffix == f".{name}" if is_pattern else path.name == name for name in _texts(one)):
                return one
    return None


def _texts(own: TaskSource) -> Sequence[str]:
    """The names of the parallel files that hold texts, not labels."""
    if own.source.format != "parallel" or (own.source.words is None and own.source.text is None):
        return ()
    return file_names(own.source, {})


def _is_same(path: Path, other: Path) -> bool:
    with suppress(OSError):
        return path.resolve() == other.resolve()
    return False

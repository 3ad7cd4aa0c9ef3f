"""Step 1 of the flow: a task's examples by split, read from its files; a missing split is split off from train."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from multitask_bert.config.schema import SPLITS, SourceConfig, TaskConfig
from multitask_bert.data import readers, storage
from multitask_bert.data.caching import temporary_folder
from multitask_bert.data.downloads import locate
from multitask_bert.data.readers.text import read_text
from multitask_bert.data.splitting import draw, split_off, stratum_of
from multitask_bert.data.storage import spool
from multitask_bert.data.text_keys import text_key
from multitask_bert.errors import InputError
from multitask_bert.heads import head_type
from multitask_bert.records import Example
from multitask_bert.utils.files import expand_user_path
from multitask_bert.utils.progress import tracked

log = logging.getLogger(__name__)


class TaskReader:
    """Reads the tasks of a run.

    Splits that are too large for memory are written into folders of their own inside `folder` (None: where temporary
    files go) as they are read, and stay there until `clear`.
    """

    def __init__(
        self, tasks: Mapping[str, TaskConfig], *, data_root: str, seed: int, folder: Path | None = None
    ) -> None:
        # `locate` fills in label names that stand in files; the caller's config is not changed.
        self.tasks = {name: replace(task, heads=dict(task.heads)) for name, task in tasks.items()}
        self.data_root, self.seed, self.folder = data_root, seed, folder
        self._spools: dict[str, list[Path]] = {}  # folders, by task

    def clear(self) -> None:
        """Remove the examples that are on disk; they cannot be read any more."""
        for folder in itertools.chain.from_iterable(self._spools.values()):
            shutil.rmtree(folder, ignore_errors=True)
        self._spools.clear()

    def is_on_disk(self, name: str) -> bool:
        """Whether a split of the task was too large for memory."""
        return name in self._spools

    def locate(self, name: str, splits: Sequence[str] = SPLITS) -> dict[str, Path | None]:
        """The path of the file of each of these splits, and of train where one is split off from it.

        None where the config names none. Checks the source, and reads label names.

        Raises:
            InputError: a source that cannot work, or a file that is not there.
        """
        with naming(name):
            return self._locate(self.tasks[name], splits)

    def _locate(self, task: TaskConfig, splits: Sequence[str]) -> dict[str, Path | None]:
        source = task.source
        readers.reader_of(source.format)
        if source.options and source.format in readers.READERS:
            raise InputError(f"source.options: {source.format} has none; its settings are keys of the source itself")
        gives_words = readers.gives_words(source)
        for head_name, head in task.heads.items():
            if gives_words not in (None, head_type(head.type).reads_words):
                given = "words in columns" if gives_words else "texts"
                raise InputError(
                    f"heads.{head_name}.type={head.type} does not fit source.format={source.format}, "
                    f"which gives {given}"
                )
        if source.format == "samples":
            return {split: Path("samples", source.samples or "", split) for split in splits}
        if not (source.has_train or source.dev or source.test or source.tests):
            raise InputError("source.train: missing; name the training file")
        if (source.path is None) == (source.format == "datasets"):
            raise InputError(
                f"source.path={source.path}: it names what source.format=datasets loads, and belongs to no other format"
            )
        for head_name, head in task.heads.items():
            if isinstance(head.names, str):
                task.heads[head_name] = replace(head, names=self._names(f"heads.{head_name}.names", head.names, source))
        parts = readers.files_of_a_split(source, task.heads)
        are_cut = [split for split in splits if source.fraction_of(split)]
        needed = [split for split in SPLITS if split in splits or (split == "train" and are_cut)]
        needed += source.named_test_splits if "test" in splits else ()
        return {split: locate(source, split, data_root=self.data_root, parts=parts) for split in needed}

    def _names(self, field: str, file: str, source: SourceConfig) -> list[str]:
        """The label names in a file in the source's folder, one per line."""
        path = Path(expand_user_path(self.data_root)) / expand_user_path(source.folder) / expand_user_path(file)
        names = [line.strip() for line in read_text(path, source.encoding).rstrip().split("\n")]
        if not all(names) or len(set(names)) < len(names):
            raise InputError(f"{path}: `{field}` needs a name on each line, and each only once; correct it")
        return names

    def read(self, name: str, paths: Mapping[str, Path | None]) -> dict[str, Sequence[Example]]:
        """The task's examples by split, from the files that `locate` named.

        Raises:
            InputError: bad input, with file and line, or the field, and the way out.
        """
        with naming(name):
            splits = self._read_files(name, paths)
            self._add_missing_splits(name, splits)
            if "dev" in paths and "dev" not in splits and self.tasks[name].source.has_dev:
                raise InputError("no dev examples; name a file in source.dev, or set source.dev_fraction over 0")
            self._draw_train(name, splits)
        return {
            split: splits[split] for split in (*SPLITS, *self.tasks[name].source.named_test_splits) if split in splits
        }

    def _add_missing_splits(self, name: str, splits: dict[str, Sequence[Example]]) -> None:
        source = self.tasks[name].source
        share_left = 1.0  # of train as the file has it, to which both fractions refer
        for split in ("test", "dev"):
            fraction = source.fraction_of(split)
            if split in splits or fraction == 0 or "train" not in splits:  # it is not asked for
                continue
            splits["train"], splits[split] = split_off(
                splits["train"], fraction / share_left, seed=self.seed, purpose=split
            )
            share_left -= fraction
            log.info("task %s: no %s file; %d examples were split off from train", name, split, len(splits[split]))
            if not splits[split]:
                raise InputError(
                    f"{split} cannot be split off from train, where {describe(splits['train'])}, of each of which one "
                    f"must stay; name a file in source.{split}, or check `column` and the format"
                )

    def _draw_train(self, name: str, splits: dict[str, Sequence[Example]]) -> None:
        number = self.tasks[name].source.max_train_examples
        if number is None or "train" not in splits:
            return
        num_found = len(splits["train"])
        if num_found < number:
            log.warning("task %s: source.max_train_examples=%d: there are %d, all are used", name, number, num_found)
            return
        splits["train"] = draw(splits["train"], number, seed=self.seed, purpose=name)
        log.info("task %s: %d of %d training examples were drawn", name, number, num_found)

    def _read_files(self, name: str, paths: Mapping[str, Path | None]) -> dict[str, Sequence[Example]]:
        task = self.tasks[name]
        source = task.source
        read = readers.reader_of(source.format)
        splits: dict[str, Sequence[Example]] = {}
        for split, path in paths.items():
            if path is None:
                continue
            splits[split] = self._hold(name, tracked(read(path, source, task.heads), f"reading {name} {split}"))
            if not splits[split]:
                raise InputError(
                    f"{path}: holds no examples, only a header or blank lines; put the data there, or name another file"
                )
        return splits

    def _hold(self, name: str, examples: Iterator[Example]) -> Sequence[Example]:
        """The examples in a list; where they are too many for memory, in a file."""
        first = list(itertools.islice(examples, storage.NUM_IN_MEMORY + 1))
        if len(first) <= storage.NUM_IN_MEMORY:
            return first
        folder = temporary_folder(self.folder)
        self._spools.setdefault(name, []).append(folder)
        try:
            return spool(folder / "examples", itertools.chain(first, examples))
        except OSError as error:
            raise InputError(
                f"{folder}: the examples, too many for memory, cannot be written there ({error.strerror}); make room, "
                f"or set MULTITASK_BERT_CACHE to a folder that has some"
            ) from error


def describe(examples: Sequence[Example]) -> str:
    """As in `3 example(s) have 2 different text(s) and 3 different label(s)`."""
    texts = {text_key(example) for example in examples}
    strata = {stratum_of(example) for example in examples}
    return f"{len(examples):,} example(s) have {len(texts):,} different text(s) and {len(strata):,} different label(s)"


@contextmanager
def naming(task: str) -> Iterator[None]:
    """Prefix the message of an `InputError` with the task's name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"task {task}: {error}") from error

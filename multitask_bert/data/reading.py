"""Step 1 of the flow: a task's examples by split, out of its files; a split that has none is cut from train."""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from multitask_bert.config.schema import SourceConfig, TaskConfig
from multitask_bert.data import readers, storage
from multitask_bert.data.caching import temporary_folder
from multitask_bert.data.downloads import locate
from multitask_bert.data.readers.text import read_text
from multitask_bert.data.splitting import cut, stratum_of
from multitask_bert.data.storage import spool
from multitask_bert.data.text_keys import text_key
from multitask_bert.errors import InputError
from multitask_bert.heads import head_type
from multitask_bert.records import Example
from multitask_bert.utils.files import expand_user_path
from multitask_bert.utils.progress import tracked

log = logging.getLogger(__name__)

SPLITS = ("train", "dev", "test")


class TaskReader:
    """Reads the tasks of a run.

    What is too much for memory goes into folders of its own inside `folder` (None: where temporary files go) as it is
    read, and stays there until `clear`.
    """

    def __init__(
        self, tasks: Mapping[str, TaskConfig], *, data_root: str, seed: int, folder: Path | None = None
    ) -> None:
        # Heads get the names of their labels from files in `locate`; the caller's config stays as it is.
        self.tasks = {name: replace(task, heads=dict(task.heads)) for name, task in tasks.items()}
        self.data_root, self.seed, self.folder = data_root, seed, folder
        self._spools: list[Path] = []

    def clear(self) -> None:
        """Remove what went to disk; examples from there cannot be read any more."""
        for folder in self._spools:
            shutil.rmtree(folder, ignore_errors=True)
        self._spools.clear()

    def locate(self, name: str) -> dict[str, Path | None]:
        """The place of each split's file; the source is checked before, and files with names of labels are read.

        Raises:
            InputError: a source that cannot work, or a file that is not there.
        """
        with naming(name):
            return self._locate(self.tasks[name])

    def _locate(self, task: TaskConfig) -> dict[str, Path | None]:
        source = task.source
        if source.format != "samples":
            readers.reader_of(source.format)
        if source.options and source.format in (*readers.READERS, "samples"):
            raise InputError(f"source.options: {source.format} has none; its settings are keys of the source itself")
        gives_words = (
            source.samples == "ner" if source.format == "samples" else source.format in readers.FORMATS_OF_WORDS
        )
        for head_name, head in task.heads.items():
            if head_type(head.type).reads_words != gives_words and not readers.gives_words_and_texts(source.format):
                given = "words in columns" if gives_words else "texts"
                raise InputError(
                    f"heads.{head_name}.type={head.type} does not fit source.format={source.format}, "
                    f"which gives {given}"
                )
        if source.format == "samples":
            return dict.fromkeys(SPLITS)
        if source.train is None:
            raise InputError("source.train: missing; name the training file")
        if (source.path is None) == (source.format == "datasets"):
            raise InputError(
                f"source.path={source.path}: it names what source.format=datasets loads, and belongs to no other format"
            )
        for head_name, head in task.heads.items():
            if isinstance(head.names, str):
                task.heads[head_name] = replace(head, names=self._names(f"heads.{head_name}.names", head.names, source))
        parts = readers.files_of_a_split(source, task.heads)
        return {split: locate(source, split, data_root=self.data_root, parts=parts) for split in SPLITS}

    def _names(self, field: str, file: str, source: SourceConfig) -> list[str]:
        """The names in a file in the source's folder, one a line."""
        path = Path(expand_user_path(self.data_root)) / expand_user_path(source.folder) / expand_user_path(file)
        names = [line.strip() for line in read_text(path, source.encoding).rstrip().split("\n")]
        if not all(names) or len(set(names)) < len(names):
            raise InputError(f"{path}: `{field}` needs a name on each line, and each only once; correct it")
        return names

    def read(self, name: str, paths: Mapping[str, Path | None]) -> dict[str, Sequence[Example]]:
        """The task's examples by split, out of the files that `locate` named.

        Raises:
            InputError: bad input, with file and line, or the field, and the way out.
        """
        with naming(name):
            splits = self._read_files(name, paths)
            self._cut_missing_splits(name, splits)
            if "dev" not in splits:
                raise InputError("no dev examples; name a file in source.dev, or set source.dev_fraction over 0")
        return {split: splits[split] for split in SPLITS if split in splits}

    def _cut_missing_splits(self, name: str, splits: dict[str, Sequence[Example]]) -> None:
        source = self.tasks[name].source
        left = 1.0  # of train as the file has it, which both fractions are shares of
        for split, fraction in (("test", source.test_fraction), ("dev", source.dev_fraction)):
            if split in splits or fraction == 0:
                continue
            splits["train"], splits[split] = cut(splits["train"], fraction / left, seed=self.seed, purpose=split)
            left -= fraction
            log.info("task %s: no %s file; %d examples were cut from train", name, split, len(splits[split]))
            if not splits[split]:
                raise InputError(
                    f"{split} cannot be cut from train, where {what_there_is(splits['train'])}: each kind must stay "
                    f"there; name a file in source.{split}, or see whether `column` and the format are the right ones"
                )

    def _read_files(self, name: str, paths: Mapping[str, Path | None]) -> dict[str, Sequence[Example]]:
        task = self.tasks[name]
        source = task.source
        if source.format == "samples":
            return {split: list(readers.read_samples(split, source, task.heads)) for split in SPLITS}
        read = readers.reader_of(source.format)
        splits: dict[str, Sequence[Example]] = {}
        for split, path in paths.items():
            if path is None:
                continue
            splits[split] = self._hold(tracked(read(path, source, task.heads), f"reading {name} {split}"))
            if not splits[split]:
                raise InputError(
                    f"{path}: holds no examples, only a header or blank lines; put the data there, or name another file"
                )
        return splits

    def _hold(self, examples: Iterator[Example]) -> Sequence[Example]:
        """A list; where there are too many for memory, a file."""
        first = list(itertools.islice(examples, storage.NUM_IN_MEMORY + 1))
        if len(first) <= storage.NUM_IN_MEMORY:
            return first
        folder = temporary_folder(self.folder)
        self._spools.append(folder)
        try:
            return spool(folder / "examples", itertools.chain(first, examples))
        except OSError as error:
            raise InputError(
                f"{folder}: the examples, too many for memory, cannot be written there ({error.strerror}); make room, "
                f"or set MULTITASK_BERT_CACHE to a folder that has some"
            ) from error


def what_there_is(examples: Sequence[Example]) -> str:
    """As in `3 examples have 2 different texts and 3 kinds of label`."""
    texts = {text_key(example) for example in examples}
    kinds = {stratum_of(example) for example in examples}
    return f"{len(examples):,} example(s) have {len(texts):,} different text(s) and {len(kinds):,} kind(s) of label"


@contextmanager
def naming(task: str) -> Iterator[None]:
    """Put the task's name before the text of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"task {task}: {error}") from error

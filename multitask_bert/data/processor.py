"""DataProcessor: from task configs to encoded datasets (steps 1 and 2 of the flow), and a report of what was found.

Reads and checks the files, cuts missing splits from train, builds label sets from train, and encodes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multitask_bert.config import InputError, TaskConfig
from multitask_bert.data import readers
from multitask_bert.data.batching import TaskDataset, lengths_of
from multitask_bert.data.caching import Cache, fingerprint_of, key_of
from multitask_bert.data.downloads import locate
from multitask_bert.data.encoding import cut_into_pieces, encode_examples, stride_of
from multitask_bert.data.splitting import cut, stratum_of, text_key
from multitask_bert.data.storage import StoredExamples, StoredWindows
from multitask_bert.heads import HEAD_TYPES, Head, make_head
from multitask_bert.records import EncodedExample, Example

log = logging.getLogger(__name__)

SPLITS = ("train", "dev", "test")
NUM_IN_MEMORY = 100_000  # encoded examples of a split; where there are more, each is read from disk when its turn comes


@dataclass(frozen=True)
class SplitReport:
    """What one split of one task holds."""

    task: str
    split: str
    num_examples: int
    num_tokens: int  # pieces, special tokens included
    num_cut: int  # examples longer than max_length
    num_missing: Mapping[str, int]  # labels that are missing, by head
    was_cut_from_train: bool


@dataclass
class ProcessedData:
    """What a Trainer needs: heads and, by task, datasets (a task without a split has no entry)."""

    heads: dict[str, dict[str, Head]] = field(default_factory=dict)
    train: dict[str, TaskDataset] = field(default_factory=dict)
    dev: dict[str, TaskDataset] = field(default_factory=dict)
    test: dict[str, TaskDataset] = field(default_factory=dict)
    reports: list[SplitReport] = field(default_factory=list)


@dataclass
class _OpenTask:
    """A task on its way from its files or from the cache."""

    splits: dict[str, Sequence[Example]] = field(default_factory=dict)
    key: str | None = None  # under which the cache has it, or will; None: it is not kept
    folders: dict[str, Path] | None = None  # by split, where the cache has it; None: nowhere yet


class DataProcessor:
    """Reads and encodes the tasks of a run.

    `known_heads`, by task: the heads of a saved model, whose labels then decide what may occur; None: labels come
    from train. `cache`: where encoded data is kept and found again; None: nowhere.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskConfig],
        *,
        data_root: str,
        seed: int,
        known_heads: Mapping[str, Mapping[str, Head]] | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.tasks, self.data_root, self.seed, self.known_heads = tasks, data_root, seed, known_heads
        self.cache = cache

    def process(self, tokenizer: Any, *, max_length: int) -> ProcessedData:
        """Everything, for all tasks.

        Raises:
            InputError: bad input, with file and line, or the field, and the way out.
        """
        data = ProcessedData()
        fingerprint = None if self.cache is None else fingerprint_of(tokenizer)
        opened = {name: self._open(name, fingerprint, max_length) for name in self.tasks}
        for name, task in opened.items():
            with _naming(name):
                data.heads[name] = self._heads(name, task.splits)
                self._check_labels(data.heads[name], task.splits)
        for name, task in opened.items():  # all tasks were read and checked before any is encoded
            for split, encoded in self._encode(task, data.heads[name], tokenizer, max_length):
                getattr(data, split)[name] = TaskDataset(encoded)
                data.reports.append(self._report(name, split, task.splits[split], encoded))
        return data

    def _open(self, name: str, fingerprint: str | None, max_length: int) -> _OpenTask:
        """The task's examples, from the cache where they are kept, else from its files."""
        with _naming(name):
            paths = self._locate(name)
            task = _OpenTask()
            if fingerprint is not None and self.cache is not None and self.tasks[name].source.format != "samples":
                key = key_of(name, self.tasks[name], paths, fingerprint, max_length=max_length, seed=self.seed)
                task.key, task.folders = key, None if key is None else self.cache.open(key)
        if task.folders is None:
            task.splits = dict(self._read(name, paths))
        else:
            assert self.cache is not None
            place = self.cache.folder / str(task.key)
            log.info("task %s: found encoded in %s; its files are not read again", name, place)
            task.splits = {split: StoredExamples(folder) for split, folder in task.folders.items()}
        return task

    def _encode(
        self, task: _OpenTask, heads: Mapping[str, Head], tokenizer: Any, max_length: int
    ) -> Iterator[tuple[str, Sequence[EncodedExample]]]:
        """Each split, encoded; what was not in the cache goes there first."""
        stride = stride_of(heads)
        folders = task.folders
        if folders is None and task.key is not None and self.cache is not None:
            windows = {
                split: cut_into_pieces(examples, tokenizer, max_length=max_length, stride=stride)
                for split, examples in task.splits.items()
            }
            folders = self.cache.fill(task.key, windows)  # None: it cannot be written
        for split, examples in task.splits.items():
            if folders is None:
                yield split, encode_examples(examples, heads, tokenizer, max_length=max_length)
            else:
                stored = StoredWindows(folders[split], heads, keeps_offsets=stride is not None)
                yield split, list(stored) if len(stored) <= NUM_IN_MEMORY else stored

    def read(self, name: str) -> dict[str, list[Example]]:
        """The examples of a task by split, checked for form; missing splits are cut from train."""
        with _naming(name):
            paths = self._locate(name)
        return self._read(name, paths)

    def _read(self, name: str, paths: Mapping[str, Path | None]) -> dict[str, list[Example]]:
        with _naming(name):
            splits = self._read_files(self.tasks[name], paths)
            self._cut_missing_splits(name, splits)
            if "dev" not in splits:
                raise InputError("no dev examples; name a file in source.dev, or set source.dev_fraction over 0")
        return {split: splits[split] for split in SPLITS if split in splits}

    def _cut_missing_splits(self, name: str, splits: dict[str, list[Example]]) -> None:
        source = self.tasks[name].source
        left = 1.0  # of train as the file has it, which both fractions are shares of
        for split, fraction in (("test", source.test_fraction), ("dev", source.dev_fraction)):
            if split in splits or fraction == 0:
                continue
            purpose = f"{name}/{split}"
            splits["train"], splits[split] = cut(splits["train"], fraction / left, seed=self.seed, purpose=purpose)
            left -= fraction
            log.info("task %s: no %s file; %d examples were cut from train", name, split, len(splits[split]))
            if not splits[split]:
                raise InputError(
                    f"{split} cannot be cut from train, where {_what_there_is(splits['train'])}: each kind must stay "
                    f"there; name a file in source.{split}, or see whether `column` and the format are the right ones"
                )

    def _locate(self, name: str) -> dict[str, Path | None]:
        """The place of each split's file; the source is checked before."""
        task = self.tasks[name]
        source = task.source
        if source.format not in (*readers.READERS, "samples"):
            known = ", ".join([*readers.READERS, "samples"])
            raise InputError(f"source.format={source.format}: choose one of {known}")
        gives_words = (
            source.samples == "ner" if source.format == "samples" else source.format in readers.FORMATS_OF_WORDS
        )
        for head_name, head in task.heads.items():
            if HEAD_TYPES[head.type].reads_words != gives_words and source.format not in readers.FORMATS_OF_BOTH:
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
        parts = readers.files_of_a_split(source, task.heads)
        return {split: locate(source, split, data_root=self.data_root, parts=parts) for split in SPLITS}

    def _read_files(self, task: TaskConfig, paths: Mapping[str, Path | None]) -> dict[str, list[Example]]:
        source = task.source
        if source.format == "samples":
            return {split: list(readers.read_samples(split, source, task.heads)) for split in SPLITS}
        read = readers.READERS[source.format]
        splits = {split: list(read(path, source, task.heads)) for split, path in paths.items() if path is not None}
        for split, examples in splits.items():
            if not examples:
                raise InputError(
                    f"{paths[split]}: holds no examples, only a header or blank lines; put the data there, or name "
                    f"another file"
                )
        return splits

    def _check_labels(self, heads: Mapping[str, Head], splits: dict[str, Sequence[Example]]) -> None:
        """Every label is one that the head knows, and dev can be scored; a test set without labels is left out.

        Shared tasks often hold back the labels of the test set.
        """
        for head_name, head in heads.items():
            for split, examples in splits.items():
                for example in examples:
                    head.check_label(example.labels[head_name], example)
                if split == "dev" and all(example.labels[head_name] is None for example in examples):
                    raise InputError(
                        f"{examples[0].where}: no dev example has a label for heads.{head_name}, so nothing can be "
                        f"scored; name another file in source.dev, or null to cut dev from train"
                    )
        if "test" in splits and all(label is None for e in splits["test"] for label in e.labels.values()):
            log.warning("%s: no test example has a label; the test set is left out", splits["test"][0].where)
            del splits["test"]

    def _heads(self, name: str, splits: Mapping[str, Sequence[Example]]) -> dict[str, Head]:
        if self.known_heads is not None:
            if set(self.known_heads.get(name, ())) != set(self.tasks[name].heads):
                raise InputError("the saved model has no heads of these names: it and the config are of different runs")
            return dict(self.known_heads[name])
        heads = {}
        for head_name, config in self.tasks[name].heads.items():
            values = [example.labels[head_name] for example in splits["train"]]
            labels = HEAD_TYPES[config.type].collect(config, values)
            if len(labels) < HEAD_TYPES[config.type].fewest_labels:
                found = ", ".join(labels.names) or "no label at all"
                raise InputError(
                    f"heads.{head_name}: the training data has only {found}; there is nothing to learn. "
                    f"Is `column` the right one?"
                )
            heads[head_name] = make_head(config, labels)
        return heads

    def _report(
        self, name: str, split: str, examples: Sequence[Example], encoded: Sequence[EncodedExample]
    ) -> SplitReport:
        missing = dict.fromkeys(self.tasks[name].heads, 0)
        for example in examples:
            for head in missing:
                missing[head] += example.labels[head] is None
        source = self.tasks[name].source
        report = SplitReport(
            task=name,
            split=split,
            num_examples=len(examples),
            num_tokens=sum(lengths_of(TaskDataset(encoded))),
            num_cut=encoded.num_cut if isinstance(encoded, StoredWindows) else sum(one.is_cut for one in encoded),
            num_missing={head: count for head, count in missing.items() if count},
            was_cut_from_train=source.format != "samples" and getattr(source, split) is None,
        )
        return report


def _what_there_is(examples: Sequence[Example]) -> str:
    """As in `3 examples have 2 different texts and 3 kinds of label`."""
    texts = {text_key(example) for example in examples}
    kinds = {stratum_of(example) for example in examples}
    return f"{len(examples):,} example(s) have {len(texts):,} different text(s) and {len(kinds):,} kind(s) of label"


@contextmanager
def _naming(task: str) -> Iterator[None]:
    """Put the task's name before the text of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"task {task}: {error}") from error

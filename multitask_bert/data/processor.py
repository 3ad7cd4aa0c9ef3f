"""DataProcessor: from task configs to encoded splits (steps 1 and 2 of the flow), and a report of what was found.

1. `TaskReader` reads the files, unless the cache has the task.
2. Each head collects its labels from train, and the labels of every split are checked (label_checks.py).
3. Every split is encoded, in memory, or into the cache and read from there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from multitask_bert.config.schema import SPLITS, TaskConfig
from multitask_bert.data import storage
from multitask_bert.data.caching import Cache, CachedTask, fingerprint_of, key_of, temporary_folder
from multitask_bert.data.encoding import ExampleTokenizer, encode_examples, stride_of
from multitask_bert.data.label_checks import check_labels, warn_of_similar_labels
from multitask_bert.data.reading import TaskReader, naming
from multitask_bert.data.splits import EncodedSplit, InMemorySplit
from multitask_bert.data.storage import Chunk, StoredExamples, StoredSplit
from multitask_bert.data.workers import tokenize_in_chunks
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, head_type, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import Example
from multitask_bert.utils.progress import tracked

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitReport:
    """The contents of one split of one task, in numbers."""

    task: str
    split: str
    num_examples: int
    num_tokens: int  # special tokens included
    num_cut: int  # sequences longer than max_length, which are truncated
    num_missing: Mapping[str, int]  # labels that are missing, by head
    was_cut_from_train: bool  # it was split off, for lack of a file


@dataclass
class ProcessedData:
    """What a Trainer needs: heads and, by task, splits (a task without a split has no entry).

    `test` also has the named test sets, as `task.name`, which no task can be called.
    """

    heads: dict[str, dict[str, Head]] = field(default_factory=dict)
    train: dict[str, EncodedSplit] = field(default_factory=dict)
    dev: dict[str, EncodedSplit] = field(default_factory=dict)
    test: dict[str, EncodedSplit] = field(default_factory=dict)
    reports: list[SplitReport] = field(default_factory=list)
    text_hashes: dict[str, dict[str, np.ndarray]] = field(  # by split and task, of each example: see text_keys.py
        default_factory=lambda: {split: {} for split in SPLITS}
    )


@dataclass
class _TaskData:
    """A task on its way from its files or from the cache."""

    has_file: Mapping[str, bool]  # by split; without one, it is split off from train
    splits: dict[str, Sequence[Example]] = field(default_factory=dict)
    key: str | None = None  # of the task in the cache; None: it is not cached
    cached: CachedTask | None = None  # None: the cache does not have it yet
    heads: dict[str, Head] = field(default_factory=dict)
    own_labels: dict[str, LabelSet] = field(default_factory=dict)  # by head, those in train; none without one
    num_missing: dict[str, dict[str, int]] = field(default_factory=dict)  # labels, by split and head
    warnings: list[str] = field(default_factory=list)  # that the data gave rise to, cached with it


class DataProcessor:
    """Reads and encodes the tasks of a run.

    `known_heads`, by task: the heads of a saved model, whose labels then decide what may occur; None: labels come
    from train. `cache`: of encoded data; None: without one. `num_processes`: see `BatchingConfig.encoding_processes`.
    `splits`: those to encode; without train, `known_heads` are needed, and train is read only where another split is
    split off from it.

    A split of more than `storage.NUM_IN_MEMORY` examples is written to disk as it is read, and used from there, so that
    memory does not grow with it.
    """

    def __init__(
        self,
        tasks: Mapping[str, TaskConfig],
        *,
        data_root: str,
        seed: int,
        known_heads: Mapping[str, Mapping[str, Head]] | None = None,
        cache: Cache | None = None,
        num_processes: int | None = None,
        splits: Sequence[str] = SPLITS,
    ) -> None:
        self.splits = splits
        self.seed, self.known_heads = seed, known_heads
        self.cache, self.num_processes = cache, num_processes
        folder = None if cache is None else cache.folder
        self.reader = TaskReader(tasks, data_root=data_root, seed=seed, folder=folder)
        self.tasks = self.reader.tasks

    def process(
        self, tokenizer: Any, *, max_length: int, window_strides: Mapping[str, int] | None = None
    ) -> ProcessedData:
        """Read, check and encode all tasks; all are checked before any is encoded. `window_strides`: see
        `heads.window_strides`.

        Raises:
            InputError: bad input, with file and line, or the field, and the way out.
        """
        try:
            return self._process(tokenizer, max_length, window_strides or {})
        finally:
            self.reader.clear()  # an encoded split has its examples beside it

    def read(self, name: str) -> dict[str, Sequence[Example]]:
        """The examples of a task by split, checked for form; missing splits are split off from train."""
        return self.reader.read(name, self.reader.locate(name))

    def _process(self, tokenizer: Any, max_length: int, window_strides: Mapping[str, int]) -> ProcessedData:
        data = ProcessedData()
        fingerprint = None if self.cache is None else fingerprint_of(tokenizer)
        opened = {name: self._open(name, fingerprint, max_length, window_strides.get(name)) for name in self.tasks}
        for name, task in opened.items():
            with naming(name), _recording_warnings(task.warnings):
                self._collect_labels(name, task)
        for name, task in opened.items():
            with naming(name), _recording_warnings(task.warnings):
                self._find_heads(name, opened)
                self._check_labels(name, task)
            data.heads[name] = task.heads
        for name, task in opened.items():
            for split, encoded, hashes in self._encode(name, task, tokenizer, max_length, window_strides.get(name)):
                plain, dot, set_name = split.partition(".")
                getattr(data, plain)[name + dot + set_name] = encoded
                data.text_hashes[plain][name + dot + set_name] = hashes
                data.reports.append(_report(name, split, task, encoded))
        return data

    def _open(self, name: str, fingerprint: str | None, max_length: int, window_stride: int | None) -> _TaskData:
        """The task's examples, from the cache if it has them, else from the task's files."""
        paths = self.reader.locate(name, self.splits)
        task = _TaskData({split: path is not None for split, path in paths.items()})
        if fingerprint is not None and self.cache is not None:
            with naming(name):
                task.key = key_of(
                    name, self.tasks[name], paths, fingerprint, max_length=max_length, window_stride=window_stride,
                    seed=self.seed,
                )  # fmt: skip
            if task.key is not None and self.splits != SPLITS:
                task.key += "-" + "-".join(self.splits)
            task.cached = None if task.key is None else self.cache.find(task.key)
        if task.cached is None:
            with _recording_warnings(task.warnings):
                found = self.reader.read(name, paths)
                task.splits = {s: examples for s, examples in found.items() if s.partition(".")[0] in self.splits}
        else:
            assert self.cache is not None
            folder = self.cache.folder / str(task.key)
            log.info("task %s: found encoded in %s; its files are not read again", name, folder)
            for warning in task.cached.notes["warnings"]:
                log.warning("%s", warning)
            task.splits = {split: StoredExamples(folder) for split, folder in task.cached.folders.items()}
        return task

    def _collect_labels(self, name: str, task: _TaskData) -> None:
        """The labels of each head in the task's own train."""
        if self.known_heads is not None or not self.tasks[name].source.has_train:
            return
        for head_name, config in self.tasks[name].heads.items():
            if task.cached is not None:
                labels = LabelSet(**{k: tuple(v) for k, v in task.cached.notes["labels"][head_name].items()})
            else:
                values = (example.labels[head_name] for example in task.splits["train"])
                labels = head_type(config.type).collect(config, values)
            task.own_labels[head_name] = labels

    def _find_heads(self, name: str, opened: Mapping[str, _TaskData]) -> None:
        """Make a task's heads; one that is shared has the labels of all training sets of the tasks that share it."""
        task = opened[name]
        if self.known_heads is not None:
            if set(self.known_heads.get(name, ())) != set(self.tasks[name].heads):
                raise InputError("the saved model has no heads of these names: it and the config are of different runs")
            task.heads = dict(self.known_heads[name])
            return
        for head_name, config in self.tasks[name].heads.items():
            owner = config.share or f"{name}.{head_name}"
            of_all = [
                opened[other].own_labels[other_head]
                for other in self.tasks
                for other_head, other_config in self.tasks[other].heads.items()
                if (other_config.share or f"{other}.{other_head}") == owner and other_head in opened[other].own_labels
            ]
            if not of_all:
                raise InputError("source.train: missing; name the training file, or share the heads of a task with one")
            labels = head_type(config.type).join_labels(of_all)
            if len(labels) < head_type(config.type).fewest_labels:
                found = f"the training data has only {', '.join(labels.names)}"
                raise InputError(
                    f"heads.{head_name}: {found if labels.names else 'no training example has a label'}; "
                    f"there is nothing to learn. Is `column` the right one?"
                )
            task.heads[head_name] = make_head(config, labels)
            is_new = task.cached is None and config.labels is None  # a cached task has the warning in its notes
            if is_new and config.share is None:
                warn_of_similar_labels(head_name, task.heads[head_name])

    def _check_labels(self, name: str, task: _TaskData) -> None:
        """Count missing labels and refuse unknown ones, unless that was done when the task was cached."""
        known = {head_name: list(head.labels.names) for head_name, head in task.heads.items()}
        if task.cached is not None and task.cached.notes["known"] == known:
            task.num_missing = dict(task.cached.notes["num_missing"])
            return
        lenient = [head for head, config in self.tasks[name].heads.items() if config.unknown_labels == "wrong"]
        for split, examples in list(task.splits.items()):
            num_missing = check_labels(split, examples, task.heads, lenient=lenient)
            if num_missing is None:
                del task.splits[split]
            else:
                task.num_missing[split] = num_missing

    def _encode(
        self, name: str, task: _TaskData, tokenizer: Any, max_length: int, window_stride: int | None
    ) -> Iterator[tuple[str, EncodedSplit, np.ndarray]]:
        """Each split, encoded, and the hashes of its texts; the task is cached first, if there is a cache."""
        stride = stride_of(task.heads)
        tokenizers = {
            split: ExampleTokenizer(
                tokenizer, max_length, stride, window_stride=window_stride, as_predicted=split != "train"
            )
            for split in task.splits
        }
        cached = task.cached or self._write_to_cache(name, task, tokenizers)
        for split, examples in task.splits.items():
            if cached is None:
                encoded = encode_examples(
                    examples, task.heads, tokenizer,
                    max_length=max_length, window_stride=window_stride, as_predicted=split != "train",
                )  # fmt: skip
                yield split, InMemorySplit(encoded), storage.hashes_of(examples)
                continue
            stored = StoredSplit(cached.folders[split], task.heads, keeps_offsets=stride is not None)
            # Training reads each entry in every epoch, which costs less from memory than from disk.
            is_small = len(stored) <= storage.NUM_IN_MEMORY
            loaded = tracked(stored, f"loading {name} {split}", total=len(stored)) if is_small else ()
            yield split, InMemorySplit(list(loaded)) if is_small else stored, stored.text_hashes()

    def _write_to_cache(
        self, name: str, task: _TaskData, tokenizers: Mapping[str, ExampleTokenizer]
    ) -> CachedTask | None:
        """Tokenize the task into the cache; None where there is none that can be written, and it fits in memory."""
        caches = [] if self.cache is None or task.key is None else [self.cache]
        if self.reader.is_on_disk(name):
            caches.append(Cache(temporary_folder(None)))
        notes = {
            "labels": {
                head: {"names": list(labels.names), "counts": list(labels.counts)}
                for head, labels in task.own_labels.items()
            },
            "known": {head_name: list(head.labels.names) for head_name, head in task.heads.items()},
            "num_missing": task.num_missing,
            "warnings": task.warnings,
        }
        for cache in caches:
            chunks = {
                split: self._tokenize(f"{name} {split}", examples, tokenizers[split])
                for split, examples in task.splits.items()
            }
            if (cached := cache.write(task.key or name, chunks, notes)) is not None:
                return cached
        return None

    def _tokenize(self, description: str, examples: Sequence[Example], tokenize: ExampleTokenizer) -> Iterator[Chunk]:
        chunks = tokenize_in_chunks(examples, tokenize, num_processes=self.num_processes)
        num_examples = len(examples)
        return tracked(chunks, f"encoding {description}", total=num_examples, size_of=lambda one: len(one.examples))


def _report(name: str, split: str, task: _TaskData, encoded: EncodedSplit) -> SplitReport:
    return SplitReport(
        task=name,
        split=split,
        num_examples=len(task.splits[split]),
        num_tokens=sum(encoded.lengths()),
        num_cut=encoded.num_truncated(),
        num_missing={head: count for head, count in task.num_missing[split].items() if count},
        was_cut_from_train=not task.has_file[split],
    )


@contextmanager
def _recording_warnings(messages: list[str]) -> Iterator[None]:
    """Append the package's log warnings to `messages`, until the context ends."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger("multitask_bert"), Handler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)

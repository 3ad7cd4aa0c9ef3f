"""DataProcessor: from task configs to encoded datasets (steps 1 and 2 of the flow), and a report of what was found.

Reads and checks the files, cuts missing splits from train, builds label sets from train, and encodes.
"""

from __future__ import annotations

import itertools
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multitask_bert.config import InputError, TaskConfig
from multitask_bert.data import readers
from multitask_bert.data.batching import TaskDataset, lengths_of
from multitask_bert.data.caching import Cache, Kept, fingerprint_of, key_of, temporary_folder
from multitask_bert.data.downloads import locate
from multitask_bert.data.encoding import Cutter, encode_examples, stride_of
from multitask_bert.data.splitting import cut, stratum_of, text_key
from multitask_bert.data.storage import Block, StoredExamples, StoredWindows, spool
from multitask_bert.data.workers import pack_all
from multitask_bert.heads import HEAD_TYPES, Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample, Example
from multitask_bert.utils.progress import tracked

log = logging.getLogger(__name__)

SPLITS = ("train", "dev", "test")
FEWEST_KNOWN = 10  # labels of a head in dev; with fewer, its score is told to say little
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
    kept: Kept | None = None  # where the cache has it; None: nowhere yet
    heads: dict[str, Head] = field(default_factory=dict)
    num_missing: dict[str, dict[str, int]] = field(default_factory=dict)  # labels, by split and head
    warnings: list[str] = field(default_factory=list)  # what was to be said of the data, kept with it


class DataProcessor:
    """Reads and encodes the tasks of a run.

    `known_heads`, by task: the heads of a saved model, whose labels then decide what may occur; None: labels come
    from train. `cache`: where encoded data is kept and found again; None: nowhere. `num_processes`: see
    `BatchingConfig.encoding_processes`.

    A split of more than `NUM_IN_MEMORY` examples goes to disk as it is read and is read from there, again and again, so
    that memory does not grow with it.
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
    ) -> None:
        self.tasks, self.data_root, self.seed, self.known_heads = tasks, data_root, seed, known_heads
        self.cache, self.num_processes = cache, num_processes
        self._spools: list[Path] = []  # folders of examples that were too many for memory

    def process(self, tokenizer: Any, *, max_length: int) -> ProcessedData:
        """Everything, for all tasks.

        Raises:
            InputError: bad input, with file and line, or the field, and the way out.
        """
        try:
            return self._process(tokenizer, max_length)
        finally:
            for folder in self._spools:  # what is encoded has its examples beside it
                shutil.rmtree(folder, ignore_errors=True)
            self._spools.clear()

    def _process(self, tokenizer: Any, max_length: int) -> ProcessedData:
        data = ProcessedData()
        fingerprint = None if self.cache is None else fingerprint_of(tokenizer)
        opened = {name: self._open(name, fingerprint, max_length) for name in self.tasks}
        for name, task in opened.items():
            with _naming(name), _remembering(task.warnings):
                self._find_heads(name, task)
                self._check_labels(name, task)
            data.heads[name] = task.heads
        for name, task in opened.items():  # all tasks were read and checked before any is encoded
            for split, encoded in self._encode(name, task, tokenizer, max_length):
                getattr(data, split)[name] = TaskDataset(encoded)
                data.reports.append(self._report(name, split, task, encoded))
        return data

    def _open(self, name: str, fingerprint: str | None, max_length: int) -> _OpenTask:
        """The task's examples, from the cache where they are kept, else from its files."""
        task = _OpenTask()
        with _naming(name):
            paths = self._locate(name)
            if fingerprint is not None and self.cache is not None and self.tasks[name].source.format != "samples":
                key = key_of(name, self.tasks[name], paths, fingerprint, max_length=max_length, seed=self.seed)
                task.key, task.kept = key, None if key is None else self.cache.open(key)
        if task.kept is None:
            with _remembering(task.warnings):
                task.splits = self._read(name, paths)
        else:
            assert self.cache is not None
            place = self.cache.folder / str(task.key)
            log.info("task %s: found encoded in %s; its files are not read again", name, place)
            for warning in task.kept.notes["warnings"]:
                log.warning("%s", warning)
            task.splits = {split: StoredExamples(folder) for split, folder in task.kept.folders.items()}
        return task

    def _encode(
        self, name: str, task: _OpenTask, tokenizer: Any, max_length: int
    ) -> Iterator[tuple[str, Sequence[EncodedExample]]]:
        """Each split, encoded; what was not in the cache goes there first."""
        stride = stride_of(task.heads)
        kept = task.kept or self._keep(name, task, Cutter(tokenizer, max_length, stride))
        for split, examples in task.splits.items():
            if kept is None:
                yield split, encode_examples(examples, task.heads, tokenizer, max_length=max_length)
            else:
                stored = StoredWindows(kept.folders[split], task.heads, keeps_offsets=stride is not None)
                yield split, list(stored) if len(stored) <= NUM_IN_MEMORY else stored

    def _keep(self, name: str, task: _OpenTask, cut: Cutter) -> Kept | None:
        """Encode it into the cache; None where there is none, or none that can be written: it has to fit in memory."""
        caches = [] if self.cache is None or task.key is None else [self.cache]
        if any(isinstance(examples, StoredExamples) for examples in task.splits.values()):
            caches.append(Cache(temporary_folder(None)))  # too big for memory: on disk all the same
        notes = {"labels": _noted(task.heads), "num_missing": task.num_missing, "warnings": task.warnings}
        for cache in caches:
            blocks = {split: self._pack(f"{name} {split}", examples, cut) for split, examples in task.splits.items()}
            kept = cache.fill(task.key or name, blocks, notes)
            if kept is not None:
                return kept
        return None

    def _pack(self, what: str, examples: Sequence[Example], cut: Cutter) -> Iterator[Block]:
        blocks = pack_all(examples, cut, num_processes=self.num_processes)
        return tracked(blocks, f"encoding {what}", total=len(examples), size_of=lambda block: len(block.examples))

    def read(self, name: str) -> dict[str, Sequence[Example]]:
        """The examples of a task by split, checked for form; missing splits are cut from train."""
        with _naming(name):
            paths = self._locate(name)
        return self._read(name, paths)

    def _read(self, name: str, paths: Mapping[str, Path | None]) -> dict[str, Sequence[Example]]:
        with _naming(name):
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

    def _read_files(self, name: str, paths: Mapping[str, Path | None]) -> dict[str, Sequence[Example]]:
        task = self.tasks[name]
        source = task.source
        if source.format == "samples":
            return {split: list(readers.read_samples(split, source, task.heads)) for split in SPLITS}
        read = readers.READERS[source.format]
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
        first = list(itertools.islice(examples, NUM_IN_MEMORY + 1))
        if len(first) <= NUM_IN_MEMORY:
            return first
        folder = temporary_folder(None if self.cache is None else self.cache.folder)
        self._spools.append(folder)
        try:
            return spool(folder / "examples", itertools.chain(first, examples))
        except OSError as error:
            raise InputError(
                f"{folder}: the examples, too many for memory, cannot be written there ({error.strerror}); make room, "
                f"or set MULTITASK_BERT_CACHE to a folder that has some"
            ) from error

    def _find_heads(self, name: str, task: _OpenTask) -> None:
        if self.known_heads is not None:
            if set(self.known_heads.get(name, ())) != set(self.tasks[name].heads):
                raise InputError("the saved model has no heads of these names: it and the config are of different runs")
            task.heads = dict(self.known_heads[name])
            return
        for head_name, config in self.tasks[name].heads.items():
            if task.kept is not None:
                labels = LabelSet(**{k: tuple(v) for k, v in task.kept.notes["labels"][head_name].items()})
            else:
                values = (example.labels[head_name] for example in task.splits["train"])
                labels = HEAD_TYPES[config.type].collect(config, values)
            if len(labels) < HEAD_TYPES[config.type].fewest_labels:
                found = f"the training data has only {', '.join(labels.names)}"
                raise InputError(
                    f"heads.{head_name}: {found if labels.names else 'no training example has a label'}; "
                    f"there is nothing to learn. Is `column` the right one?"
                )
            task.heads[head_name] = make_head(config, labels)

    def _check_labels(self, name: str, task: _OpenTask) -> None:
        """Every label is one that the head knows, and there are some; a test set without labels is left out.

        Shared tasks often hold back the labels of the test set.
        """
        kept_names = {} if task.kept is None else {n: noted["names"] for n, noted in task.kept.notes["labels"].items()}
        if task.kept is not None and kept_names == {n: list(head.labels.names) for n, head in task.heads.items()}:
            task.num_missing = dict(task.kept.notes["num_missing"])  # it was checked when it was put there
            return
        for split, examples in list(task.splits.items()):
            missing = task.num_missing[split] = dict.fromkeys(task.heads, 0)
            for example in examples:
                for head_name, head in task.heads.items():
                    label = example.labels[head_name]
                    head.check_label(label, example)
                    missing[head_name] += label is None
            unlabelled = [head_name for head_name, count in missing.items() if count == len(examples)]
            if split == "test" and len(unlabelled) == len(task.heads):
                log.warning("%s: no test example has a label; the test set is left out", examples[0].where)
                del task.splits["test"]
            for head_name, count in missing.items():
                if split == "dev" and 0 < len(examples) - count < FEWEST_KNOWN:
                    log.warning(
                        "%s: only %d dev example(s) have a label for heads.%s: its score there says little",
                        examples[0].where, len(examples) - count, head_name,
                    )  # fmt: skip
            if split != "test" and unlabelled:
                what = "learnt" if split == "train" else "scored"
                or_cut = "" if split == "train" else ", or null to cut dev from train"
                raise InputError(
                    f"{examples[0].where}: no {split} example has a label for heads.{unlabelled[0]}, so nothing can be "
                    f"{what}; name another file in source.{split}{or_cut}"
                )

    def _report(self, name: str, split: str, task: _OpenTask, encoded: Sequence[EncodedExample]) -> SplitReport:
        source = self.tasks[name].source
        return SplitReport(
            task=name,
            split=split,
            num_examples=len(task.splits[split]),
            num_tokens=sum(lengths_of(TaskDataset(encoded))),
            num_cut=encoded.num_cut if isinstance(encoded, StoredWindows) else sum(one.is_cut for one in encoded),
            num_missing={head: count for head, count in task.num_missing[split].items() if count},
            was_cut_from_train=source.format != "samples" and getattr(source, split) is None,
        )


def _noted(heads: Mapping[str, Head]) -> dict[str, Any]:
    """The label sets as the cache's notes have them."""
    return {
        name: {"names": list(head.labels.names), "counts": list(head.labels.counts)} for name, head in heads.items()
    }


def _what_there_is(examples: Sequence[Example]) -> str:
    """As in `3 examples have 2 different texts and 3 kinds of label`."""
    texts = {text_key(example) for example in examples}
    kinds = {stratum_of(example) for example in examples}
    return f"{len(examples):,} example(s) have {len(texts):,} different text(s) and {len(kinds):,} kind(s) of label"


@contextmanager
def _remembering(messages: list[str]) -> Iterator[None]:
    """Put what is warned of meanwhile into `messages`, too."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger("multitask_bert"), Handler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _naming(task: str) -> Iterator[None]:
    """Put the task's name before the text of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"task {task}: {error}") from error

"""DataProcessor: from task configs to encoded datasets (steps 1 and 2 of the flow), and a report of what was found.

Has the files read (reading.py), builds label sets from train, checks the labels, encodes, and keeps what is encoded.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from multitask_bert.config.schema import HeadConfig, TaskConfig
from multitask_bert.data import storage
from multitask_bert.data.batching import TaskDataset, lengths_of
from multitask_bert.data.caching import Cache, Kept, fingerprint_of, key_of, temporary_folder
from multitask_bert.data.encoding import Cutter, encode_examples, stride_of
from multitask_bert.data.reading import SPLITS, TaskReader, naming
from multitask_bert.data.storage import Chunk, StoredExamples, StoredWindows
from multitask_bert.data.words import num_out_of_reach
from multitask_bert.data.workers import pack_all
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, UnknownLabelError, head_type, make_head
from multitask_bert.labels import LabelSet, alike
from multitask_bert.records import EncodedExample, Example
from multitask_bert.utils.progress import tracked

log = logging.getLogger(__name__)

NUM_SHOWN = 10  # labels that are named, of those that are unknown or alike
FEWEST_KNOWN = 10  # labels of a head in dev; with fewer, its score is told to say little


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
    text_hashes: dict[str, dict[str, np.ndarray]] = field(  # by split and task, of each example: see text_keys.py
        default_factory=lambda: {split: {} for split in SPLITS}
    )


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

    A split of more than `storage.NUM_IN_MEMORY` examples goes to disk as it is read and is read from there, again and
    again, so that memory does not grow with it.
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
        self.seed, self.known_heads = seed, known_heads
        self.cache, self.num_processes = cache, num_processes
        folder = None if cache is None else cache.folder
        self.reader = TaskReader(tasks, data_root=data_root, seed=seed, folder=folder)
        self.tasks = self.reader.tasks

    def process(self, tokenizer: Any, *, max_length: int) -> ProcessedData:
        """Everything, for all tasks.

        Raises:
            InputError: bad input, with file and line, or the field, and the way out.
        """
        try:
            return self._process(tokenizer, max_length)
        finally:
            self.reader.clear()  # what is encoded has its examples beside it

    def _process(self, tokenizer: Any, max_length: int) -> ProcessedData:
        data = ProcessedData()
        fingerprint = None if self.cache is None else fingerprint_of(tokenizer)
        opened = {name: self._open(name, fingerprint, max_length) for name in self.tasks}
        for name, task in opened.items():
            with naming(name), _remembering(task.warnings):
                self._find_heads(name, task)
                self._check_labels(name, task)
            data.heads[name] = task.heads
        for name, task in opened.items():  # all tasks were read and checked before any is encoded
            for split, encoded, hashes in self._encode(name, task, tokenizer, max_length):
                getattr(data, split)[name] = TaskDataset(encoded)
                data.text_hashes[split][name] = hashes
                data.reports.append(self._report(name, split, task, encoded))
        return data

    def _open(self, name: str, fingerprint: str | None, max_length: int) -> _OpenTask:
        """The task's examples, from the cache where they are kept, else from its files."""
        task = _OpenTask()
        paths = self.reader.locate(name)
        if fingerprint is not None and self.cache is not None and self.tasks[name].source.format != "samples":
            with naming(name):
                key = key_of(name, self.tasks[name], paths, fingerprint, max_length=max_length, seed=self.seed)
            task.key, task.kept = key, None if key is None else self.cache.open(key)
        if task.kept is None:
            with _remembering(task.warnings):
                task.splits = self.reader.read(name, paths)
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
    ) -> Iterator[tuple[str, Sequence[EncodedExample], np.ndarray]]:
        """Each split, encoded, and the hashes of its texts; what was not in the cache goes there first."""
        stride = stride_of(task.heads)
        cutters = {split: Cutter(tokenizer, max_length, stride, as_predicted=split != "train") for split in task.splits}
        kept = task.kept or self._keep(name, task, cutters)
        for split, examples in task.splits.items():
            if kept is None:
                encoded = encode_examples(
                    examples, task.heads, tokenizer, max_length=max_length, as_predicted=split != "train"
                )
                yield split, encoded, storage.hashes_of(examples)
            else:
                stored = StoredWindows(kept.folders[split], task.heads, keeps_offsets=stride is not None)
                # Training takes each of them in every epoch, which costs less from memory than from disk.
                is_small = len(stored) <= storage.NUM_IN_MEMORY
                held = list(tracked(stored, f"loading {name} {split}", total=len(stored))) if is_small else stored
                yield split, held, stored.text_hashes()

    def _keep(self, name: str, task: _OpenTask, cutters: Mapping[str, Cutter]) -> Kept | None:
        """Encode it into the cache; None where there is none, or none that can be written: it has to fit in memory."""
        caches = [] if self.cache is None or task.key is None else [self.cache]
        if any(isinstance(examples, StoredExamples) for examples in task.splits.values()):
            caches.append(Cache(temporary_folder(None)))  # too big for memory: on disk all the same
        notes = {"labels": _noted(task.heads), "num_missing": task.num_missing, "warnings": task.warnings}
        for cache in caches:
            chunks = {
                split: self._pack(f"{name} {split}", examples, cutters[split])
                for split, examples in task.splits.items()
            }
            kept = cache.fill(task.key or name, chunks, notes)
            if kept is not None:
                return kept
        return None

    def _pack(self, what: str, examples: Sequence[Example], cut: Cutter) -> Iterator[Chunk]:
        chunks = pack_all(examples, cut, num_processes=self.num_processes)
        return tracked(chunks, f"encoding {what}", total=len(examples), size_of=lambda chunk: len(chunk.examples))

    def read(self, name: str) -> dict[str, Sequence[Example]]:
        """The examples of a task by split, checked for form; missing splits are cut from train."""
        return self.reader.read(name, self.reader.locate(name))

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
                labels = head_type(config.type).collect(config, values)
            if len(labels) < head_type(config.type).fewest_labels:
                found = f"the training data has only {', '.join(labels.names)}"
                raise InputError(
                    f"heads.{head_name}: {found if labels.names else 'no training example has a label'}; "
                    f"there is nothing to learn. Is `column` the right one?"
                )
            task.heads[head_name] = make_head(config, labels)
            if task.kept is None and config.labels is None:  # what was kept has the warning with it
                _look_for_spellings(head_name, task.heads[head_name])

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
            out_of_reach: Counter[str] = Counter()
            num_entities: Counter[str] = Counter()
            unknown = _UnknownLabels(split, self.tasks[name].heads)
            for example in examples:
                if split != "train" and example.spans is not None:
                    out_of_reach.update(num_out_of_reach(example))
                    num_entities.update({head: len(spans) for head, spans in example.spans.items()})
                for head_name, head in task.heads.items():
                    label = head.spelled(example.labels[head_name])
                    with unknown.caught(head_name, label):
                        head.check_label(label, example)
                    missing[head_name] += label is None
            for head_name in sorted(+out_of_reach):
                log.warning(
                    "%s: %d of %d %s entities of heads.%s begin or end where no word does (inside one, or at white "
                    "space): no prediction finds them, and they count as missed",
                    examples[0].where, out_of_reach[head_name], num_entities[head_name], split, head_name,
                )  # fmt: skip
            unknown.close(examples, missing)
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


class _UnknownLabels:
    """The labels of a split that its heads do not know: refused together, or (`unknown_labels: wrong`) counted."""

    def __init__(self, split: str, heads: Mapping[str, HeadConfig]) -> None:
        self.split = split
        self.counts: dict[str, Counter[str]] = {  # by head whose unknown labels count as wrong
            name: Counter() for name, head in heads.items() if head.unknown_labels == "wrong" and split != "train"
        }
        self.num_lost: Counter[str] = Counter()  # examples of which a head then knows nothing at all
        self.first: dict[tuple[str, str], InputError] = {}  # of the others, by head and label
        self.refused: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def caught(self, head: str, value: Any) -> Iterator[None]:
        try:
            yield
        except UnknownLabelError as error:
            if head in self.counts:
                self.counts[head][error.label] += 1
                self.num_lost[head] += isinstance(value, str)  # not one of several labels, or of a sentence's tags
            else:
                self.first.setdefault((head, error.label), error)
                self.refused[head, error.label] += 1

    def close(self, examples: Sequence[Example], num_missing: Mapping[str, int]) -> None:
        """After the last example; `num_missing`: labels by head.

        Raises:
            InputError: labels are unknown and do not count as wrong, or no label of a head is known.
        """
        if self.first:
            lines = [
                f"{error} ({self.refused[key]} examples)" if self.refused[key] > 1 else str(error)
                for key, error in list(self.first.items())[:NUM_SHOWN]
            ]
            if len(self.first) > NUM_SHOWN:
                lines.append(f"and {len(self.first) - NUM_SHOWN} more labels")
            raise InputError("\n".join(lines))
        for head, counts in self.counts.items():
            if not counts:
                continue
            shown = ", ".join(f"{label} ({number})" for label, number in counts.most_common(NUM_SHOWN))
            if self.num_lost[head] == len(examples) - num_missing[head]:
                raise InputError(
                    f"{examples[0].where}: heads.{head} knows none of the labels that {self.split} has ({shown}), so "
                    f"nothing can be scored; see whether `column` and source.{self.split} are the right ones"
                )
            log.warning(
                "%s: %d %s example(s) have a label that heads.%s does not know, which counts as wrong: %s",
                examples[0].where, counts.total(), self.split, head, shown,
            )  # fmt: skip


def _look_for_spellings(head_name: str, head: Head) -> None:
    """Warn of labels that are probably one label in two spellings."""
    pairs = list(alike(head.names_shown))
    for one, other in pairs[:NUM_SHOWN]:
        log.warning(
            "heads.%s: the labels %r and %r differ only in how they are written, and are two labels; if one is meant, "
            "write it in one way", head_name, one, other,
        )  # fmt: skip
    if len(pairs) > NUM_SHOWN:
        log.warning("heads.%s: and %d more such pairs of labels", head_name, len(pairs) - NUM_SHOWN)


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

"""Encoded splits on disk: a folder per split, of which single entries are read, so that memory does not grow with it.

    examples.jsonl    an `Example` per line
    <field>.npy       the numbers of all entries (fields of `Tokens`), concatenated
    <field>_ends.npy  where each entry's numbers end
    text_hashes.npy   of each example's text, to find equal texts in several splits and tasks

Nothing here depends on the heads' labels: targets are made when an entry is read.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from multitask_bert.data.encoding import TokenizedExample, with_targets
from multitask_bert.data.splits import EncodedSplit
from multitask_bert.data.text_keys import text_hash
from multitask_bert.heads import Head
from multitask_bert.records import EncodedExample, Example, Tokens

EXAMPLE_FIELDS = tuple(field.name for field in fields(Example))
DTYPES: Mapping[str, Any] = {  # of the fields of `Tokens` that are numbers
    "input_ids": np.int32, "token_type_ids": np.uint8, "offsets": np.int32, "is_second_text": np.bool_,
    "word_starts": np.int32, "sequence_starts": np.int32,
}  # fmt: skip
EXAMPLES, EXAMPLE_ENDS, EXAMPLE_OF = "examples.jsonl", "example_ends.npy", "example_of.npy"
IS_TRUNCATED, HAS_SECOND, TEXT_HASHES = "is_truncated.npy", "has_second.npy", "text_hashes.npy"
NUM_BUFFERED = 1000  # examples that are written at a time
NUM_IN_MEMORY = 100_000  # examples of a split; a larger split stays on disk, and each of its examples is read when used


class Chunk(NamedTuple):
    """The entries of some examples, concatenated, as they go to disk."""

    examples: list[bytes]  # a line of JSON each
    text_hashes: np.ndarray  # of each example
    num_entries: np.ndarray  # of each example
    columns: dict[str, np.ndarray]  # by field of `Tokens`: the numbers of all entries
    lengths: dict[str, np.ndarray]  # by field: how many numbers each entry has
    is_truncated: np.ndarray
    has_second: np.ndarray


def make_chunk(tokenized: Sequence[TokenizedExample]) -> Chunk:
    """The windows of an example must follow one another."""
    examples: list[Example] = []
    num_entries: list[int] = []
    for entry in tokenized:
        if not examples or entry.example is not examples[-1]:
            examples.append(entry.example)
            num_entries.append(0)
        num_entries[-1] += 1
    columns, lengths = {}, {}
    for name, dtype in DTYPES.items():
        rows = [getattr(entry.tokens, name) for entry in tokenized]
        if name == "offsets":
            rows = [tuple(itertools.chain.from_iterable(row)) for row in rows]
        columns[name] = np.fromiter(itertools.chain.from_iterable(rows), dtype=dtype)
        lengths[name] = np.fromiter(map(len, rows), dtype=np.int64)
    return Chunk(
        examples=[as_line(example) for example in examples],
        text_hashes=hashes_of(examples),
        num_entries=np.asarray(num_entries),
        columns=columns,
        lengths=lengths,
        is_truncated=np.asarray([entry.is_truncated for entry in tokenized], dtype=np.bool_),
        has_second=np.asarray([entry.tokens.second_text is not None for entry in tokenized], dtype=np.bool_),
    )


def write_split(folder: Path, chunks: Iterable[Chunk]) -> None:
    """Write a split, chunk by chunk, into a new folder."""
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(_ExampleWriter(folder))
        columns = {name: stack.enter_context(_Column(folder / f"{name}.npy", dtype)) for name, dtype in DTYPES.items()}
        ends = {name: stack.enter_context(_Column(folder / f"{name}_ends.npy", np.int64)) for name in DTYPES}
        example_of = stack.enter_context(_Column(folder / EXAMPLE_OF, np.int64))
        is_truncated = stack.enter_context(_Column(folder / IS_TRUNCATED, np.bool_))
        has_second = stack.enter_context(_Column(folder / HAS_SECOND, np.bool_))
        text_hashes = stack.enter_context(_Column(folder / TEXT_HASHES, np.int64))
        for chunk in chunks:
            example_of.add(writer.num_examples + np.repeat(np.arange(len(chunk.examples)), chunk.num_entries))
            writer.add(chunk.examples)
            for name, column in columns.items():
                ends[name].add(column.num_items + np.cumsum(chunk.lengths[name]))
                column.add(chunk.columns[name])
            is_truncated.add(chunk.is_truncated)
            has_second.add(chunk.has_second)
            text_hashes.add(chunk.text_hashes)


def hashes_of(examples: Sequence[Example]) -> np.ndarray:
    """`text_hash` of each."""
    return np.fromiter(map(text_hash, examples), dtype=np.int64, count=len(examples))


def spool(folder: Path, examples: Iterable[Example]) -> StoredExamples:
    """Write examples that are too many for memory, to be read from there."""
    with _ExampleWriter(folder) as writer:
        lines = map(as_line, examples)
        while chunk := list(itertools.islice(lines, NUM_BUFFERED)):
            writer.add(chunk)
    return StoredExamples(folder)


class _ExampleWriter(contextlib.AbstractContextManager["_ExampleWriter"]):
    """Writes `examples.jsonl`, and where each of its lines ends."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._file = (folder / EXAMPLES).open("wb")
        self._ends = _Column(folder / EXAMPLE_ENDS, np.int64)

    @property
    def num_examples(self) -> int:
        return self._ends.num_items

    def add(self, lines: Sequence[bytes]) -> None:
        self._ends.add(self._file.tell() + np.cumsum([len(line) for line in lines]))
        self._file.write(b"".join(lines))

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._ends.close()


class StoredExamples(Sequence[Example]):
    """The examples of a stored split, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bytes = np.memmap(folder / EXAMPLES, dtype=np.uint8, mode="r").view(np.ndarray)
        self._ends = _load(folder / EXAMPLE_ENDS)
        self._last: tuple[int, Example] | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = _checked_index(index, len(self))
        # Windows of one example share the object: `group_windows` relies on it.
        if self._last is None or self._last[0] != index:
            begin = 0 if index == 0 else int(self._ends[index - 1])
            self._last = index, _from_json(self._bytes[begin : int(self._ends[index])].tobytes())
        return self._last[1]

    def __reduce__(self) -> Any:
        return StoredExamples, (self.folder,)  # a worker process receives the path, not the data


class StoredSplit(EncodedSplit):
    """A split in a folder, each entry read, and its targets made, when it is asked for."""

    def __init__(self, folder: Path, heads: Mapping[str, Head], *, keeps_offsets: bool) -> None:
        self.folder, self.heads, self.keeps_offsets = folder, heads, keeps_offsets
        self._examples = StoredExamples(folder)
        self._columns = {name: _load(folder / f"{name}.npy") for name in DTYPES}
        self._ends = {name: _load(folder / f"{name}_ends.npy") for name in DTYPES}
        self._example_of, self._is_truncated = _load(folder / EXAMPLE_OF), _load(folder / IS_TRUNCATED)
        self._has_second = _load(folder / HAS_SECOND)

    def __len__(self) -> int:
        return len(self._example_of)

    def __getitem__(self, index: int) -> EncodedExample:
        index = _checked_index(index, len(self))
        example: Example = self._examples[int(self._example_of[index])]
        numbers = {name: self._numbers(name, index) for name in DTYPES}
        offsets = numbers.pop("offsets")
        tokens = Tokens(
            **{name: tuple(values) for name, values in numbers.items()},
            offsets=tuple(zip(offsets[::2], offsets[1::2], strict=True)),
            second_text=example.text_pair if self._has_second[index] else None,
        )
        tokenized = TokenizedExample(example, tokens, bool(self._is_truncated[index]))
        return with_targets(tokenized, self.heads, keeps_offsets=self.keeps_offsets)

    def examples(self) -> StoredExamples:
        return self._examples

    def lengths(self) -> list[int]:
        lengths: list[int] = np.diff(self._ends["input_ids"], prepend=0).tolist()
        return lengths

    def used_ids(self) -> np.ndarray:
        column, size = self._columns["input_ids"], 2**24
        parts = [np.unique(column[start : start + size]) for start in range(0, len(column), size)]
        return np.unique(np.concatenate(parts)).astype(np.int64)

    def num_truncated(self) -> int:
        return int(self._is_truncated.sum())

    def text_hashes(self) -> np.ndarray:
        """`text_hash` of each example."""
        return _load(self.folder / TEXT_HASHES)

    def _numbers(self, name: str, index: int) -> list[Any]:
        ends = self._ends[name]
        numbers: list[Any] = self._columns[name][0 if index == 0 else int(ends[index - 1]) : int(ends[index])].tolist()
        return numbers

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "heads": self.heads, "keeps_offsets": self.keeps_offsets}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class _Column(contextlib.AbstractContextManager["_Column"]):
    """A one-dimensional `.npy` file that grows: its header leaves room for the length, which is written at the end."""

    def __init__(self, path: Path, dtype: Any) -> None:
        self.dtype, self.num_items = np.dtype(dtype), 0
        self._file: BinaryIO = path.open("wb")
        self._write_header()

    def add(self, numbers: np.ndarray) -> None:
        self.num_items += len(numbers)
        self._file.write(np.asarray(numbers, dtype=self.dtype).tobytes())

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_header(self) -> None:
        described = np.lib.format.dtype_to_descr(self.dtype)
        header = {"descr": described, "fortran_order": False, "shape": (self.num_items,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def _load(path: Path) -> np.ndarray:
    """A view of the file: what is not read takes no memory."""
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array.view(np.ndarray)  # a slice of it costs a fifth of that of a `memmap`


def _checked_index(index: Any, length: int) -> int:
    """The index counted from 0, where it may count from the end."""
    if not -length <= int(index) < length:
        raise IndexError(f"{index} of {length}")
    return int(index) % length


def as_line(example: Example) -> bytes:
    """An example as one line of JSON."""
    return (json.dumps([getattr(example, name) for name in EXAMPLE_FIELDS]) + "\n").encode()


def _from_json(line: bytes) -> Example:
    values: Iterator[Any] = map(_with_tuples, json.loads(line))
    return Example(**dict(zip(EXAMPLE_FIELDS, values, strict=True)))


def _with_tuples(value: Any) -> Any:
    """JSON has no tuples; an example has no lists."""
    if isinstance(value, list):
        return tuple(item if type(item) is str else _with_tuples(item) for item in value)  # words and tags: most of all
    return {key: _with_tuples(item) for key, item in value.items()} if isinstance(value, dict) else value

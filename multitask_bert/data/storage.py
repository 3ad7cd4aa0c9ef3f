"""Encoded data on disk: one folder per split, read from there piece by piece, so that memory does not grow with it.

    examples.jsonl    an `Example` per line
    <field>.npy       the numbers of all windows (`Pieces`), one after the other
    <field>_ends.npy  where each window's numbers end
    text_hashes.npy   of each example's text, by which the same texts are found in several splits and tasks

Nothing here depends on the heads' labels: targets are made when a window is read.
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

from multitask_bert.data.encoding import Window, with_targets
from multitask_bert.data.text_keys import text_hash
from multitask_bert.heads import Head
from multitask_bert.records import EncodedExample, Example, Pieces

EXAMPLE_FIELDS = tuple(field.name for field in fields(Example))
KINDS: Mapping[str, Any] = {  # fields of Pieces that are numbers, each with the type that holds them
    "input_ids": np.int32, "token_type_ids": np.uint8, "offsets": np.int32, "is_second": np.bool_,
    "word_starts": np.int32, "sequence_starts": np.int32,
}  # fmt: skip
EXAMPLES, EXAMPLE_ENDS, EXAMPLE_OF, IS_CUT = "examples.jsonl", "example_ends.npy", "example_of.npy", "is_cut.npy"
HAS_SECOND, TEXT_HASHES = "has_second.npy", "text_hashes.npy"
NUM_BUFFERED = 1000  # examples that are written at a time
NUM_IN_MEMORY = 100_000  # examples of a split; where there are more, each is read from disk when its turn comes


class Chunk(NamedTuple):
    """Windows of some examples, one after the other, as they go to disk."""

    examples: list[bytes]  # a line of JSON each
    text_hashes: np.ndarray  # of each example
    num_windows: np.ndarray  # of each example
    columns: dict[str, np.ndarray]  # by field of Pieces: the numbers of all windows
    lengths: dict[str, np.ndarray]  # and how many belong to each window
    is_cut: np.ndarray
    has_second: np.ndarray


def pack(windows: Sequence[Window]) -> Chunk:
    """Windows of one example follow one another."""
    examples: list[Example] = []
    num_windows: list[int] = []
    for window in windows:
        if not examples or window.example is not examples[-1]:
            examples.append(window.example)
            num_windows.append(0)
        num_windows[-1] += 1
    columns, lengths = {}, {}
    for name, kind in KINDS.items():
        rows = [getattr(window.pieces, name) for window in windows]
        if name == "offsets":
            rows = [tuple(itertools.chain.from_iterable(row)) for row in rows]
        columns[name] = np.fromiter(itertools.chain.from_iterable(rows), dtype=kind)
        lengths[name] = np.fromiter(map(len, rows), dtype=np.int64)
    return Chunk(
        examples=[as_line(example) for example in examples],
        text_hashes=hashes_of(examples),
        num_windows=np.asarray(num_windows),
        columns=columns,
        lengths=lengths,
        is_cut=np.asarray([window.is_cut for window in windows], dtype=np.bool_),
        has_second=np.asarray([window.pieces.second_text is not None for window in windows], dtype=np.bool_),
    )


def store(folder: Path, chunks: Iterable[Chunk]) -> None:
    """Write a split."""
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(_ExampleWriter(folder))
        columns = {name: stack.enter_context(_Column(folder / f"{name}.npy", kind)) for name, kind in KINDS.items()}
        ends = {name: stack.enter_context(_Column(folder / f"{name}_ends.npy", np.int64)) for name in KINDS}
        example_of = stack.enter_context(_Column(folder / EXAMPLE_OF, np.int64))
        is_cut = stack.enter_context(_Column(folder / IS_CUT, np.bool_))
        has_second = stack.enter_context(_Column(folder / HAS_SECOND, np.bool_))
        text_hashes = stack.enter_context(_Column(folder / TEXT_HASHES, np.int64))
        for chunk in chunks:
            example_of.add(writer.num_examples + np.repeat(np.arange(len(chunk.examples)), chunk.num_windows))
            writer.add(chunk.examples)
            for name, column in columns.items():
                ends[name].add(column.num_items + np.cumsum(chunk.lengths[name]))
                column.add(chunk.columns[name])
            is_cut.add(chunk.is_cut)
            has_second.add(chunk.has_second)
            text_hashes.add(chunk.text_hashes)


def hashes_of(examples: Sequence[Example]) -> np.ndarray:
    """`text_hash` of each."""
    return np.fromiter(map(text_hash, examples), dtype=np.int64, count=len(examples))


def spool(folder: Path, examples: Iterable[Example]) -> StoredExamples:
    """Write examples that are too many for memory, and give them back from there."""
    with _ExampleWriter(folder) as writer:
        lines = map(as_line, examples)
        while chunk := list(itertools.islice(lines, NUM_BUFFERED)):
            writer.add(chunk)
    return StoredExamples(folder)


class _ExampleWriter(contextlib.AbstractContextManager["_ExampleWriter"]):
    """`examples.jsonl`, and where each line of it ends."""

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
    """The examples of a stored split, each made when it is asked for."""

    def __init__(self, folder: Path, chosen: np.ndarray | None = None) -> None:
        """`chosen`: the places of those that belong to it, in their order; None: all."""
        self.folder, self._chosen = folder, chosen
        self._bytes = np.memmap(folder / EXAMPLES, dtype=np.uint8, mode="r").view(np.ndarray)
        self._ends = _load(folder / EXAMPLE_ENDS)
        self._last: tuple[int, Example] | None = None

    def __len__(self) -> int:
        return len(self._ends if self._chosen is None else self._chosen)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = _within(index, len(self))
        if self._chosen is not None:
            index = int(self._chosen[index])
        # The same object again where the same is asked for again: windows of one example share it.
        if self._last is None or self._last[0] != index:
            begin = 0 if index == 0 else int(self._ends[index - 1])
            self._last = index, _from_json(self._bytes[begin : int(self._ends[index])].tobytes())
        return self._last[1]

    def take(self, places: Sequence[int]) -> StoredExamples:
        """Those at these places, still on disk."""
        chosen = np.asarray(places, dtype=np.int64)
        return StoredExamples(self.folder, chosen if self._chosen is None else self._chosen[chosen])

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "chosen": self._chosen}  # to a worker process: the place, not the data

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class StoredWindows(Sequence[EncodedExample]):
    """The encoded examples of a stored split, each made with its targets when it is asked for."""

    def __init__(self, folder: Path, heads: Mapping[str, Head], *, keeps_offsets: bool) -> None:
        self.folder, self.heads, self.keeps_offsets = folder, heads, keeps_offsets
        self.examples = StoredExamples(folder)
        self._columns = {name: _load(folder / f"{name}.npy") for name in KINDS}
        self._ends = {name: _load(folder / f"{name}_ends.npy") for name in KINDS}
        self._example_of, self._is_cut = _load(folder / EXAMPLE_OF), _load(folder / IS_CUT)
        self._has_second = _load(folder / HAS_SECOND)

    def __len__(self) -> int:
        return len(self._example_of)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = _within(index, len(self))
        example: Example = self.examples[int(self._example_of[index])]
        numbers = {name: self._numbers(name, index) for name in KINDS}
        offsets = numbers.pop("offsets")
        pieces = Pieces(
            **{name: tuple(values) for name, values in numbers.items()},
            offsets=tuple(zip(offsets[::2], offsets[1::2], strict=True)),
            second_text=example.text_pair if self._has_second[index] else None,
        )
        window = Window(example, pieces, bool(self._is_cut[index]))
        return with_targets(window, self.heads, keeps_offsets=self.keeps_offsets)

    @property
    def num_cut(self) -> int:
        """Windows of which some pieces did not fit."""
        return int(self._is_cut.sum())

    def lengths(self) -> list[int]:
        """Pieces of each window, without making them."""
        lengths: list[int] = np.diff(self._ends["input_ids"], prepend=0).tolist()
        return lengths

    def text_hashes(self) -> np.ndarray:
        """Of each example's text, without making it."""
        return _load(self.folder / TEXT_HASHES)

    def ids(self) -> np.ndarray:
        """The ids of all pieces that occur, each once, sorted."""
        column, size = self._columns["input_ids"], 2**24
        parts = [np.unique(column[start : start + size]) for start in range(0, len(column), size)]
        return np.unique(np.concatenate(parts)).astype(np.int64)

    def _numbers(self, name: str, index: int) -> list[Any]:
        ends = self._ends[name]
        numbers: list[Any] = self._columns[name][0 if index == 0 else int(ends[index - 1]) : int(ends[index])].tolist()
        return numbers

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "heads": self.heads, "keeps_offsets": self.keeps_offsets}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class _Column(contextlib.AbstractContextManager["_Column"]):
    """A one-dimensional `.npy` file that grows: its header has room for the length, which is written in the end."""

    def __init__(self, path: Path, kind: Any) -> None:
        self.kind, self.num_items = np.dtype(kind), 0
        self._file: BinaryIO = path.open("wb")
        self._write_header()

    def add(self, numbers: np.ndarray) -> None:
        self.num_items += len(numbers)
        self._file.write(np.asarray(numbers, dtype=self.kind).tobytes())

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_header(self) -> None:
        described = np.lib.format.dtype_to_descr(self.kind)
        header = {"descr": described, "fortran_order": False, "shape": (self.num_items,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def _load(path: Path) -> np.ndarray:
    """A view of the file: what is not read takes no memory."""
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array.view(np.ndarray)  # of which a slice costs a fifth of that of a `memmap`


def _within(index: Any, length: int) -> int:
    place = int(index)
    if not -length <= place < length:
        raise IndexError(f"{index} of {length}")
    return place % length


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

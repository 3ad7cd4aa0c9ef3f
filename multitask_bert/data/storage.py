"""Encoded data on disk: one folder per split, read from there piece by piece, so that memory does not grow with it.

    examples.jsonl    an `Example` per line
    <field>.npy       the numbers of all windows (`Pieces`), one after the other
    <field>_ends.npy  where each window's numbers end

Nothing here depends on the heads' labels: targets are made when a window is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from multitask_bert.data.encoding import Window, with_targets
from multitask_bert.heads import Head
from multitask_bert.records import EncodedExample, Example, Pieces

EXAMPLE_FIELDS = tuple(field.name for field in fields(Example))
KINDS: Mapping[str, Any] = {  # fields of Pieces that are numbers, each with the type that holds them
    "input_ids": np.int32, "token_type_ids": np.uint8, "offsets": np.int32, "is_second": np.bool_,
    "word_starts": np.int32, "sequence_starts": np.int32,
}  # fmt: skip
EXAMPLES, EXAMPLE_ENDS, EXAMPLE_OF, IS_CUT = "examples.jsonl", "example_ends.npy", "example_of.npy", "is_cut.npy"
NUM_BUFFERED = 1000  # windows that are written at a time


def store(folder: Path, windows: Iterable[Window]) -> None:
    """Write a split. Windows of one example follow one another."""
    folder.mkdir(parents=True)
    columns = {name: _Column(folder / f"{name}.npy", kind) for name, kind in KINDS.items()}
    ends = {name: _Column(folder / f"{name}_ends.npy", np.int64) for name in KINDS}
    example_of, is_cut = _Column(folder / EXAMPLE_OF, np.int64), _Column(folder / IS_CUT, np.bool_)
    has_second, example_ends = _Column(folder / "has_second.npy", np.bool_), _Column(folder / EXAMPLE_ENDS, np.int64)
    previous, number = None, -1
    with (folder / EXAMPLES).open("wb") as file:
        for window in windows:
            if window.example is not previous:
                previous, number = window.example, number + 1
                file.write(_to_json(window.example))
                example_ends.add([file.tell()])
            for name, column in columns.items():
                column.add(np.asarray(getattr(window.pieces, name)).ravel())
                ends[name].add([column.num_items])
            example_of.add([number])
            is_cut.add([window.is_cut])
            has_second.add([window.pieces.second_text is not None])
    for column in (*columns.values(), *ends.values(), example_of, is_cut, has_second, example_ends):
        column.close()


class StoredExamples(Sequence[Example]):
    """The examples of a stored split, each made when it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bytes = np.memmap(folder / EXAMPLES, dtype=np.uint8, mode="r")
        self._ends = _load(folder / EXAMPLE_ENDS)
        self._last: tuple[int, Example] | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        index = _within(index, len(self))
        # The same object again where the same is asked for again: windows of one example share it.
        if self._last is None or self._last[0] != index:
            begin = 0 if index == 0 else int(self._ends[index - 1])
            self._last = index, _from_json(self._bytes[begin : int(self._ends[index])].tobytes())
        return self._last[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}  # to a worker process: the place, not the data

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
        self._has_second = _load(folder / "has_second.npy")

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

    def _numbers(self, name: str, index: int) -> list[Any]:
        ends = self._ends[name]
        numbers: list[Any] = self._columns[name][0 if index == 0 else int(ends[index - 1]) : int(ends[index])].tolist()
        return numbers

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "heads": self.heads, "keeps_offsets": self.keeps_offsets}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]


class _Column:
    """A one-dimensional `.npy` file that grows: its header has room for the length, which is written in the end."""

    def __init__(self, path: Path, kind: Any) -> None:
        self.kind, self.num_items = np.dtype(kind), 0
        self._file: BinaryIO = path.open("wb")
        self._buffer: list[Any] = []
        self._write_header()

    def add(self, numbers: Sequence[Any] | np.ndarray) -> None:
        self.num_items += len(numbers)
        self._buffer.append(np.asarray(numbers, dtype=self.kind))
        if len(self._buffer) == NUM_BUFFERED:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.seek(0)
        self._write_header()
        self._file.close()

    def _flush(self) -> None:
        if self._buffer:
            self._file.write(np.concatenate(self._buffer).tobytes())
            self._buffer.clear()

    def _write_header(self) -> None:
        described = np.lib.format.dtype_to_descr(self.kind)
        header = {"descr": described, "fortran_order": False, "shape": (self.num_items,)}
        np.lib.format.write_array_header_1_0(self._file, header)


def _load(path: Path) -> np.ndarray:
    """A view of the file: what is not read takes no memory."""
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _within(index: Any, length: int) -> int:
    place = int(index)
    if not -length <= place < length:
        raise IndexError(f"{index} of {length}")
    return place % length


def _to_json(example: Example) -> bytes:
    return (json.dumps([getattr(example, name) for name in EXAMPLE_FIELDS]) + "\n").encode()


def _from_json(line: bytes) -> Example:
    values: Iterator[Any] = map(_with_tuples, json.loads(line))
    return Example(**dict(zip(EXAMPLE_FIELDS, values, strict=True)))


def _with_tuples(value: Any) -> Any:
    """JSON has no tuples; an example has no lists."""
    if isinstance(value, list):
        return tuple(map(_with_tuples, value))
    return {key: _with_tuples(item) for key, item in value.items()} if isinstance(value, dict) else value

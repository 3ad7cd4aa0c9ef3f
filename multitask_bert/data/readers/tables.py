"""Parquet files, and anything that the `datasets` library loads: rows of typed columns."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data.readers.bad_records import BadRecords
from multitask_bert.data.readers.records import ExampleMaker
from multitask_bert.data.readers.text import shown
from multitask_bert.errors import InputError
from multitask_bert.records import Example

log = logging.getLogger(__name__)

CHUNK = 1000  # rows that are Python objects at a time


def read_parquet(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """The rows of a Parquet file, counted from 1; where `datasets` wrote it, class ids become names."""
    if not path.stat().st_size:
        raise InputError(f"{path}: the file is empty; put the data there, or name another file")
    try:
        from pyarrow.parquet import ParquetFile

        file = ParquetFile(path)
        columns, features = list(file.schema_arrow.names), _features_of(file.schema_arrow)
    except Exception as error:  # the library raises many types for bytes that are not Parquet
        raise InputError(
            f"{path}:1: is not a Parquet file ({_first_line(error)}); write it anew, or set another `format`"
        ) from error
    with file, BadRecords(path, source) as bad:
        make = ExampleMaker(source, heads, f"{path}:1", columns, bad=bad)
        make.check_columns()
        used = _top_level(list(make.fields.values()), columns)
        batches = _rows(file.iter_batches(batch_size=CHUNK, columns=used), path)
        yield from _examples(make, batches, features, str(path), bad)


def read_datasets(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """A split of a saved folder or of a data set on the hub; class ids become names, -1 a missing label.

    `path`: the folder (or the name on the hub, where there is no such folder), followed by the split.
    """
    dataset = _load(path.parent, path.name, source)
    name = f" ({source.name})" if source.name else ""
    where = f"{path.parent}{name} {path.name}"
    is_streamed = not hasattr(dataset, "__len__")
    columns = _streamed_columns(dataset, where) if is_streamed else dataset.column_names
    with BadRecords(where, source) as bad:
        make = ExampleMaker(source, heads, where, columns, bad=bad)
        make.check_columns()
        dataset = dataset.select_columns(_top_level(list(make.fields.values()), columns))
        chunks = _streamed_chunks(dataset, where) if is_streamed else _chunks(dataset.with_format(None))
        yield from _examples(make, chunks, dataset.features or {}, where, bad)


def _examples(
    make: ExampleMaker,
    batches: Iterator[list[dict[str, Any]]],
    features: Mapping[str, Any],
    where: str,
    bad: BadRecords,
) -> Iterator[Example]:
    decode = {column: _decoder(feature) for column, feature in features.items()}
    rows = (row for batch in batches for row in batch)
    for number, row in enumerate(rows, start=1):
        record = {column: decode[column](value) if column in decode else value for column, value in row.items()}
        with bad.caught():
            example = make({column: _plain(value) for column, value in record.items()}, f"{where}:{number}")
            if bad.lets_through:
                yield example


def _chunks(dataset: Any) -> Iterator[list[dict[str, Any]]]:
    for first in range(0, len(dataset), CHUNK):
        yield _rows_of(dataset[first : first + CHUNK])


def _rows_of(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _streamed_columns(dataset: Any, where: str) -> list[str]:
    """The names of the columns; those of the first row, where the files do not name them (JSON)."""
    if dataset.column_names is not None:
        return list(dataset.column_names)
    first = next(_streamed_chunks(dataset.take(1), where), None)
    if first is None:
        raise InputError(f"{where}: holds no examples; name another split, or check source.path")
    return list(first[0])


def _streamed_chunks(dataset: Any, where: str) -> Iterator[list[dict[str, Any]]]:
    """Rows as they arrive.

    Raises:
        InputError: a file is damaged, or the network is lost for longer than the library tries again.
    """
    chunks, number = dataset.iter(batch_size=CHUNK), 0
    while True:
        try:
            chunk = next(chunks, None)
        except Exception as error:  # as in `_load`
            raise InputError(
                f"{where}:{number + 1}: cannot be read from about this row on ({_first_line(error)}); start again, or "
                f"set source.streaming=false, which downloads the files first"
            ) from error
        if chunk is None:
            return
        yield (rows := _rows_of(chunk))
        number += len(rows)


def _plain(value: Any) -> Any:
    """A value as a JSON type: decimals become numbers; dates and times become strings, as they are in CSV."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return {name: _plain(child) for name, child in value.items()} if isinstance(value, Mapping) else value


def _decoder(feature: Any) -> Callable[[Any], Any]:
    """A function from a stored value to its meaning: class ids become names, at any depth."""
    if hasattr(feature, "int2str"):  # a ClassLabel
        names = feature.names
        return lambda value: None if value is None or not 0 <= value < len(names) else names[value]
    if isinstance(feature, Mapping):
        fields = {name: _decoder(child) for name, child in feature.items()}
        return lambda value: value and {name: fields[name](child) for name, child in value.items()}
    if hasattr(feature, "feature"):  # a list
        of_item = _decoder(feature.feature)
        return lambda value: value and [of_item(item) for item in value]
    return lambda value: value


def _features_of(schema: Any) -> Mapping[str, Any]:
    """The features that `datasets` noted in a Parquet file; empty where another program wrote it."""
    if not schema.metadata or b"huggingface" not in schema.metadata:
        return {}
    from datasets import Features

    features: Mapping[str, Any] = Features.from_arrow_schema(schema)
    return features


def _rows(batches: Iterator[Any], path: Path) -> Iterator[list[dict[str, Any]]]:
    number = 0
    while True:
        try:
            batch = next(batches, None)
            rows = None if batch is None else batch.to_pylist()
        except Exception as error:  # damaged bytes after the file's beginning
            raise InputError(
                f"{path}:{number + 1}: cannot be read from this row on ({_first_line(error)}); write or fetch the "
                f"file anew"
            ) from error
        if rows is None:
            return
        yield rows
        number += len(rows)


def _load(folder: Path, split: str, source: SourceConfig) -> Any:
    """The split as a `datasets.Dataset`, or, streamed, as an `IterableDataset`."""
    import datasets

    if source.streaming and any(sign in split for sign in "[+"):
        raise InputError(
            f"{folder} {split}: a part or a sum of splits cannot be streamed; name one split, or set "
            f"source.streaming=false"
        )
    is_saved = (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()
    where = f"{folder} {split}"
    try:
        if is_saved:
            if source.streaming:
                log.warning(
                    "%s: source.streaming has no effect on a saved folder, which is read from disk anyway", where
                )
            loaded = datasets.load_from_disk(str(folder))
            splits = loaded if isinstance(loaded, datasets.DatasetDict) else {str(loaded.split or "train"): loaded}
        else:
            options: dict[str, Any] = {"name": source.name, "revision": source.revision, "split": split}
            if source.streaming:
                options["streaming"] = True
            splits = {split: datasets.load_dataset(str(folder), **options)}
    except Exception as error:  # the hub, the network, a script, a damaged folder: dozens of types
        raise InputError(
            f"{where}: could not be loaded ({_first_line(error)}); check source.path, source.name (the configuration) "
            f"and the split's name; without a network, load it elsewhere, `save_to_disk`, and name that folder in "
            f"source.path"
        ) from error
    if split not in splits:
        raise InputError(f"{where}: there is no such split; name one of {', '.join(splits)} in the task's source")
    return splits[split]


def _top_level(names: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The columns that are named, or that contain a named field, in the order of the file."""
    composed = {column: unicodedata.normalize("NFC", column) for column in columns}
    wanted = {unicodedata.normalize("NFC", name) for name in names}
    wanted = {name if name in composed.values() else name.split(".")[0] for name in wanted}
    return [column for column in columns if composed[column] in wanted]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return shown(lines[0] if lines else type(error).__name__, width=150)

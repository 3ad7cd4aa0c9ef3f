"""Step 1 of the flow: files become `Example`s. One function per format; `READERS` is the only list of them.

A reader takes the place that `multitask_bert.data.downloads.locate` found, and yields examples as it reads. What it
raises is always an `InputError` that names file, line and the way out. What each format looks like: docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data.readers.columns import read_conll, read_conllu
from multitask_bert.data.readers.delimited import read_csv, read_tsv
from multitask_bert.data.readers.embedded import read_samples
from multitask_bert.data.readers.json_files import read_jsonl, read_squad
from multitask_bert.data.readers.parallel import file_names, read_parallel
from multitask_bert.data.readers.tables import read_datasets, read_parquet
from multitask_bert.errors import InputError
from multitask_bert.records import Example
from multitask_bert.trust.classes import users_code
from multitask_bert.trust.permissions import is_allowed

__all__ = [
    "FORMATS_OF_BOTH",
    "FORMATS_OF_WORDS",
    "READERS",
    "Reader",
    "can_read",
    "files_of_a_split",
    "gives_words_and_texts",
    "read_conll",
    "read_conllu",
    "read_csv",
    "read_datasets",
    "read_jsonl",
    "read_parallel",
    "read_parquet",
    "read_samples",
    "read_squad",
    "read_tsv",
    "reader_of",
]

Reader = Callable[[Path, SourceConfig, Mapping[str, HeadConfig]], Iterator[Example]]

READERS: dict[str, Reader] = {
    "conll": read_conll,
    "conllu": read_conllu,
    "csv": read_csv,
    "tsv": read_tsv,
    "jsonl": read_jsonl,
    "squad": read_squad,
    "parallel": read_parallel,
    "parquet": read_parquet,
    "datasets": read_datasets,
}
FORMATS_OF_WORDS = ("conll", "conllu")  # a label for each word
FORMATS_OF_BOTH = ("csv", "tsv", "jsonl", "parallel", "parquet", "datasets")  # labels for words, for texts, or for both


def reader_of(file_format: str) -> Reader:
    """The function that reads a format: one of ours by its short name, or the user's own, as `my_module.read_it`.

    Raises:
        InputError: there is no such format, or the user has not opened it.
    """
    if file_format in READERS:
        return READERS[file_format]
    if "." not in file_format:
        known = ", ".join([*READERS, "samples"])
        raise InputError(
            f"source.format={file_format}: choose one of {known}, or name a function, as my_module.read_it"
        )
    reader: Reader = users_code("source.format", file_format)
    return reader


def can_read(file_format: str) -> bool:
    """Whether `reader_of` knows the format."""
    return file_format in READERS or is_allowed(file_format)


def gives_words_and_texts(file_format: str) -> bool:
    """Whether a format has labels for words, for texts, or for both, as the file itself says."""
    return file_format in FORMATS_OF_BOTH or file_format not in READERS


def files_of_a_split(source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Sequence[str]:
    """The names of a split's files, where the format has several; else none."""
    return file_names(source, heads) if source.format == "parallel" else ()

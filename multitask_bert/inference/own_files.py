"""The files that a run was trained on, and others of their kind: read by the task's own reader, without labels.

So predicting a run's test file gives the predictions that were scored. What a file is, in this order:

1. one of the run's own files, by its place
2. by its name: `.conllu`, `.conll`, `.parquet`, `.json`, a folder, one of parallel files, or an ending of the run's own
3. a text file that reads, labels and all, like the run's own files of that ending
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data.downloads import part_of
from multitask_bert.data.readers import can_read, reader_of
from multitask_bert.data.readers.parallel import file_names
from multitask_bert.errors import InputError
from multitask_bert.heads import HEAD_TYPES, Head
from multitask_bert.inference.columns import Columns, columns_of_task
from multitask_bert.inference.files import STANDARD_INPUT, UTF_8, encoding_of, open_input, read_inputs
from multitask_bert.inference.inputs import Input, read_input
from multitask_bert.records import Example
from multitask_bert.trust.permissions import is_allowed
from multitask_bert.utils.files import expand_user_path

log = logging.getLogger(__name__)

LINES = ("csv", "tsv", "jsonl")  # formats that predicting reads itself, other columns and all
BY_ENDING = {".conll": "conll", ".conllu": "conllu", ".parquet": "parquet", ".json": "squad"}
OF_TEXTS = ("", ".txt", ".text")  # endings of files that hold a text per line, unless they look like the run's own
OF_LINES = (".csv", ".tsv", ".jsonl", ".ndjson")
NUM_LOOKED_AT = 20  # examples of a text file that must read like the run's own


@dataclass(frozen=True)
class OwnSource:
    """Where a task of the run has its data."""

    task: str
    source: SourceConfig
    heads: Mapping[str, HeadConfig]
    columns: Columns | None  # what it calls its texts; None: they have no names
    places: tuple[Path, ...]  # of its splits

    @property
    def endings(self) -> set[str]:
        return {place.suffix.lower() for place in self.places}

    @property
    def is_question(self) -> bool:
        return any(head.type == "span" for head in self.heads.values())


@contextmanager
def open_inputs(
    place: str, own: Sequence[OwnSource]
) -> Iterator[Callable[[Mapping[str, Mapping[str, Head]]], Iterator[Input]]]:
    """Open a file or standard input; what is given reads it, once it is told the model's heads by task.

    Raises:
        InputError: no such file, or of a format that is not read.
    """
    named = None if place == STANDARD_INPUT else source_of(place, own)
    if named is not None and Path(place).is_dir():
        yield lambda heads: read_own(place, named, named.source.encoding)
        return
    with open_input(place, is_own=named is not None) as file:

        def read(heads: Mapping[str, Mapping[str, Head]]) -> Iterator[Input]:
            source = named
            if source is None and place != STANDARD_INPUT and file.seekable():
                source = source_that_fits(place, own, heads)
            sources = own if source is None else [source]
            encodings = {one.source.encoding for one in sources} - {UTF_8}
            encoding = encoding_of(file, encodings.pop() if len(encodings) == 1 else UTF_8)
            if source is not None and source.source.format not in LINES:
                return read_own(place, source, encoding)
            of_same_files = [] if source is None else [one for one in own if {*one.places} & {*source.places}]
            return read_inputs(
                file, place,
                columns=[one.columns for one in own if one.columns is not None],
                is_tsv_quoted=all(one.source.quoted for one in sources if one.source.format == "tsv"),
                own=[one.columns for one in of_same_files if one.columns is not None],
                file_format=None if source is None else source.source.format,
                encoding=encoding,
            )  # fmt: skip

        yield read


def own_sources(tree: Any) -> list[OwnSource]:
    """The sources of a run, out of its config; `tree`: as plain dicts and lists."""
    tasks = tree.get("tasks") if isinstance(tree, Mapping) else None
    root = Path(expand_user_path(str(tree.get("data_root") or ""))) if tasks else Path()
    found = []
    for name, task in (tasks or {}).items():
        source = SourceConfig(**_known(SourceConfig, task["source"]))
        heads = {
            head: HeadConfig(**_known(HeadConfig, config))
            for head, config in (task.get("heads") or {}).items()
            if config.get("type") in HEAD_TYPES or is_allowed(str(config.get("type")))
        }
        splits = (source.train, source.dev, source.test)
        folder = root / expand_user_path(source.folder)
        places = tuple(folder / expand_user_path(split) for split in splits if split)
        found.append(OwnSource(name, source, heads, columns_of_task(task), places))
    return found


def source_of(place: str, own: Sequence[OwnSource]) -> OwnSource | None:
    """The source by which a file is to be read, as its place and its name tell; None: by the ending alone.

    Raises:
        InputError: words in columns, of which nobody says in which one they are.
    """
    path, suffix = Path(place), Path(place).suffix.lower()
    by_place = [one for one in own if any(_is_same(path, part) for part in _files(one))]
    if by_place:
        return by_place[0]
    if path.is_dir() or (parallel := _parallel_of(path, own)) is not None:
        return next((one for one in own if one.source.format == "parallel"), None) if path.is_dir() else parallel
    if suffix in OF_LINES:
        return None
    wanted = BY_ENDING.get(suffix)
    of_format = [one for one in own if one.source.format == wanted]
    of_ending = [] if suffix in OF_TEXTS else [one for one in own if suffix in one.endings]
    chosen = next(iter([one for one in of_format if suffix in one.endings] or of_ending or of_format), None)
    if chosen is None and wanted == "conllu":
        return OwnSource("", SourceConfig(wanted), {}, None, ())
    if chosen is None and wanted == "conll":
        raise InputError(
            f"input={place}: no task of the run has files in columns (`format: conll`), so it is not known in which "
            f'one the words are; give a .jsonl file with the words, as in {{"words": ["Asha", "alifika"]}}'
        )
    return chosen


def source_that_fits(place: str, own: Sequence[OwnSource], heads: Mapping[str, Mapping[str, Head]]) -> OwnSource | None:
    """The source whose files a text file looks like, with labels that the model's heads know; None: there is none."""
    path = Path(place)
    if path.suffix.lower() not in OF_TEXTS:
        return None
    for one in own:
        if path.suffix.lower() in one.endings and _fits(path, one, heads.get(one.task, {})):
            log.warning("%s: read in the format of the run's task %s (%s)", place, one.task, one.source.format)
            return one
    return None


def read_own(place: str, own: OwnSource, encoding: str) -> Iterator[Input]:
    """One input per example, as the task's reader gives it.

    Raises:
        InputError: as the reader.
    """
    path, source = Path(place), replace(own.source, encoding=encoding)
    if source.format == "parallel" and not path.is_dir() and "*" not in path.name:
        path = _place_of_parts(path, own)
    for example in reader_of(source.format)(path, source, {}):
        yield replace(read_input(_given(example, own), example.where), is_exact=True)


def _given(example: Example, own: OwnSource) -> Mapping[str, Any]:
    if example.words is not None:
        return {"words": list(example.words)}
    if example.choices is not None:
        return {"text": example.text, "choices": list(example.choices)}
    if example.text_pair is None:
        return {"text": example.text}
    first, second = ("question", "context") if own.is_question else ("text", "text_pair")
    return {first: example.text, second: example.text_pair}


def _fits(path: Path, own: OwnSource, heads: Mapping[str, Head]) -> bool:
    """Whether the first examples read with their labels, and the heads know these."""
    if not can_read(own.source.format) or not own.heads or own.heads.keys() != heads.keys():
        return False
    with suppress(InputError):
        examples = reader_of(own.source.format)(path, own.source, own.heads)
        for example in itertools.islice(examples, NUM_LOOKED_AT):
            for name, head in heads.items():
                head.check_label(example.labels[name], example)
        return True
    return False


def _known(kind: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _files(own: OwnSource) -> Iterator[Path]:
    """All files that the source names; of parallel ones their folder, too."""
    if own.source.format == "datasets":
        return
    for place in own.places:
        yield place
        if own.source.format == "parallel":
            yield from (part_of(place, name) for name in _texts(own))


def _parallel_of(path: Path, own: Sequence[OwnSource]) -> OwnSource | None:
    """The source of which a file has the name of one with texts: `seq.in` in any folder, or `any.in`."""
    for one in own:
        if one.source.format == "parallel":
            is_pattern = any("*" in place.name for place in one.places)
            if any(path.suffix == f".{name}" if is_pattern else path.name == name for name in _texts(one)):
                return one
    return None


def _place_of_parts(path: Path, own: OwnSource) -> Path:
    """Of one of parallel files, what `read_parallel` takes: its folder, or its name with a `*`."""
    if any("*" in place.name for place in own.places):
        return path.with_suffix(".*")
    return path.parent


def _texts(own: OwnSource) -> Sequence[str]:
    """The parallel files that are no labels."""
    if own.source.format != "parallel" or (own.source.words is None and own.source.text is None):
        return ()
    return file_names(own.source, {})


def _is_same(path: Path, other: Path) -> bool:
    with suppress(OSError):
        return path.resolve() == other.resolve()
    return False

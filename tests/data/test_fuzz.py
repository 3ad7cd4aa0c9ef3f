"""Whatever a file holds, a reader gives examples or an `InputError` that names the file: never another exception."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multitask_bert.config.schema import SourceConfig
from multitask_bert.data.readers import READERS
from multitask_bert.errors import InputError
from multitask_bert.records import Example
from tests.data.task_files import GOOD_FILES, HEADS, SOURCES

pytestmark = pytest.mark.slow

# Pieces that mean something to one format or another, so that random files get past the first check.
PIECES = [
    b"text", b"label", b"id", b"tokens", b"tags", b"entities", b"data", b"start", b"end", b'"', b'""', b"'", b"\t",
    b"\n", b"\n\n", b"\r\n", b"\r", b" ", b",", b":", b"{", b"}", b"[", b"]", b"0", b"-1", b"1e999", b"NaN", b"null",
    b"true", b"O", b"B-PER", b"-DOCSTART-", b"#", b"1\t", b"1-2\t", b"1.1\t", b"_\t", b"\\ud800", b"\xef\xbb\xbf",
    b"\x00", b"\xff", b"\xc3\xa9", b"\xe2\x80\xa8", b"\xcc\x81", b"PAR1", b'{"text": "a b", ',
    b'"entities": [[0, 1, "X"]]}',
]  # fmt: skip
TEXT = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4)), max_size=20).map(b"".join)
QUESTION_KEYS = st.sampled_from(["id", "question", "answers", "is_impossible", "title", "context", "x"])
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-3, 9), st.floats(), st.text(max_size=5), st.just("a b"))
KEYS = st.sampled_from(["text", "label", "tokens", "tags", "entities", "start", "end", "data", "paragraphs", "qas"])
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | QUESTION_KEYS, inner, max_size=4)
)
RECORDS = st.one_of(
    st.dictionaries(KEYS, JSON, max_size=4),
    st.fixed_dictionaries({"text": LEAVES, "tokens": JSON, "tags": JSON, "entities": JSON}),
)
FUZZED = settings(
    deadline=None, max_examples=100, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read_or_refuse(folder: Path, kind: str, files: Mapping[str, bytes], **options: str | bool) -> list[Example]:
    """The examples; none where the files are refused, which must be by name."""
    for name, content in files.items():
        (folder / name).write_bytes(content)
    source = SourceConfig(**{"format": kind, **SOURCES.get(kind, {"text": "text"}), **options})
    path = folder if len(files) > 1 else folder / next(iter(files))
    try:
        return list(READERS[source.format](path, source, HEADS[kind]))
    except InputError as error:
        message = str(error)
    assert message.startswith(str(folder))
    return []


def are_examples(found: list[Example]) -> bool:
    """Whether each is an example that says where it stands and has something to read."""
    return all(isinstance(one, Example) and ":" in one.where and one.text.strip() for one in found)


@pytest.mark.parametrize("options", [
    {}, {"encoding": "utf-16"}, {"encoding": "utf-7"}, {"encoding": "idna"}, {"quoted": False},
])  # fmt: skip
@pytest.mark.parametrize("kind", [kind for kind in GOOD_FILES if kind != "parallel"])
def test_any_bytes_give_examples_or_a_refusal(tmp_path: Path, kind: str, options: dict[str, str | bool]) -> None:
    if kind == "parquet" and options:
        pytest.skip("Parquet has no encoding")

    @settings(FUZZED, max_examples=FUZZED.max_examples // (1 if not options else 5))
    @given(content=TEXT)
    def check(content: bytes) -> None:
        assert are_examples(read_or_refuse(tmp_path, kind, {"train.txt": content}, **options))

    check()


@pytest.mark.parametrize("kind", [kind for kind in GOOD_FILES if kind != "parallel"])
def test_good_files_with_bytes_put_in_give_examples_or_a_refusal(tmp_path: Path, kind: str) -> None:
    content = GOOD_FILES[kind]["train"]
    good = content.encode() if isinstance(content, str) else content

    @FUZZED
    @given(place=st.integers(0, len(good)), removed=st.integers(0, 4), added=TEXT)
    def check(place: int, removed: int, added: bytes) -> None:
        changed = good[:place] + added + good[place + removed :]
        assert are_examples(read_or_refuse(tmp_path, kind, {"train.txt": changed}))

    assert read_or_refuse(tmp_path, kind, {"train.txt": good})
    check()


@FUZZED
@given(words=TEXT, tags=TEXT, labels=TEXT)
def test_any_parallel_files_give_examples_or_a_refusal(
    tmp_path: Path, words: bytes, tags: bytes, labels: bytes
) -> None:
    files = {"seq.in": words, "seq.out": tags, "label": labels}
    assert are_examples(read_or_refuse(tmp_path, "parallel", files))


@pytest.mark.parametrize("kind", ["jsonl", "tokens", "entities"])
def test_any_objects_give_examples_or_a_refusal(tmp_path: Path, kind: str) -> None:
    @FUZZED
    @given(records=st.lists(RECORDS, min_size=1, max_size=3))
    def check(records: list[object]) -> None:
        content = "\n".join(map(json.dumps, records)).encode()
        assert are_examples(read_or_refuse(tmp_path, kind, {"train.txt": content}))

    check()


@FUZZED
@given(
    questions=st.lists(st.dictionaries(QUESTION_KEYS, JSON, max_size=6) | JSON, max_size=2),
    context=st.text(max_size=5) | JSON,
)
def test_any_questions_give_examples_or_a_refusal(tmp_path: Path, questions: list[object], context: object) -> None:
    file = {"data": [{"paragraphs": [{"context": context, "qas": questions}]}]}
    assert are_examples(read_or_refuse(tmp_path, "squad", {"train.txt": json.dumps(file).encode()}))


def test_any_description_of_a_saved_data_set_gives_examples_or_a_refusal(tmp_path: Path) -> None:
    datasets.disable_progress_bars()
    DatasetDict(train=Dataset.from_dict({"text": ["a"], "label": ["good"]})).save_to_disk(str(tmp_path))
    good = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    assert len(good) == 3

    @FUZZED
    @given(path=st.sampled_from(sorted(good)), content=TEXT | JSON.map(lambda value: json.dumps(value).encode()))
    def check(path: Path, content: bytes) -> None:
        path.write_bytes(content)
        try:
            list(READERS["datasets"](tmp_path / "train", SourceConfig(format="datasets", text="text"), HEADS["csv"]))
        except InputError as error:
            message = str(error)
        else:
            message = str(tmp_path)
        path.write_bytes(good[path])
        assert message.startswith(str(tmp_path))

    check()


def test_a_good_file_gives_the_fuzz_tests_examples(tmp_path: Path) -> None:
    examples = read_or_refuse(tmp_path, "csv", {"train.txt": b"text,label\na,good\n"})
    assert [example.labels for example in examples] == [{"mood": "good"}]

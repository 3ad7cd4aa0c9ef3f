"""Files as streams of inputs: every format, every bad line by its number, and never more than a line ahead."""

from __future__ import annotations

import errno
import io
import itertools
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from multitask_bert.errors import InputError
from multitask_bert.inference.files import is_read_again, open_bytes
from multitask_bert.inference.lines import read_inputs
from multitask_bert.inference.output import open_output, write_lines

OWN = [{"text": "tweet"}, {"text": "premise", "text_pair": "hypothesis"}]


def shown(content: str | bytes, name: str, **options: Any) -> list[dict[str, Any]]:
    """What a file of this name and content gives."""
    content = content.encode() if isinstance(content, str) else content
    return [dict(item.shown) for item in read_inputs(io.BytesIO(content), name, **options)]


def texts(content: str | bytes, name: str, **options: Any) -> list[tuple[str, ...]]:
    items = shown(content, name, **options)
    return [tuple(item[key] for key in ("text", "text_pair") if key in item) for item in items]


def test_a_text_file_gives_a_text_per_line_the_empty_ones_too() -> None:
    content = "\ufeffAmina\r\n\n  {Juma\u2028siku\u0085moja\n\x0c\nmwisho"
    assert texts(content, "a.txt") == [("Amina",), ("",), ("  {Juma\u2028siku\u0085moja",), ("\x0c",), ("mwisho",)]


def test_a_jsonl_file_gives_an_object_or_string_per_line() -> None:
    content = '{"text": "Amina", "id": 1}\n\n"Juma"\n{"text": "a", "text_pair": "b"}\n'
    assert shown(content, "a.jsonl") == [
        {"text": "Amina", "id": 1}, {"text": "Juma"}, {"text": "a", "text_pair": "b"}
    ]  # fmt: skip


def test_standard_input_is_json_where_a_line_begins_like_an_object() -> None:
    assert texts('Amina\n{"text": "Juma"}\n\n', "-") == [("Amina",), ("Juma",), ("",)]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", 'text\n"a, ""b"""\n\nc\n', [('a, "b"',), ("c",)]),
        ("a.csv", 'text,text_pair\r\n"two\r\nlines",b\r\n', [("two\r\nlines", "b")]),
        ("a.csv", "text_pair,text\nb,a\n", [("a", "b")]),
        ("a.csv", "id,tweet\n7,a\n", [("a",)]),
        ("a.csv", "hypothesis,premise\nb,a\n", [("a", "b")]),
        ("a.csv", "premise,tweet\nb,a\n", [("a",)]),
        ("a.csv", "tweet,text\nb,a\n", [("a",)]),
        ("a.tsv", 'text\ttext_pair\n"a\t""b"""\tc\n', [('a\t"b"', "c")]),
        ("a.CSV", "text\na\n", [("a",)]),
    ],
)
def test_a_table_gives_the_columns_of_texts(name: str, content: str, expected: list[tuple[str, ...]]) -> None:
    assert texts(content, name, columns=OWN) == expected


def test_a_table_may_hold_questions_with_their_contexts() -> None:
    (item,) = read_inputs(io.BytesIO(b"context,question\nAmina,nani?\n"), "a.csv")
    assert (item.input_type, item.example.text, item.example.text_pair) == ("question", "nani?", "Amina")


def test_other_columns_are_returned() -> None:
    assert shown("id,tweet,words\n7,a,b\n", "a.csv", columns=OWN) == [{"text": "a", "id": "7", "words": "b"}]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("text,label,,", ["text", "label", "", ".1"]),
        (",,text,label", ["text", "", ".1", "label"]),
        ("id,text,id,id.1", ["text", "id", "id.2", "id.1"]),
    ],
)
def test_columns_of_one_name_that_hold_no_texts_get_numbers(header: str, names: list[str]) -> None:
    (item,) = shown(f"{header}\na,b,c,d\n", "a.csv")
    assert list(item) == names
    assert sorted(item.values()) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_of_a_table_end_as_they_may_in_training(end: str) -> None:
    assert texts(end.join(["text,text_pair", f'"a{end}b",c', "d,e", ""]), "a.csv") == [(f"a{end}b", "c"), ("d", "e")]


def test_a_field_that_is_empty_is_a_row_all_the_same() -> None:
    assert texts('text\na\n""\n\nb\n', "a.csv") == [("a",), ("",), ("b",)]


def test_texts_of_a_table_lose_the_white_space_around_them_as_in_training() -> None:
    assert texts("text,text_pair\n a ,\u00a0b\t\n", "a.csv") == [("a", "b")]


def test_where_quotes_are_data_they_stay() -> None:
    assert texts('text\n"a\nb"\n', "a.tsv", is_tsv_quoted=False) == [('"a',), ('b"',)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('text\n"Nzuri" sana\n"bora"\n', [('"Nzuri" sana',), ('"bora"',)]),
        ('text\n"Nzuri\nbora\n', [('"Nzuri',), ("bora",)]),
        ('text\ttext_pair\n"Nzuri\tb\nsana"\td\n', [('"Nzuri', "b"), ('sana"', "d")]),
        ('text\ttext_pair\n"Nzuri\tb\nsana\td"\n', [('"Nzuri', "b"), ("sana", 'd"')]),
        ('\ufefftext\ttext_pair\r\n"a\r\n""b"""\tc\r\n', [('a\r\n"b"', "c")]),
        ('text\n"Nzuri"\nni "bora" sana\n', [("Nzuri",), ('ni "bora" sana',)]),
    ],
)
def test_a_tsv_is_quoted_where_all_of_it_is_well_formed(content: str, expected: list[tuple[str, ...]]) -> None:
    assert texts(content, "a.tsv") == expected


def test_a_tsv_whose_quotes_are_data_is_named_with_the_first_line_that_shows_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    texts('text\na\n"b" c\n', "a.tsv")
    assert caplog.messages == ['a.tsv:3: not quoted as a table is, so every `"` in the file is read as data']


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_field_may_be_long(name: str) -> None:
    ((text,),) = texts(f'text\n"{"a" * 200_000}"\n', name)
    assert len(text) == 200_000


@pytest.mark.parametrize(
    ("name", "content", "num_before", "message"),
    [
        ("a.txt", b"a\nb\nc \xff d\n", 2, r"a\.txt:3: byte 0xff is not UTF-8; convert the file to UTF-8"),
        ("a.jsonl", b'"a"\n{"text": \n', 1, r"a\.jsonl:2: not JSON \(Expecting value, column 10\)"),
        ("a.jsonl", b'\n"a"\n{"tekst": "b"}\n', 1, r"a\.jsonl:3: found the keys tekst; give a text"),
        (
            "a.jsonl",
            b'"a"\n{"text": "b", "id": ' + b"7" * 5000 + b"}\n",
            1,
            r"a\.jsonl:2: not JSON \(a number with too",
        ),
        ("a.txt", "a\n".encode("utf-16-le"), 0, r"a\.txt:1: holds a zero byte, so it is not text in UTF-8"),
        ("a.jsonl", b"[" * 100000, 0, r"a\.jsonl:1: not JSON \(nested too deeply\)"),
        ("a.jsonl", b'{"text": "\\ud800"}', 0, r"a\.jsonl:1: `text` holds half a surrogate pair"),
        ("-", b'a\n{"text"}\n', 1, r"standard input:2: not JSON"),
        ("a.csv", b"", 0, r"a\.csv:1: the header needs a column text or tweet or premise \(it has: \)"),
        ("a.csv", b"id,tekst\n", 0, r"a\.csv:1: the header needs a column text .*\(it has: id, tekst\)"),
        ("a.csv", b"text,id,text\n", 0, r"a\.csv:1: two columns have the same name 'text'; rename one of them"),
        ("a.csv", b"id,text\n1,a\n2,b,c\n", 1, r"a\.csv:3: 3 fields where the header names 2; .*quote a field"),
        ("a.csv", b'text\na\n"b\nc\n', 1, r"a\.csv:3: unexpected end of data; inside a quoted field"),
        ("a.csv", b'text\n"a" b\n', 0, r"a\.csv:2: .*inside a quoted field"),
        ("a.tsv", b"text\na\n\xff\n", 1, r"a\.tsv:3: byte 0xff is not UTF-8"),
        ("a.tsv", b"text\ttext_pair\na\n", 0, r"a\.tsv:2: 1 fields where the header names 2"),
    ],
)
def test_a_bad_line_is_named_after_all_before_it_were_given(
    name: str, content: bytes, num_before: int, message: str
) -> None:
    items = read_inputs(io.BytesIO(content), name, columns=OWN)
    assert len(list(itertools.islice(items, num_before))) == num_before
    with pytest.raises(InputError, match=message):
        next(items)


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "-"])
def test_no_more_than_a_line_is_read_ahead(name: str) -> None:
    lines_read = 0

    class Endless(io.RawIOBase):
        def __iter__(self) -> Iterator[bytes]:  # type: ignore[override]
            nonlocal lines_read
            for line in itertools.chain([b"text\n" if name == "a.csv" else b'"text"\n'], itertools.repeat(b'"a"\n')):
                lines_read += 1
                yield line

    items = read_inputs(Endless(), name)  # type: ignore[arg-type]
    for count in range(1, 1000):
        next(items)
        assert lines_read <= count + 1


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere.txt", r"input=.*nowhere\.txt: cannot be read \(No such file or directory\); give a \.csv, \.tsv or"),
        (".", r"input=.*: cannot be read \(Is a directory\)"),
        ("a.json", r"input=.*a\.json: \.json is not read; give a \.csv"),
        ("a.csv.gz", r"input=.*a\.csv\.gz: \.gz is not read"),
    ],
)
def test_an_input_that_cannot_be_opened_is_refused(tmp_path: Path, place: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_bytes(str(tmp_path / place))


def test_only_a_file_is_read_again(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "texts.txt").write_text("siku\n")
    names = ("-", str(tmp_path / "pipe"), str(tmp_path / "texts.txt"), str(tmp_path))
    assert [is_read_again(name) for name in names] == [False, False, True, True]


def test_an_output_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"output=.*: cannot be written \(Is a directory\)"),
        open_output(str(tmp_path)),
    ):
        pass


def test_each_record_is_on_the_disk_as_soon_as_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    def records() -> Iterator[dict[str, Any]]:
        for number in range(3):
            lines = path.read_bytes().splitlines()
            assert [json.loads(line)["number"] for line in lines] == list(range(number))
            yield {"number": number, "text": "é\u2028\ud800"}

    with open_output(str(path)) as file:
        assert write_lines(records(), file) == 3
    assert json.loads(path.read_text(encoding="utf-8").split("\n")[0])["text"] == "é\u2028\ud800"


def test_a_whole_output_has_its_name_only_once_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("earlier")
    (tmp_path / "link").symlink_to(path)
    with open_output(str(tmp_path / "link"), is_whole=True) as file:
        write_lines([{"a": 1}], file, whole="out.jsonl")
        assert path.read_text() == "earlier"
    assert path.read_text() == '{"a": 1}\n'
    assert (tmp_path / "link").is_symlink()
    with pytest.raises(ZeroDivisionError), open_output(str(path), is_whole=True) as file:
        write_lines(({"a": 2 // number} for number in (2, 1, 0)), file)
    assert path.read_text() == '{"a": 1}\n'
    assert {one.name for one in tmp_path.iterdir()} == {"out.jsonl", "link"}


def test_a_whole_output_to_a_device_leaves_the_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with open_output(str(tmp_path / "pipe"), is_whole=True) as file:
        write_lines([{"a": 1}], file)
    assert os.read(reader, 100) == b'{"a": 1}\n'
    os.close(reader)


def test_a_key_that_is_nested_too_deeply_to_be_written_is_refused() -> None:
    nested: list[Any] = [math.nan]
    for _ in range(900):
        nested = [nested]
    with pytest.raises(InputError, match="prediction 2: a key of the input is nested too deeply"):
        write_lines([{"a": 1}, {"a": nested}], io.BytesIO())


def test_a_prediction_that_cannot_be_written_is_refused_with_its_number() -> None:
    class Full(io.BytesIO):
        name = "out.jsonl"

        def write(self, content: Any) -> int:
            if self.tell():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(content)

    with pytest.raises(InputError, match=r"out\.jsonl: prediction 2 cannot be written \(No space left on device\)"):
        write_lines([{"a": 1}, {"a": 2}], Full())


def test_closed_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="input=-: standard input is closed; give a"):
        open_bytes("-")


def test_closed_standard_output_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(InputError, match="output=null: standard output is closed; name a file"), open_output(None):
        pass


def test_nan_and_infinity_are_written_as_null() -> None:
    file = io.BytesIO()
    write_lines([{"a": math.nan, "b": [1.5, math.inf], "c": {"d": (-math.inf, "NaN", None)}}], file)
    assert file.getvalue() == b'{"a": null, "b": [1.5, null], "c": {"d": [null, "NaN", null]}}\n'


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_predictions_that_cannot_be_written_are_an_error_with_the_number_written() -> None:
    with (
        pytest.raises(InputError, match=r"^/dev/full: prediction 1 cannot be written \(No space left on device\)"),
        open_output("/dev/full") as file,
    ):
        write_lines([{"text": "a"}], file)


def test_control_characters_are_escaped_in_the_lines_and_read_back_unchanged(tmp_path: Path) -> None:
    text = "\x9b31m \x1b[31m \x7f colère"
    with open_output(str(tmp_path / "out.jsonl")) as file:
        write_lines([{"text": text}], file)
    line = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert json.loads(line) == {"text": text}
    assert not set("\x9b\x1b\x7f") & set(line)
    assert "colère" in line

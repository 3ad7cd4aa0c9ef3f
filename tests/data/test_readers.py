"""Readers: what each format's traps become, and where the examples say they stand."""

from __future__ import annotations

import csv
import io
import random
from pathlib import Path

import pytest

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data.readers import read_conll, read_csv, read_samples, read_tsv
from multitask_bert.data.samples.corpora import ner_corpus, sentiment_corpus
from multitask_bert.errors import InputError
from multitask_bert.records import Example

Sentence = list[tuple[str, str]]


def conll(folder: Path, content: str | bytes, *, word_column: int = 0, column: str | None = None) -> list[Example]:
    path = folder / "train.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    heads = {"entities": HeadConfig(type="tagging", scheme="plain", column=column)}
    return list(read_conll(path, SourceConfig(format="conll", word_column=word_column), heads))


def words_and_tags(examples: list[Example]) -> list[Sentence]:
    return [list(zip(e.words or (), e.labels["entities"], strict=True)) for e in examples]


def delimited(
    folder: Path, content: str | bytes, *, quoted: bool | None = None, text_pair: str | None = None
) -> list[Example]:
    """`quoted` None: read as CSV; else as TSV."""
    path = folder / "train.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    heads = {"mood": HeadConfig(type="classification", column="label")}
    if quoted is None:
        return list(read_csv(path, SourceConfig(format="csv", text="text", text_pair=text_pair), heads))
    return list(read_tsv(path, SourceConfig(format="tsv", text="text", text_pair=text_pair, quoted=quoted), heads))


def texts_and_labels(examples: list[Example]) -> list[tuple[str, str | None]]:
    return [(example.text, example.labels["mood"]) for example in examples]


def lines_of(examples: list[Example]) -> list[int]:
    return [int(example.where.rpartition(":")[2]) for example in examples]


TWO_SENTENCES: list[Sentence] = [[("Asha", "B-PER"), ("Juma", "I-PER"), ("alikuja", "O")], [("Leo", "O")]]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("Asha\tB-PER\nJuma\tI-PER\nalikuja\tO\n\nLeo\tO\n", id="tabs"),
        pytest.param("Asha B-PER\nJuma I-PER\nalikuja O\n\nLeo O\n", id="a space"),
        pytest.param("Asha   B-PER \n Juma  I-PER\nalikuja O\n\nLeo  O\n", id="aligned by several spaces"),
        pytest.param("Asha\tB-PER\nJuma\tI-PER\nalikuja\tO\n\t\nLeo\tO\n", id="a tab in the sentence break"),
        pytest.param("Asha\tB-PER\nJuma\tI-PER\nalikuja\tO\n \t \nLeo\tO\n", id="white space in the sentence break"),
        pytest.param("Asha\tB-PER\nJuma\tI-PER\nalikuja\tO\n\n\n\nLeo\tO\n\n\n", id="several blank lines"),
        pytest.param("\n\nAsha\tB-PER\nJuma\tI-PER\nalikuja\tO\n\nLeo\tO\n", id="blank lines first"),
        pytest.param("Asha\tB-PER\nJuma\tI-PER\nalikuja\tO\n\nLeo\tO", id="no final newline"),
        pytest.param("Asha\tB-PER\r\nJuma\tI-PER\r\nalikuja\tO\r\n\r\nLeo\tO\r\n", id="CRLF"),
        pytest.param("Asha B-PER\r\nJuma I-PER\r\nalikuja O\r\n\r\nLeo O", id="spaces and CRLF"),
        pytest.param("\ufeffAsha\tB-PER\nJuma\tI-PER\nalikuja\tO\n\nLeo\tO\n", id="byte order mark"),
        pytest.param("Asha \tB-PER\nJuma\t I-PER\nalikuja\tO \n\nLeo\tO\n", id="spaces beside the tab"),
        pytest.param(
            "-DOCSTART-\tO\n\nAsha\tB-PER\nJuma\tI-PER\nalikuja\tO\n\n-DOCSTART-\tO\n\nLeo\tO\n", id="-DOCSTART-"
        ),
        pytest.param(
            "-DOCSTART- -X- O O\nAsha B-PER\nJuma I-PER\nalikuja O\n-DOCSTART-\nLeo O\n",
            id="-DOCSTART- without blank lines around it, and with other columns",
        ),
    ],
)
def test_conll_variants_hold_the_same_two_sentences(tmp_path: Path, content: str) -> None:
    assert words_and_tags(conll(tmp_path, content)) == TWO_SENTENCES


def test_conll_examples_name_the_line_of_their_first_word(tmp_path: Path) -> None:
    content = "\n-DOCSTART- O\n\nAsha B-PER\nJuma I-PER\n \t\n\nLeo O\n-DOCSTART- O\nKesho O\n"
    lines = content.split("\n")
    examples = conll(tmp_path, content)
    assert [e.where for e in examples] == [f"{tmp_path / 'train.txt'}:{n}" for n in (4, 8, 10)]
    assert [lines[number - 1].split()[0] for number in lines_of(examples)] == ["Asha", "Leo", "Kesho"]


def test_hash_at_the_start_of_a_conll_line_is_part_of_a_word(tmp_path: Path) -> None:
    content = "#Simba\tB-ORG\n#\tO\n\n# \tO\n# text = Simba\tO\n"
    assert words_and_tags(conll(tmp_path, content)) == [
        [("#Simba", "B-ORG"), ("#", "O")],
        [("#", "O"), ("# text = Simba", "O")],
    ]


def test_conll_text_is_the_words_joined_by_spaces(tmp_path: Path) -> None:
    (example,) = conll(tmp_path, "Dar es Salaam\tB-LOC\n!\tO\n")
    assert (example.text, example.words) == ("Dar es Salaam !", ("Dar es Salaam", "!"))


@pytest.mark.parametrize(("word_column", "column", "found"), [
    (0, "1", [("Asha", "B-PER")]),
    (0, None, [("Asha", "B-PER")]),  # the last column where none is named
    (1, "0", [("B-PER", "Asha")]),
    (-2, "-1", [("Asha", "B-PER")]),
])  # fmt: skip
def test_conll_columns_count_from_either_end(
    tmp_path: Path, word_column: int, column: str | None, found: Sentence
) -> None:
    assert words_and_tags(conll(tmp_path, "Asha B-PER\n", word_column=word_column, column=column)) == [found]


def test_one_conll_file_serves_several_heads(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("1 Asha NOUN B-PER\n2 alikuja VERB O\n", encoding="utf-8")
    plain = HeadConfig(type="tagging", scheme="plain", column="2")
    heads = {"pos": plain, "entities": HeadConfig(type="tagging", column="-1")}
    (example,) = read_conll(path, SourceConfig(format="conll", word_column=1), heads)
    assert example.words == ("Asha", "alikuja")
    assert example.labels == {"pos": ("NOUN", "VERB"), "entities": ("B-PER", "O")}


@pytest.mark.parametrize("word", ["\u0301", "\ufe0f", "\u200b", "\u00a0", "\u3000"])
def test_words_without_visible_characters_stay_words(tmp_path: Path, word: str) -> None:
    assert words_and_tags(conll(tmp_path, f"a\tO\n{word}\tB-X\nb\tO\n")) == [[("a", "O"), (word, "B-X"), ("b", "O")]]


def test_conll_reader_gives_back_what_was_written(tmp_path: Path) -> None:
    draw = random.Random(1)
    alphabet = "aZ#\"'é\u0301\ufe0f\u2028\u0085,;ñ中🙂-"
    sentences = [
        [("".join(draw.choices(alphabet, k=draw.randint(1, 6))) + "x", f"T{draw.randint(0, 3)}") for _ in range(size)]
        for size in (draw.randint(1, 5) for _ in range(200))
    ]
    content = "\n\n".join("\n".join(f"{word}\t{tag}" for word, tag in sentence) for sentence in sentences)
    assert words_and_tags(conll(tmp_path, content)) == sentences


@pytest.mark.parametrize(("quoted", "content"), [
    (None, 'text,label\n"Sawa, sana",good\nHapana,bad\n'),
    (None, 'text,label\r\n"Sawa, sana",good\r\nHapana,bad\r\n'),
    (None, '\ufefftext,label\n"Sawa, sana",good\nHapana,bad'),
    (None, 'label,id,text\ngood,1,"  Sawa, sana "\nbad,2,  Hapana\n'),
    (None, ' text , label\n"Sawa, sana", good\nHapana,bad \n\n'),
    (True, 'text\tlabel\n"Sawa, sana"\tgood\nHapana\tbad\n'),
    (True, 'text\tlabel\nSawa, sana\tgood\r\n\r\nHapana\tbad\r\n'),
    (False, 'text\tlabel\nSawa, sana\tgood\nHapana\tbad\n'),
    (False, 'text\tlabel\r\n  Sawa, sana \tgood\r\n\r\nHapana\t bad'),
    (False, '\ufefftext\tlabel\n\nSawa, sana\tgood\nHapana\tbad'),
])  # fmt: skip
def test_delimited_variants_hold_the_same_two_texts(tmp_path: Path, quoted: bool | None, content: str) -> None:
    examples = delimited(tmp_path, content, quoted=quoted)
    assert texts_and_labels(examples) == [("Sawa, sana", "good"), ("Hapana", "bad")]


def test_csv_lines_are_those_on_which_the_rows_begin(tmp_path: Path) -> None:
    content = 'text,label\r\n"one\r\ntwo, ""three""",good\r\n\r\nfour,bad\r\n"five\r\n\r\nsix",good\r\nseven,bad\r\n'
    examples = delimited(tmp_path, content)
    assert texts_and_labels(examples) == [
        ('one\r\ntwo, "three"', "good"), ("four", "bad"), ("five\r\n\r\nsix", "good"), ("seven", "bad"),
    ]  # fmt: skip
    assert lines_of(examples) == [2, 5, 6, 9]


def test_csv_reader_gives_back_what_the_csv_module_wrote(tmp_path: Path) -> None:
    draw = random.Random(1)
    alphabet = "ab,\"'\n;\t #é\u2028\u0085\x0b\x1c"  # str.splitlines would break at the last four
    rows = [("x" + "".join(draw.choices(alphabet, k=draw.randint(0, 8))) + "x", f"L{n % 3}") for n in range(300)]
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\r\n").writerows([("text", "label"), *rows])
    examples = delimited(tmp_path, file.getvalue())
    assert texts_and_labels(examples) == rows
    num_lines_before = [2 + sum(text.count("\n") + 1 for text, _ in rows[:n]) for n in range(len(rows))]
    assert lines_of(examples) == num_lines_before


def test_quotes_are_data_in_unquoted_tsv(tmp_path: Path) -> None:
    content = 'text\tlabel\n"Sawa" alisema\tgood\n"Hapana\tbad\n""\tgood\nyeye "\tbad\n'
    assert texts_and_labels(delimited(tmp_path, content, quoted=False)) == [
        ('"Sawa" alisema', "good"), ('"Hapana', "bad"), ('""', "good"), ('yeye "', "bad"),
    ]  # fmt: skip


def test_quotes_enclose_fields_in_quoted_tsv(tmp_path: Path) -> None:
    content = 'text\tlabel\n"a\ttab, a ""word"" and\na\tline"\tgood\nan inch is 1"\tbad\n'
    examples = delimited(tmp_path, content, quoted=True)
    assert texts_and_labels(examples) == [('a\ttab, a "word" and\na\tline', "good"), ('an inch is 1"', "bad")]
    assert lines_of(examples) == [2, 4]


@pytest.mark.parametrize(("content", "line"), [
    pytest.param('text\tlabel\nx\tgood\n"Sawa" alisema\tgood\n', 3, id="text after the closing quote"),
    pytest.param('text\tlabel\n"Sawa\tgood\nx\tbad\n', 2, id="never closed"),
    pytest.param('text\tlabel\nx\tbad\n"Sawa\tgood\nNdiyo\tgood\nsana"\tbad\n', 3, id="closed at the end of a text"),
])  # fmt: skip
def test_unquoted_tsv_read_as_quoted_is_refused_and_says_so(tmp_path: Path, content: str, line: int) -> None:
    assert delimited(tmp_path, content, quoted=False)
    with pytest.raises(InputError, match="`quoted: false`") as error:
        delimited(tmp_path, content, quoted=True)
    assert str(error.value).startswith(f"{tmp_path / 'train.csv'}:{line}: ")


@pytest.mark.parametrize("content", ['text\tlabel\nx\tbad\n"a\nb"\tgood\n', 'text\tlabel\nx\tbad\n"a\tb"\tgood\n'])
def test_quoted_tsv_read_as_unquoted_is_refused_and_says_so(tmp_path: Path, content: str) -> None:
    assert delimited(tmp_path, content, quoted=True)
    with pytest.raises(InputError, match="`quoted: true`") as error:
        delimited(tmp_path, content, quoted=False)
    assert str(error.value).startswith(f"{tmp_path / 'train.csv'}:3: ")


def test_one_column_of_quoted_tsv_may_hold_line_breaks(tmp_path: Path) -> None:
    path = tmp_path / "train.tsv"
    path.write_text('text\n"a\nb"\nc\n', encoding="utf-8")
    assert [e.text for e in read_tsv(path, SourceConfig(format="tsv", text="text"), {})] == ["a\nb", "c"]


@pytest.mark.parametrize("quoted", [None, True, False])
def test_empty_label_fields_are_missing_labels(tmp_path: Path, quoted: bool | None) -> None:
    content = "text,label\na,good\nb,\nc,  \nd,0\ne,None\n".replace(",", "," if quoted is None else "\t")
    examples = delimited(tmp_path, content, quoted=quoted)
    assert texts_and_labels(examples) == [("a", "good"), ("b", None), ("c", None), ("d", "0"), ("e", "None")]


def test_spaces_inside_texts_stay_and_those_around_them_go(tmp_path: Path) -> None:
    content = "text\tlabel\n  two  words \tgood\n"
    assert texts_and_labels(delimited(tmp_path, content, quoted=False)) == [("two  words", "good")]


def test_text_pairs_come_from_two_columns(tmp_path: Path) -> None:
    (example,) = delimited(tmp_path, "text,other,label\nA man,Someone,yes\n", text_pair="other")
    assert (example.text, example.text_pair, example.labels) == ("A man", "Someone", {"mood": "yes"})


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "UTF_8", "utf8", "cp1252"])
def test_files_are_read_in_the_encoding_that_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "train.txt"
    path.write_bytes("Zoë\tB-PER\n".encode(encoding))
    heads = {"entities": HeadConfig(type="tagging")}
    (example,) = read_conll(path, SourceConfig(format="conll", encoding=encoding), heads)
    assert example.words == ("Zoë",)


def test_samples_are_the_embedded_corpora_with_a_label_for_every_head() -> None:
    heads = {"a": HeadConfig(type="tagging"), "b": HeadConfig(type="tagging")}
    examples = list(read_samples(Path("samples/ner/dev"), SourceConfig(format="samples", samples="ner"), heads))
    assert [(list(e.words or ()), list(e.labels["a"])) for e in examples] == ner_corpus()["dev"]
    assert all(e.labels["a"] == e.labels["b"] and e.text.split(" ") == list(e.words or ()) for e in examples)
    mood = {"mood": HeadConfig(type="classification")}
    moods = read_samples(Path("samples/sentiment/test"), SourceConfig(format="samples", samples="sentiment"), mood)
    assert texts_and_labels(list(moods)) == sentiment_corpus()["test"]


def test_a_text_of_more_than_131072_characters_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("text,label\n" + "neno " * 40_000 + ",good\n", encoding="utf-8")
    (example,) = read_csv(path, SourceConfig("csv", text="text"), {"mood": HeadConfig("classification", "label")})
    assert example.text.count("neno") == 40_000

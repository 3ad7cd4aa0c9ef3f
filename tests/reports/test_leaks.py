"""Leaks in data with a known number of them."""

from __future__ import annotations

from multitask_bert.data.splits import InMemorySplit
from multitask_bert.records import EncodedExample, Example
from multitask_bert.reports.leaks import find_leaks


def dataset(file: str, *texts: str | tuple[str, str]) -> InMemorySplit:
    examples = []
    for line, text in enumerate(texts, start=1):
        first, second = (text, None) if isinstance(text, str) else text
        example = Example(f"{file}:{line}", first, {}, text_pair=second)
        examples.append(EncodedExample(example, (), (), (), {}))
    return InMemorySplit(examples)


def test_leaks_are_counted_for_every_pair_of_tasks_and_sorted_by_size() -> None:
    train = {
        "ner": dataset("ner/train", "Amina yuko Dar .", "Juma", "Juma", "siku moja"),
        "mood": dataset("mood/train", "zuri sana", "mbaya"),
    }
    others = {
        "dev": {"mood": dataset("mood/dev", "bora", "Mbaya")},
        "test": {
            "ner": dataset("ner/test", "Amina", "Zuri  sana", "JUMA"),
            "mood": dataset("mood/test", "Amina yuko Dar.", "siku moja", "siku moja", "nzuri"),
        },
    }
    found = {(leak.task, leak.split, leak.train_task): leak for leak in find_leaks(train, others)}
    assert {key: leak.num_examples for key, leak in found.items()} == {
        ("mood", "test", "ner"): 3,
        ("mood", "dev", "mood"): 1,
        ("ner", "test", "ner"): 1,
        ("ner", "test", "mood"): 1,
    }
    assert next(iter(found)) == ("mood", "test", "ner")
    assert found["mood", "test", "ner"].share == 3 / 4
    assert found["ner", "test", "ner"].places == [("ner/test:3", "ner/train:2", "JUMA")]
    assert len(found["mood", "test", "ner"].places) == 3


def test_a_pair_leaks_only_where_both_texts_do() -> None:
    train = {"sick": dataset("train", ("a man eats", "a man sleeps"), "a man eats")}
    others = {"test": {"sick": dataset("test", ("a man eats", "a dog sleeps"), ("A man eats", "a man  sleeps"))}}
    (leak,) = find_leaks(train, others)
    assert leak.places == [("test:2", "train:1", "A man eats")]


def test_clean_data_has_no_leaks() -> None:
    assert find_leaks({"a": dataset("train", "x")}, {"test": {"a": dataset("test", "y")}, "dev": {}}) == []

"""Names that MLflow would refuse become names that pass MLflow's own checks."""

from __future__ import annotations

import re
import unicodedata
from itertools import product

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_metric, _validate_param, _validate_tag

from multitask_bert.tracking.mlflow.names import MAX_KEY_LENGTH, key_of, name_of, text_of

LABELS = (
    "C++", "C**", "C#", "C_", "http://schema.org/Person", "a/../b", "km//h", "/a", "a/", "./a", "../a", "..a", "..",
    ".", "!", "@", "#", "😀", "e\N{COMBINING ACUTE ACCENT}", "é", "सकारात्मक", "line\n", "tab\t", "nul\0", "half \ud800",
    ":", "::", ":plus sign:", "C:plus sign::plus sign:", ":colon:plus sign:colon:",
    "x" * 300, "x" * 299 + "y", "+" * 249, "+" * 250,
)  # fmt: skip


def is_taken(key: str) -> bool:
    try:
        _validate_metric(key, 0.5, 0, 0)
        _validate_param(key, "x")
        _validate_tag(key, "x")
    except MlflowException:
        return False
    return True


def read_back(key: str) -> str:
    """The name that a key was made from, with the character for each Unicode name between colons."""
    return re.sub(r":([a-z0-9 -]+):", lambda match: unicodedata.lookup(match[1]), key)


@pytest.mark.parametrize("label", LABELS)
def test_mlflow_accepts_the_key_of_any_label(label: str) -> None:
    assert is_taken(key_of(label))
    assert is_taken(key_of(f"eval_task_head_f1_of_{label}"))


@pytest.mark.parametrize("name", ["train_loss", "a/b", "1 - 2", "a:b", "tasks.ner.source.format", "neutralité", "喜び"])
def test_a_name_that_mlflow_accepts_stays_as_it_is(name: str) -> None:
    assert is_taken(name)
    assert key_of(name) == name


def test_no_two_names_become_one_key() -> None:
    names = {"".join(letters) for length in range(1, 6) for letters in product("a:/.+", repeat=length)}
    keys = {key_of(name): name for name in names}
    assert len(keys) == len(names) == 3905
    assert all(read_back(key) == name for key, name in keys.items())
    assert all(map(is_taken, keys))
    assert len({key_of(label) for label in LABELS}) == len(LABELS)


def test_keys_are_read_as_the_characters_that_they_stand_for() -> None:
    assert key_of("f1_of_C++") == "f1_of_C:plus sign::plus sign:"
    assert key_of("http://schema.org/Person") == "http:colon::solidus::solidus:schema.org/Person"
    assert key_of("nul\0") == "nul:u0000:"


def test_long_names_and_values_are_truncated_to_what_mlflow_accepts() -> None:
    keys = {key_of("x" * 300 + end) for end in "abc"}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {MAX_KEY_LENGTH}
    assert text_of("x" * 11, 10) == "x" * 9 + "…"
    assert name_of("run", 10) == "run"
    assert len({name_of("x" * 600 + end, 500) for end in "abc"}) == 3


def test_characters_that_databases_refuse_are_escaped_in_values() -> None:
    assert text_of("a\0b\ud800", 100) == r"a\x00b\ud800"

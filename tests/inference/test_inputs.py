"""What can be predicted for, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from multitask_bert.errors import InputError
from multitask_bert.inference.inputs import is_empty, read_input


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ("Amina", "text"),
        ({"text": "Amina"}, "text"),
        ({"text": "Amina", "text_pair": None}, "text"),
        (("Amina", "Juma"), "pair"),
        ({"text": "Amina", "text_pair": "Juma"}, "pair"),
        ({"words": ["Amina", "yuko"]}, "words"),
        ({"text": "Amina yuko", "words": ["Amina", "yuko"]}, "words"),
        ({"question": "nani?", "context": "Amina"}, "question"),
        ({"text": "Amina", "choices": ["a", "b"]}, "choices"),
    ],
)
def test_the_keys_tell_what_an_input_is(raw: Any, kind: str) -> None:
    item = read_input(raw, "here")
    assert item.input_type == kind
    assert item.example.text in ("Amina", "Amina yuko", "nani?")
    if isinstance(raw, dict):
        assert {**item.shown, **raw} == item.shown


def test_a_word_may_be_white_space_as_in_training_data() -> None:
    assert read_input({"words": ["Amina", "\u00a0", "\u3000"]}, "here").example.words == ("Amina", "\u00a0", "\u3000")


@pytest.mark.parametrize("nothing", [None, float("nan")])
@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ({"text": ...}, "text"),
        ({"text": ..., "text_pair": "Juma"}, "pair"),
        ({"words": ...}, "words"),
        ({"words": ["Amina"], "text": ...}, "words"),
        ({"question": "nani?", "context": ...}, "question"),
        ({"text": ..., "choices": ["a", "b"]}, "choices"),
        ({"text": "Amina", "choices": ["a", ...]}, "choices"),
    ],
)
def test_null_is_an_empty_text(raw: dict[str, Any], kind: str, nothing: Any) -> None:
    fill = {key: [nothing if one is ... else one for one in value] if isinstance(value, list) else value
            for key, value in raw.items()}  # fmt: skip
    item = read_input({key: nothing if value is ... else value for key, value in fill.items()}, "here")
    assert item.input_type == kind
    assert is_empty(item.example) == (raw.get("words") != ["Amina"])


def test_an_output_can_be_given_as_input_again() -> None:
    shown = read_input({"id": 1, "words": ["Amina", "yuko"]}, "here").shown
    again = read_input({**shown, "truncated": True, "predictions": {"mood": {}}}, "here")
    assert (again.input_type, again.shown) == ("words", shown)


@pytest.mark.parametrize(
    "raw",
    [
        {"text": "Amina", "truncated": True},
        {"text": "Amina", "truncated": "at 80"},
        {"text": "Amina", "truncated": "at 80", "predictions": {}},
    ],
)
def test_a_key_truncated_of_the_users_own_stays(raw: dict[str, Any]) -> None:
    assert read_input(raw, "here").shown == {key: value for key, value in raw.items() if key != "predictions"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (7, r"here: int 7 cannot be predicted for; give a text"),
        (("a", "b", "c"), r"here: tuple .* cannot be predicted for"),
        ({"tekst": "Amina"}, r"here: found the keys tekst; give a text"),
        ({}, r"here: found the keys none; give a text"),
        ({"context": "Amina"}, r"here: found the keys context"),
        ({"text": 7}, r"here: `text` must be a string, not int 7"),
        ({"text": "a", "text_pair": ["b"]}, r"here: `text_pair` must be a string, not list"),
        ({"words": "Amina"}, r"here: `words` must be a list of strings, but is str 'Amina'"),
        ({"words": ["Amina", 7]}, r"here: `words` must hold strings, not int 7"),
        ({"words": ["Amina", " "]}, r"here: `words` has an empty word; leave it out"),
        ({"words": ["Amina"], "text": "Juma"}, r"here: `text` is not the words joined by spaces"),
        ({"text": "a", "choices": "b"}, r"here: `choices` must be a list of strings"),
        ({"text": "half \ud83d"}, r"here: `text` holds half a surrogate pair \(U\+D83D\)"),
    ],
)
def test_a_file_that_is_not_read_is_refused_with_the_formats_that_are(raw: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_input(raw, "here")

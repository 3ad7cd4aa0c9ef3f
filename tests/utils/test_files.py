"""Names of folders."""

from __future__ import annotations

import pytest

from multitask_bert.utils.files import HASH_DIGITS, NAME_BYTES, short_name


@pytest.mark.parametrize("name", ["x" * 300, "ñ" * 100, "x" + "ñ" * 100, "😀" * 70])
def test_long_names_are_shortened_between_two_characters_and_stay_different(name: str) -> None:
    short = short_name(name)
    assert NAME_BYTES - 4 < len(short.encode()) <= NAME_BYTES
    assert name.startswith(short[: -HASH_DIGITS - 1])
    assert short_name(name) == short != short_name(f"{name}x")


def test_other_names_stay_as_they_are() -> None:
    assert short_name("ner+sentiment") == "ner+sentiment"

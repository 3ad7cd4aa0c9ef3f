"""Names of folders."""

from __future__ import annotations

import pytest

from multitask_bert.utils.files import MAX_NAME_BYTES, as_folder_name


@pytest.mark.parametrize("name", ["x" * 300, "ñ" * 100, "x" + "ñ" * 100, "😀" * 70])
def test_long_names_are_cut_between_two_characters(name: str) -> None:
    cut = as_folder_name(name)
    assert MAX_NAME_BYTES - 4 < len(cut.encode()) <= MAX_NAME_BYTES
    assert name.startswith(cut.removesuffix("..."))


def test_other_names_stay_as_they_are() -> None:
    assert as_folder_name("ner+sentiment") == "ner+sentiment"

"""What `--help` and docs/settings.md say of the keys; the help itself is tested in tests/test_command_line.py."""

from __future__ import annotations

from multitask_bert.config.help import USED_MOST, keys_help, settings_page
from multitask_bert.data.readers import READERS
from multitask_bert.heads import HEAD_TYPES
from tests.composing import ROOT


def test_the_page_of_settings_is_that_of_the_schema() -> None:
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_page(), "write it anew: python -m multitask_bert.config.help >docs/settings.md"


def test_the_page_of_settings_names_keys_of_tasks_and_heads() -> None:
    page = settings_page()
    assert "| `tasks.<name>.heads.<name>.weight` | `1.0` | factor of this head's mean loss" in page
    assert "| `tasks.<name>.source.format` | required | " in page


def test_the_page_of_settings_names_every_head_type_and_format() -> None:
    page = settings_page()
    types = " \\| ".join(HEAD_TYPES)
    assert f"| `tasks.<name>.heads.<name>.type` | required | {types} |" in page
    formats = page.partition("| `tasks.<name>.source.format` | required | ")[2].partition(" |\n")[0]
    assert set(formats.split(" \\| ")) == {*READERS, "samples"}


def test_help_has_one_line_for_each_key_that_is_used_most() -> None:
    assert [line.split()[0] for line in keys_help().splitlines()] == list(USED_MOST)

"""The order of the words on the command line."""

from __future__ import annotations

import pytest
from hydra._internal.utils import get_args_parser

from multitask_bert.command_line.arguments import WITH_VALUE, options_first


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("tasks=ner -m seed=1,2", "-m tasks=ner seed=1,2"),
        ("tasks=ner --config-dir my_conf seed=1 --multirun", "--config-dir my_conf --multirun tasks=ner seed=1"),
        ("a=-1 ~b +c=2 -cd=d=e e=3", "-cd=d=e a=-1 ~b +c=2 e=3"),
        ("tasks=ner --info all", "tasks=ner --info all"),
        ("--info tasks=ner", "--info tasks=ner"),
        ("-sc query=bash", "-sc query=bash"),
        ("", ""),
    ],
)
def test_options_stand_before_overrides_with_their_values(typed: str, read: str) -> None:
    assert options_first(typed.split()) == read.split()


def test_every_option_that_hydra_reads_a_value_for_is_known() -> None:
    actions = get_args_parser()._actions
    assert {name for action in actions if action.nargs is None for name in action.option_strings} == WITH_VALUE

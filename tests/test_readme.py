"""The commands that the README shows can be typed as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from multitask_bert.config.checks import check
from multitask_bert.config.overrides import quote_compared_runs
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.heads import check_heads
from tests.composing import ROOT, config_of, run_line

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python run\.py +(.*?)(?: +#.*)?$", README, re.MULTILINE)
ON_OWN_DATA = [command for command in COMMANDS if command.startswith("--config-dir my_conf ")]
ON_OUR_DATA = sorted(set(COMMANDS) - set(ON_OWN_DATA) - {"--help"})


def single_runs(command: str) -> list[list[str]]:
    """The words of a command; of a multirun (`-m seed=1,2`), the words of those with its first and its last values."""
    words = shlex.split(command)
    if words[0] != "-m":
        return [words]
    settings = [word.partition("=") for word in words[1:]]
    return [[f"{key}={values.split(',')[index]}" for key, _, values in settings] for index in (0, -1)]


@pytest.mark.parametrize("command", ON_OUR_DATA)
def test_a_command_of_the_readme_composes_and_is_accepted(command: str) -> None:
    for words in single_runs(command):
        config = config_of(*quote_compared_runs(words))  # as run.py does
        check(config)
        check_heads(config)
        assert config.tasks


@pytest.mark.parametrize("command", ON_OWN_DATA)
def test_a_command_on_ones_own_data_trains_on_the_file_that_the_readme_shows(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[ExperimentConfig] = []
    monkeypatch.setattr("multitask_bert.actions.run", ran.append)
    monkeypatch.chdir(tmp_path)
    ((file, text),) = re.findall(r"`(my_conf/\S+\.yaml)`:\n\n```yaml\n(.*?)```", README, re.DOTALL)
    Path(file).parent.mkdir(parents=True)
    Path(file).write_text(text, encoding="utf-8")
    run_line(*shlex.split(command))
    (config,) = ran
    assert config.tasks["reviews"].source.folder == "/data/reviews"


def test_the_readme_has_commands_to_check() -> None:
    assert len(ON_OUR_DATA) >= 7
    assert len(ON_OWN_DATA) == 2

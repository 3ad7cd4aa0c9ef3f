"""What the README shows can be typed: its commands compose, its YAML is valid, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from multitask_bert.config.checks import check
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import from_tree
from multitask_bert.heads import check_heads
from tests.composing import ROOT, config_of

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python run\.py +(.*?)(?: +#.*)?$", README, re.MULTILINE)


@pytest.mark.parametrize("command", [c for c in COMMANDS if not c.startswith("-")])
def test_a_command_of_the_readme_composes_and_is_accepted(command: str) -> None:
    config = config_of(*shlex.split(command))
    check(config)
    check_heads(config)
    assert config.tasks


def test_the_readme_has_commands_to_check() -> None:
    assert len(COMMANDS) >= 7


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_task_configs_shown_in_a_page_are_accepted(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        rest = {"model": {"pretrained": "x"}}
        tree = OmegaConf.create({"tasks": OmegaConf.create(block), **rest})
        config = from_tree(OmegaConf.merge(OmegaConf.structured(ExperimentConfig), tree))  # type: ignore[arg-type]
        check(config)
        check_heads(config)
        assert config.tasks


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_to_files_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize(
    "group", sorted({path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"hydra"})
)
def test_the_readme_names_every_option_of_a_group(group: str) -> None:
    (row,) = re.findall(rf"^\| `{group}` \|.*$", README, re.MULTILINE)
    missing = [path.stem for path in (ROOT / "conf" / group).glob("*.yaml") if f"`{path.stem}`" not in row]
    assert not missing

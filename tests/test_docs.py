"""The pages for the reader: the index leads to every page, and every link leads to a file and a heading that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from multitask_bert.config.checks import check
from multitask_bert.config.families import FAMILIES, task_of
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import from_tree
from multitask_bert.heads import check_heads
from tests.composing import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
PAGES_WITH_TASKS = [page for page in PAGES if page.parent.name != "own"]  # test_own_code.py runs the whole of those
CONFIGURING = (DOCS / "configuring.md").read_text(encoding="utf-8")
GROUPS = sorted({path.name for path in (ROOT / "conf").iterdir() if path.is_dir()} - {"hydra", FAMILIES})


def text_of(page: Path) -> str:
    """What a page says, without its blocks of code."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links_of(text: str) -> list[tuple[str, str]]:
    """(file, heading) of every link within the repository; an empty file is the page itself."""
    return re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text)


def anchors_of(text: str) -> set[str]:
    """The headings of a page, as GitHub and MkDocs spell them in links."""
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for file, heading in links_of(text):
        target = page.parent / file if file else page
        if not target.exists() or (heading and heading not in anchors_of(text_of(target))):
            broken.append(f"{file}#{heading}" if heading else file)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_to_files_and_headings_that_exist(page: Path) -> None:
    assert broken_links(page, text_of(page)) == []


@pytest.mark.parametrize(
    "link", ["[a](nowhere.md)", "[a](flow.md#nowhere)", "[a](#nowhere)", "[a](tasks/nowhere.md#it)"]
)
def test_a_broken_link_is_found(link: str) -> None:
    assert len(broken_links(DOCS / "index.md", link)) == 1


def test_links_to_headings_and_to_the_web_are_left_alone() -> None:
    assert broken_links(DOCS / "index.md", "[a](flow.md#floors) [b](https://example.org/x) [c](../README.md)") == []


def test_the_index_leads_to_every_page_and_to_the_glossary_first() -> None:
    linked = [(DOCS / file).resolve() for file, _ in links_of(text_of(DOCS / "index.md"))]
    assert linked[0] == DOCS / "glossary.md"
    assert [page for page in DOCS.rglob("*.md") if page not in linked and page.name != "index.md"] == []


@pytest.mark.parametrize("page", PAGES_WITH_TASKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_task_configs_shown_in_a_page_are_accepted(page: Path) -> None:
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        rest = {"model": {"pretrained": "x"}}
        tasks: Any = OmegaConf.to_container(OmegaConf.create(block))
        if "languages" in tasks:  # a family's file, of which some languages have no train set
            tasks = {language: task_of(tasks, language, str(page)) for language in tasks["languages"]}
            tasks = {language: task for language, task in tasks.items() if "train" in task["source"]}
        tree = OmegaConf.create({"tasks": tasks, **rest})
        config = from_tree(OmegaConf.merge(OmegaConf.structured(ExperimentConfig), tree))  # type: ignore[arg-type]
        check(config)
        check_heads(config)
        assert config.tasks


def test_the_pages_on_families_and_configuring_name_every_family() -> None:
    page = (DOCS / "families.md").read_text(encoding="utf-8")
    names = [path.stem for path in (ROOT / "conf" / FAMILIES).glob("*.yaml")]
    assert [name for name in names if f"\n| `{name}` |" not in page or f"`{name}_…`" not in CONFIGURING] == []


@pytest.mark.parametrize("group", GROUPS)
def test_the_page_on_configuring_names_every_option_of_a_group(group: str) -> None:
    (row,) = re.findall(rf"^\| `{group}` \|.*$", CONFIGURING, re.MULTILINE)
    missing = [path.stem for path in (ROOT / "conf" / group).glob("*.yaml") if f"`{path.stem}`" not in row]
    assert not missing

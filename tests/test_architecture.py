"""The floors of the house: imports point down only, and the spine knows no head type by name."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from multitask_bert.heads import HEAD_TYPES
from tests.composing import HEAVY_PACKAGES

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "multitask_bert"
FLOORS = {
    "notebook": 14, "cli": 14, "actions": 13, "command_line": 12, "run_extras": 12,
    "studies": 11, "sweeps": 11, "reports": 11, "serving": 11, "export": 11,
    "training": 10, "inference": 10,
    "saving": 9, "tracking": 9,
    "data": 8, "model": 8,
    "heads": 7,
    "config": 6,
    "trust": 5,
    "train_state": 4, "records": 4, "labels": 4,
    "utils": 2,
    "errors": 1,
}  # fmt: skip
SPINE = ("data", "model", "training")
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
TEST_FILES = sorted(path.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("*.py"))


def room_of(file: str) -> str:
    """`data/readers.py` -> `data`; `config.py` -> `config`; the package's own `__init__.py` -> empty."""
    return file.partition("/")[0].removesuffix(".py").replace("__init__", "")


def imported_rooms(source: str) -> Iterator[str]:
    """The rooms that a file imports from, wherever in the file it does."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write imports in full, so that their direction can be read"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("multitask_bert."))


def floor_violations(file: str, source: str) -> list[str]:
    """What a file imports from its own floor (another room) or from above."""
    here = room_of(file)
    found = []
    for there in imported_rooms(source):
        is_downwards = here in FLOORS and there in FLOORS and FLOORS[there] < FLOORS[here]
        if there != here and not is_downwards:
            found.append(f"{file}: {here or 'the package itself'} must not import {there}")
    return found


def named_head_types(source: str) -> list[str]:
    """The concrete head types that a file names in code: as a string, as a class, or as a module."""
    classes = {head.__name__ for head in HEAD_TYPES.values()}
    modules = {head.__module__ for head in HEAD_TYPES.values()}
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in HEAD_TYPES:
            found.append(f"line {node.lineno}: '{node.value}'")
        elif isinstance(node, ast.Import):
            found += [f"line {node.lineno}: {alias.name}" for alias in node.names if alias.name in modules]
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            full = {f"{node.module}.{name}" for name in names}
            found += [f"line {node.lineno}: {name}" for name in sorted((full | {str(node.module)}) & modules)]
            found += [f"line {node.lineno}: {name}" for name in sorted(names & classes)]
    return found


@pytest.mark.parametrize("file", FILES)
def test_imports_point_down_only(file: str) -> None:
    assert floor_violations(file, (PACKAGE / file).read_text(encoding="utf-8")) == []


def test_every_room_has_a_floor() -> None:
    assert {room_of(file) for file in FILES} - {""} <= FLOORS.keys()


def test_the_page_on_the_flow_draws_these_floors() -> None:
    page = (ROOT / "docs" / "flow.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (`[^|]*`) \|", page, re.MULTILINE)
    assert {room: int(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)} == FLOORS


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("config/schema.py", "from multitask_bert.data.readers import read"),  # up
        ("heads/tagging.py", "import multitask_bert.training.trainer"),  # up, over two floors
        ("data/readers.py", "from multitask_bert.model import encoder"),  # sideways
        ("training/trainer.py", "def late():\n    from multitask_bert import inference"),  # sideways, inside a function
        ("training/trainer.py", "from multitask_bert.actions import run"),  # up to the top
        ("sweeps/spec.py", "from multitask_bert.studies import verification"),  # sideways
        ("trust/paths.py", "from multitask_bert.config import schema"),  # up, on the ground floor
        ("records.py", "from multitask_bert.labels import LabelSet"),  # sideways, on the ground floor
        ("utils/metrics.py", "from multitask_bert.config.schema import HeadConfig"),  # utils know nothing of ours
        ("__init__.py", "from multitask_bert.config.schema import ExperimentConfig"),  # the package itself stays empty
        ("attic/old.py", "from multitask_bert.config.schema import ExperimentConfig"),  # a room that has no floor
    ],
)
def test_an_import_against_the_floors_is_found(file: str, source: str) -> None:
    assert len(floor_violations(file, source)) == 1


def test_imports_downwards_and_within_a_room_are_allowed() -> None:
    source = (
        "from multitask_bert.errors import InputError\nfrom multitask_bert.train_state import TrainState\nimport os"
    )
    assert floor_violations("training/trainer.py", source) == []


@pytest.mark.parametrize("file", [file for file in FILES if room_of(file) in SPINE])
def test_the_spine_names_no_head_type(file: str) -> None:
    assert named_head_types((PACKAGE / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "if head.type == 'tagging': pass",
        "from multitask_bert.heads.tagging import IOB2_TAG",
        "from multitask_bert.heads import TaggingHead",
        "from multitask_bert.heads import tagging",
        "import multitask_bert.heads.tagging",
    ],
)
def test_a_head_type_named_in_code_is_found(source: str) -> None:
    assert named_head_types(source)


def test_a_docstring_may_speak_of_head_types() -> None:
    assert named_head_types('"""Reads words for tagging and texts for classification."""') == []


def test_importing_the_door_and_the_actions_loads_nothing_heavy() -> None:
    code = f"import run, multitask_bert.actions, sys; print(sorted(set(sys.modules) & set({HEAVY_PACKAGES})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def imported_test_modules(source: str) -> list[str]:
    """The test modules that a file in tests/ imports from."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found += [name for name in names if any(part.startswith("test_") for part in name.split("."))]
    return found


@pytest.mark.parametrize("file", TEST_FILES)
def test_test_modules_are_imported_by_nobody(file: str) -> None:
    """What several of them need stands in conftest.py or in a support module, whose name says what it holds."""
    assert imported_test_modules((ROOT / "tests" / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "from tests.training.test_trainer import recorded",
        "from tests.training import test_trainer",
        "import tests.training.test_trainer",
        "def late():\n    from tests.test_actions import trained",
    ],
)
def test_an_import_of_a_test_module_is_found(source: str) -> None:
    assert imported_test_modules(source)

"""A wheel holds all that a run needs, and its command is the one of the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from multitask_bert.utils import command
from tests.composing import CONF, ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a wheel, built from a copy of the checkout, in a folder of their own."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("unpacked")
    for name in ("multitask_bert", "conf", "hydra_plugins"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        ".",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(target),
    ]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run_installed(unpacked: Path, folder: Path, *arguments: str, **variables: str) -> str:
    """What `multitask-bert ARGUMENTS` prints, where the wheel is installed and this checkout is not."""
    script = folder / command.INSTALLED
    script.write_text(
        f"import sys\nsys.path[:] = [{str(unpacked)!r}, *(p for p in sys.path if p != {str(ROOT)!r})]\n"
        "from multitask_bert.cli import installed\ninstalled()\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-P", str(script), *arguments],
        cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_every_config_template_and_asset(unpacked: Path) -> None:
    package = unpacked / "multitask_bert"
    expected = {path.relative_to(CONF) for path in CONF.rglob("*.yaml")}
    assert {path.relative_to(package / "conf") for path in (package / "conf").rglob("*.yaml")} == expected
    for folder in ("export/templates", "reports/templates", "serving/assets"):
        names = {path.name for path in (ROOT / "multitask_bert" / folder).iterdir() if path.is_file()}
        assert {path.name for path in (package / folder).iterdir() if path.is_file()} == names


def test_the_installed_command_has_the_same_help_and_completion(unpacked: Path, tmp_path: Path) -> None:
    said = run_installed(unpacked, tmp_path, "--help")
    own = subprocess.run([sys.executable, "run.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.replace(command.INSTALLED, "python run.py") == own.stdout
    words = run_installed(unpacked, tmp_path, "-sc", "query=bash", COMP_LINE="multitask-bert tasks=masakhaner2_ha")
    assert words.split() == ["tasks=masakhaner2_hau"]


def test_the_installed_command_trains_into_the_current_folder(unpacked: Path, tmp_path: Path) -> None:
    run_installed(unpacked, tmp_path, "trainer=quick", "model=tiny", "trainer.max_steps=3", "logger=none")
    (results,) = tmp_path.glob("outputs/*/*/results.json")
    assert json.loads(results.read_text(encoding="utf-8"))["steps"] == 3
    run_installed(unpacked, tmp_path, "action=evaluate", f"run_dir={results.parent}")
    assert len(list(tmp_path.glob("outputs/*/*/results.json"))) == 2

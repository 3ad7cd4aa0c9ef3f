"""docs/tutorial.ipynb runs from its first cell to its last, and shows what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.composing import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def numbers_in(value: Any) -> list[float]:
    return [float(found) for found in re.findall(r"\d\.\d+", json.dumps(value))]


def test_notebook_is_kept_without_outputs_and_links_to_pages_that_exist() -> None:
    assert [cell for cell in CELLS if cell.get("outputs") or cell.get("execution_count")] == []
    text = "".join(line for cell in CELLS if cell["cell_type"] == "markdown" for line in cell["source"])
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert [link for link in links if not (NOTEBOOK.parent / link).is_file()] == []


@pytest.mark.slow
def test_cells_train_predict_export_and_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    try:
        for number, cell in enumerate(CELLS):
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
    finally:
        if "server" in names:
            names["server"].kill()
            names["server"].wait()
    assert names["run"].results["metrics"]["test"]["eval_reviews_mood_f1"] > 0.8
    assert [one["predictions"]["reviews"]["mood"]["label"] for one in names["predictions"]] == ["good", "bad"]
    assert names["answer"]["outputs"] == names["on_onnx"]
    assert numbers_in(names["on_onnx"]) == pytest.approx(numbers_in(names["predictions"]), abs=1e-3)
    assert names["server"].returncode == 0
    assert (names["exported"] / "README.md").is_file()

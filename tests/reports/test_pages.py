"""Pages from templates: escaping, tables that sort, and the package that has the templates."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from multitask_bert.reports.pages import SORT_SCRIPT, TextTable, _environment, percent, render
from tests.composing import ROOT
from tests.reports.sweep_studies import check_page


def test_values_never_become_markup_and_control_characters_are_shown() -> None:
    page = render("base.html", title="<b>\x1b[31m</b>", facts={"<i>": "a & \u202eb", "empty": ""}).decode()
    check_page(page)
    assert r"<h1>&lt;b&gt;\x1b[31m&lt;/b&gt;</h1>" in page
    assert r"<dt>&lt;i&gt;</dt><dd>a &amp; \u202eb</dd>" in page
    assert "empty" not in page


def test_a_table_escapes_its_cells_and_marks_its_columns_of_names() -> None:
    template = _environment().from_string('{% from "parts.html" import show_table %}{{ show_table(table) }}')
    html = template.render(table=TextTable("T", ("a", "b"), [("<u>", "1")], num_names=1, note="<s>"))
    assert '<td class="name">&lt;u&gt;</td><td>1</td>' in html
    assert '<p class="note">&lt;s&gt;</p>' in html


def test_a_value_that_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'report' is undefined"):
        render("sweep.html", title="x")


def test_half_a_surrogate_pair_does_not_break_the_page() -> None:
    page = render("base.html", title="\udc80").decode()
    assert r"<title>\udc80</title>" in page  # as text
    check_page(page)


SORT = """
const rows = ROWS.map(text => ({cells: [{textContent: text}]}));
const show = rows => console.log(JSON.stringify(rows.map(row => row.cells[0].textContent)));
const body = {rows: rows, append: (...sorted) => show(sorted)};
const head = {cellIndex: 0, ariaSort: null, closest: () => ({tBodies: [body]}), parentNode: {cells: []}};
head.addEventListener = (name, sort) => { sort(); sort(); };
globalThis.document = {querySelectorAll: () => [head]};
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize(
    ("cells", "ascending"),
    [
        (["10", "9", "-", "1e-05", ""], ["1e-05", "9", "10", "-", ""]),
        (["1,000", "20.5%", "0.81 ± 0.02"], ["0.81 ± 0.02", "20.5%", "1,000"]),
        (["1:02:00", "0:03:20", "10:00:00"], ["0:03:20", "1:02:00", "10:00:00"]),
        (["trial_10", "Trial_2", "adamw"], ["adamw", "Trial_2", "trial_10"]),
    ],
)
def test_a_click_sorts_by_number_or_text_and_the_next_click_the_other_way(
    cells: list[str], ascending: list[str], tmp_path: Path
) -> None:
    script = tmp_path / "sort.js"
    script.write_text(
        SORT.replace("ROWS", json.dumps(cells)) + SORT_SCRIPT.read_text(encoding="utf-8"), encoding="utf-8"
    )
    done = subprocess.run(["node", str(script)], capture_output=True, text=True, timeout=60, check=True)
    first, second = map(json.loads, done.stdout.splitlines())
    missing = [cell for cell in cells if cell in ("", "-")]
    known = [cell for cell in ascending if cell not in missing]
    assert (first, second) == (ascending, [*reversed(known), *missing])


def test_importing_a_page_loads_neither_jinja2_nor_matplotlib() -> None:
    code = "import multitask_bert.reports.pages, sys; print({'jinja2', 'matplotlib', 'optuna'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, "0.0%"), (0.5, "50.0%"), (1.0, "100.0%"), (0.0123, "1.2%"), (0.000042, "0.0042%")]
)
def test_a_small_share_is_not_shown_as_zero(share: float, expected: str) -> None:
    assert percent(share) == expected

"""The page of gradient cosines and lookahead affinities: means, errors, and the grouping that they suggest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from multitask_bert.reports.affinities import (
    MAX_TASKS,
    _divisions,
    best_directed_groupings,
    best_groupings,
    read_affinities,
    suggestion,
    write_affinities,
)
from tests.reports.sweep_studies import check_page


def test_tasks_are_divided_in_every_way_once() -> None:
    found = {frozenset(frozenset(group) for group in groups) for groups in _divisions("abcd")}
    assert len(found) == len(list(_divisions("abcd"))) == 15  # the Bell number of 4
    assert len(list(_divisions("abcdef"))) == 203


def test_tasks_that_agree_are_grouped_and_one_that_disagrees_is_alone() -> None:
    groupings = best_groupings({("a", "b"): 0.4, ("a", "c"): -0.2, ("b", "c"): 0.1})
    assert [one.groups for one in groupings] == [[["a", "b", "c"]], [["a", "b"], ["c"]], [["a"], ["b"], ["c"]]]
    # One group: (0.4 - 0.2) / 2 for a, (0.4 + 0.1) / 2 for b, (-0.2 + 0.1) / 2 for c.
    assert [one.score for one in groupings] == pytest.approx([0.3, 0.8, 0.0])


def test_too_many_tasks_or_none_are_not_grouped() -> None:
    names = [f"t{index}" for index in range(MAX_TASKS + 1)]
    assert best_groupings({("t0", name): 0.1 for name in names[1:]}) == []
    assert best_groupings({}) == []


def test_the_page_has_mean_and_standard_error_of_what_was_logged(tmp_path: Path) -> None:
    lines = [
        {"step": 5, "train_cosine_a.b": 0.1},
        {"step": 5, "train_loss": 1.0},
        {"step": 10, "train_cosine_a.b": 0.3},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    affinities = read_affinities(tmp_path)
    assert affinities is not None
    assert suggestion(affinities.groupings) == "a+b"
    write_affinities(affinities, tmp_path)
    page = (tmp_path / "affinities.html").read_text(encoding="utf-8")
    check_page(page)
    assert "+0.200 ± 0.100" in page
    assert (tmp_path / "affinities.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_cosines_has_no_page(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train_loss": 1.0}\n', encoding="utf-8")
    assert read_affinities(tmp_path) is None


def test_groupings_by_lookahead_affinities_count_both_directions_of_a_pair() -> None:
    onto = {("a", "b"): 0.4, ("b", "a"): -0.1, ("a", "c"): 0.2, ("c", "a"): -0.5, ("b", "c"): 0.1, ("c", "b"): 0.3}
    groupings = best_directed_groupings(onto)
    # Two groups: a+b has 0.3, a+c -0.3, b+c 0.4. One: (-0.1 - 0.5) / 2 onto a, (0.4 + 0.3) / 2 onto b, 0.3 / 2 onto c.
    assert [one.groups for one in groupings] == [[["a", "b", "c"]], [["a"], ["b", "c"]], [["a"], ["b"], ["c"]]]
    assert [one.score for one in groupings] == pytest.approx([0.2, 0.4, 0.0])
    assert suggestion(groupings) == "a, b+c"


def test_the_page_has_lookahead_affinities_beside_the_cosines(tmp_path: Path) -> None:
    lines = [
        {"step": 5, "train_cosine_a.b": 0.1},
        {"step": 5, "train_lookahead_a.b": 1e-4, "train_lookahead_b.a": -3e-4},
        {"step": 10, "train_lookahead_a.b": 3e-4, "train_lookahead_b.a": None},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    affinities = read_affinities(tmp_path)
    assert affinities is not None
    write_affinities(affinities, tmp_path)
    page = (tmp_path / "affinities.html").read_text(encoding="utf-8")
    check_page(page)
    assert "+0.100" in page
    assert "+2.0e-04 ± 1.0e-04" in page
    assert "-3.0e-04" in page
    assert [suggestion(found) for found in (affinities.groupings, affinities.lookahead_groupings)] == ["a+b", "a, b"]
    for name in ("affinities.png", "affinities_lookahead.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    values = json.loads((tmp_path / "affinities.json").read_text(encoding="utf-8"))
    assert [(one["source"], one["target"], one["affinities"]) for one in values["lookahead"]] == [
        ("a", "b", [1e-4, 3e-4]), ("b", "a", [-3e-4]),
    ]  # fmt: skip

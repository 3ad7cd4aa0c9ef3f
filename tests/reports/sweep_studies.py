"""Studies that no sweep trained, and readers of their reports."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from multitask_bert.reports.pages import SORT_SCRIPT
from multitask_bert.reports.sweep import read_sweep
from multitask_bert.reports.sweep_page import page_of

LR, WARMUP, TASKS = "optimizer.lr", "scheduler.warmup_ratio", "tasks"
SPACE = {
    LR: FloatDistribution(1e-5, 1e-3, log=True),
    WARMUP: FloatDistribution(0.0, 0.3),
    TASKS: CategoricalDistribution(["ner", "sentiment", "ner+sentiment"]),
    "adapter.rank": IntDistribution(4, 16),
    # names and choices that no plot or page may trip over
    "$x^{_%": FloatDistribution(-1.0, 1.0),
    "<i>": CategoricalDistribution(["中文 $", "z" * 400, None]),
}


def make_study(directions: tuple[str, ...] = ("maximize",), **about: Any) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(study_name="lr_warmup", directions=directions)
    metrics = ["eval_mean_f1", "eval_loss", "eval_time"][: len(directions)]
    attributes = {"metrics": metrics, "directions": list(directions), "seeds": 1, "fixed_overrides": ["model=tiny"]}
    for name, value in (attributes | about).items():
        study.set_user_attr(name, value)
    return study


def make_trial(number: int, state: TrialState = TrialState.COMPLETE, **given: Any) -> FrozenTrial:
    """Deterministic in `number`. The score depends on the learning rate alone and is best at 1e-4."""
    lr, warmup = 10 ** (-5 + 2 * (0.5 + 0.618 * number) % 2), 0.3 * ((0.37 * number) % 1)
    params = given.pop("params", {LR: lr, WARMUP: warmup, TASKS: list(SPACE[TASKS].choices)[number % 3]})
    if state == TrialState.COMPLETE and "values" not in given:
        given.setdefault("value", 0.8 - 0.1 * (math.log10(lr) + 4) ** 2)
    attributes = {"folder": f"trial_{number:04d}", "overrides": [f"{LR}={lr}"], **given.pop("user_attrs", {})}
    distributions = {name: SPACE[name] for name in params}
    return create_trial(state=state, params=params, distributions=distributions, user_attrs=attributes, **given)


def busy_study() -> optuna.Study:
    """24 trials: 18 complete, 3 pruned, 2 failed, 1 running."""
    study = make_study()
    for number in range(24):
        reports = {50: 0.3 + 0.01 * number, 100: 0.4 + 0.01 * number}
        if number in (5, 11, 17):
            study.add_trial(make_trial(number, TrialState.PRUNED, intermediate_values={50: 0.3125}))
        elif number in (7, 9):
            error = "OutOfMemoryError: <b>2 GiB</b>\n  second line"
            study.add_trial(make_trial(number, TrialState.FAIL, user_attrs={"error": error} if number == 7 else {}))
        elif number == 23:
            study.add_trial(make_trial(number, TrialState.RUNNING, intermediate_values={50: 0.5}))
        else:
            study.add_trial(
                make_trial(number, intermediate_values=reports, user_attrs={"scores": {"eval_loss": 0.4321}})
            )
    return study


def read_page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def page_without_plots(study: optuna.Study) -> str:
    """The text of the page; drawing takes longer."""
    return page_of(read_sweep(study), []).decode()


def read_json_report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


def table(page: str, title: str) -> list[list[str]]:
    """The rows below this title, the header first."""
    html = page.split(f"<h2>{title}</h2>")[1].split("</table>")[0]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    return [[unescape(cell) for cell in row] for row in rows]


def plots(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "plots").iterdir()}


class Checker(HTMLParser):
    """Refuses tags that do not close; collects tags, sources, scripts and the content security policy."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.tags: set[str] = set()
        self.scripts: list[str] = []
        self.policies: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, Any]]) -> None:
        self.tags.add(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag == "meta" and dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policies.append(dict(attrs)["content"])
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: str) -> None:
    """Check that it is well-formed, loads nothing, and that its one script is ours and the only one allowed."""
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.tags.isdisjoint({"link", "iframe"})
    script = SORT_SCRIPT.read_bytes()
    assert checker.scripts == [script.decode()]
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-%s'"
    assert checker.policies == [policy % digest]
    assert all(source.startswith("data:image/png;base64,") for source in checker.sources)
    assert not re.search(r"https?:|url\(|@import", page)

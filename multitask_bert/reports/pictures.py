"""The pictures of a finished run: `pictures/*.png` and the page `pictures.html`.

predictions/, metrics.jsonl, results.json -> counts per head -> plots -> files
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multitask_bert.config.schema import ExperimentConfig, run_name
from multitask_bert.heads import Head, head_type
from multitask_bert.reports.label_counts import Confusion, LabelCounts, count_labels
from multitask_bert.reports.pages import Plot, TextTable, render
from multitask_bert.saving.predictions import FOLDER as PREDICTIONS
from multitask_bert.saving.predictions import HEADS, KeptAnswer, read_heads, read_predictions, sets_of
from multitask_bert.saving.run_folder import PICTURES, RESULTS, read_results
from multitask_bert.tracking.loggers import METRICS_FILE
from multitask_bert.utils.calibration import Reliability, reliability
from multitask_bert.utils.files import write_bytes

if TYPE_CHECKING:
    from multitask_bert.reports.picture_plots import Curve

log = logging.getLogger(__name__)

FOLDER = "pictures"


@dataclass(frozen=True)
class HeadFigures:
    """What is drawn of one head, on one set of examples."""

    name: str  # task.head
    set: str  # test, test.NAME or dev
    num_examples: int
    confusion: Confusion | None
    labels: list[LabelCounts]
    reliability: Reliability | None

    @property
    def unit(self) -> str:
        return "examples" if self.confusion is None else self.confusion.unit


@dataclass(frozen=True)
class HeadSection:
    """The part of the page on one head."""

    title: str
    fact: str
    plots: list[Plot]
    table: TextTable


def draw_pictures(config: ExperimentConfig, folder: Path) -> list[Path]:
    """Draw what a run has left in its folder; return the files, the page last; empty if there is nothing to draw.

    An error is logged and not raised, since the run itself is done.
    """
    try:
        return _draw(config, folder)
    except Exception as error:  # drawing, fonts, or a full disk
        log.warning("%s: the pictures of the run could not be drawn (%s)", folder, error, exc_info=True)
        return []


def _draw(config: ExperimentConfig, folder: Path) -> list[Path]:
    from multitask_bert.reports import picture_plots

    calibrations = read_results(folder).get("calibration", {}) if (folder / RESULTS).is_file() else {}
    with picture_plots.drawing():
        curves = [picture_plots.curves_plot(*found)] if any(found := read_curves(config, folder)) else []
        sections = [_section(figures, calibrations.get(figures.name)) for figures in read_figures(folder)]
        sections = [section for section in sections if section.plots]
    plots = [*curves, *(plot for section in sections for plot in section.plots)]
    if not plots:
        return []
    (folder / FOLDER).mkdir(exist_ok=True)
    files = [folder / FOLDER / f"{plot.name}.png" for plot in plots]
    for plot, file in zip(plots, files, strict=True):
        write_bytes(file, plot.png)
    page = render("pictures.html", title=f"Pictures of {run_name(config)}", curves=curves, sections=sections)
    write_bytes(folder / PICTURES, page)
    return [*files, folder / PICTURES]


def read_figures(folder: Path) -> Iterator[HeadFigures]:
    """The figures of every head of which the run has kept predictions: on test, else a named test set, else dev."""
    if not (folder / PREDICTIONS / HEADS).is_file():
        return
    heads = read_heads(folder)
    drawn: set[str] = set()
    for name in sorted(sets_of(folder), key=lambda one: (one == "dev", one)):
        answers: dict[tuple[str, str], list[KeptAnswer]] = {}
        for example in read_predictions(folder, name):
            for head_name, answer in example.answers.items() if example.task not in drawn else ():
                if answer.gold is not None and answer.predicted is not None:
                    answers.setdefault((example.task, head_name), []).append(answer)
        for (task, head_name), found in sorted(answers.items()):
            drawn.add(task)
            yield figures_of(f"{task}.{head_name}", name, heads[task][head_name], found)


def figures_of(name: str, set_name: str, head: Head, answers: Sequence[KeptAnswer]) -> HeadFigures:
    """Count the answers of one head, none of which is missing."""
    confusion, labels = count_labels(
        head, [answer.gold for answer in answers], [answer.predicted for answer in answers]
    )
    confidences = [confidence(answer) for answer in answers] if confusion is not None else []
    measured = None
    if confidences and None not in confidences:
        are_right = [answer.gold == answer.predicted for answer in answers]
        measured = reliability([one for one in confidences if one is not None], are_right)
    return HeadFigures(name, set_name, len(answers), confusion, labels, measured)


def confidence(answer: KeptAnswer) -> float | None:
    """The probability of the predicted label or choice; None: the head gives none."""
    if isinstance(answer.predicted, int) and answer.predicted < len(answer.scores):
        return answer.scores[answer.predicted]
    return answer.probabilities.get(answer.predicted) if isinstance(answer.predicted, str) else None


def read_curves(config: ExperimentConfig, folder: Path) -> tuple[dict[str, Curve], dict[str, Curve]]:
    """Losses on train by task, and the headline scores on dev by `task.head metric`, from `metrics.jsonl`."""
    of_loss = {f"train_{task}_loss": task for task in config.tasks}
    of_score = {
        f"eval_{task}_{name}_{metric}": f"{task}.{name} {metric}"
        for task, one in config.tasks.items()
        for name, head in one.heads.items()
        for metric in head_type(head.type).keys_of(head)[:1]
    }
    losses: dict[str, tuple[list[int], list[float]]] = {}
    scores: dict[str, tuple[list[int], list[float]]] = {}
    for metrics in _metrics(folder):
        for names, curves in ((of_loss, losses), (of_score, scores)):
            for key in names.keys() & metrics.keys():
                if math.isfinite(value := float(metrics[key])):
                    steps, values = curves.setdefault(names[key], ([], []))
                    steps.append(int(metrics["step"]))
                    values.append(value)
    return dict(sorted(losses.items())), dict(sorted(scores.items()))


def _metrics(folder: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of `metrics.jsonl`; none for the folder of an evaluation, which has no such file."""
    path = folder / METRICS_FILE
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:  # a run that was killed may leave half a line
                    continue


def _section(figures: HeadFigures, calibration: Mapping[str, Any] | None) -> HeadSection:
    from multitask_bert.reports import picture_plots

    plots = []
    if figures.confusion is not None:
        plots.append(picture_plots.confusion_plot(figures.name, figures.set, figures.confusion))
    if figures.reliability is not None:
        plots.append(picture_plots.reliability_plot(figures.name, figures.set, figures.reliability))
    if figures.labels:
        plots.append(picture_plots.label_bars(figures.name, figures.set, figures.labels, figures.unit))
    fact = f"On {figures.set}: {figures.num_examples:,} labelled examples." + _calibrated(calibration)
    return HeadSection(figures.name, fact, plots, _table(figures))


def _calibrated(calibration: Mapping[str, Any] | None) -> str:
    """As in ` Temperature 1.41, fitted on dev: expected calibration error on dev 0.081 -> 0.012.`"""
    if calibration is None:
        return ""
    errors = ", ".join(
        f"on {split} {calibration[split]['before']:.4f} -> {calibration[split]['after']:.4f}"
        for split in ("dev", "test")
        if calibration.get(split) is not None
    )
    return f" Temperature {calibration['temperature']:.3f}, fitted on dev: expected calibration error {errors}."


def _table(figures: HeadFigures) -> TextTable:
    rows = [
        (one.name, _number(one.precision), _number(one.recall), f"{one.f1:.3f}", f"{one.gold:,}", f"{one.predicted:,}")
        for one in figures.labels
    ]
    columns = ("label", "precision", "recall", "F1", f"gold {figures.unit}", f"predicted {figures.unit}")
    return TextTable("Labels", columns, rows, num_names=1)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"

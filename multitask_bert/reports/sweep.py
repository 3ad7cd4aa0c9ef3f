"""The report of a sweep, at any time of it: one page, its plots, and `report.json`.

study -> figures (sweep_figures.py) -> plots (sweep_plots.py) -> page (sweep_page.py)
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import optuna

from multitask_bert.reports.sweep_figures import SweepReport, read_sweep
from multitask_bert.reports.sweep_page import page_of
from multitask_bert.reports.sweep_plots import draw_plots
from multitask_bert.utils.files import finite, write_bytes, write_json

__all__ = ["PAGE", "SweepReport", "read_sweep", "write_sweep_report"]

PAGE, FIGURES, PLOTS = "report.html", "report.json", "plots"


def write_sweep_report(study: optuna.Study, folder: Path) -> SweepReport:
    """Write `report.html`, `report.json` and `plots/*.png` in `folder`, of what the study holds by now."""
    report = read_sweep(study)
    plots = draw_plots(report)
    (folder / PLOTS).mkdir(parents=True, exist_ok=True)
    for plot in plots:
        write_bytes(folder / PLOTS / f"{plot.name}.png", plot.png)
    write_bytes(folder / PAGE, page_of(report, plots))
    write_json(folder / FIGURES, finite(asdict(report)))
    return report

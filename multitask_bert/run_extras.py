"""What a run has beside its training: a name and tags on a tracking server, pictures, a page of affinities.

Heavy imports happen inside.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from multitask_bert.config.schema import ExperimentConfig, run_name
from multitask_bert.config.sweep_config import PARENT_RUN, TRIAL
from multitask_bert.tracking.mlflow.state import PARENT_TAG
from multitask_bert.utils.files import shown
from multitask_bert.utils.terminal import make_console
from multitask_bert.utils.versions import checkout

log = logging.getLogger(__name__)


def logged_name(config: ExperimentConfig, folder: Path) -> str:
    """The run's name on a tracking server, with trial, job and seed where it is one of several."""
    parts = [run_name(config)]
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    if TRIAL in os.environ:
        parts.append(f"trial {os.environ[TRIAL]}")
    elif hydra is not None and hydra.mode == RunMode.MULTIRUN:
        parts.append(f"job {hydra.job.num}")
    own = None if hydra is None or OmegaConf.is_missing(hydra.runtime, "output_dir") else hydra.runtime.output_dir
    is_inside = own is not None and folder.absolute() != Path(own).absolute()  # one of several runs of a job
    if len(parts) > 1 or is_inside:
        parts.append(f"seed {config.seed}")
    return ", ".join(parts)


def run_tags(config: ExperimentConfig) -> dict[str, str]:
    """Tags by which a run can be found on a tracking server: tasks, model, seed, and the code's commit."""
    tags = {"tasks": "+".join(config.tasks), "model": config.model.pretrained or "random", "seed": str(config.seed)}
    if code := checkout():
        tags["git_commit"] = code["commit"] + ("+changes" if code["is_changed"] else "")
    if TRIAL in os.environ:
        tags["trial"] = os.environ[TRIAL]
    if parent := os.environ.get(PARENT_RUN):
        tags[PARENT_TAG] = parent
    return tags


def pictures_of(config: ExperimentConfig) -> Callable[[Path], list[Path]] | None:
    """What draws the pictures of a run; None: the config asks for none, or the run is one of a sweep's many."""
    from multitask_bert.reports.pictures import draw_pictures

    return partial(draw_pictures, config) if config.trainer.pictures and TRIAL not in os.environ else None


def show_affinities(folder: Path) -> None:
    """Write the page of the affinities that a run has measured; an error is logged, since the run itself is done."""
    from multitask_bert.reports.affinities import PAGE, read_affinities, write_affinities

    try:
        if (affinities := read_affinities(folder)) is not None:
            write_affinities(affinities, folder)
            make_console().print(f"Affinities   {shown(folder / PAGE)}")
    except Exception as error:  # drawing, or a full disk
        log.warning("%s: the page of affinities could not be written (%s)", folder, error, exc_info=True)

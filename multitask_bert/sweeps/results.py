"""The results of a sweep: `sweep.json` and `best.yaml` in its folder, and a table of the best trials."""

from __future__ import annotations

import shlex
import statistics
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.box import SIMPLE_HEAD
from rich.table import Table

from multitask_bert.config.schema import AUTO_PRECISION
from multitask_bert.config.sweep_config import HAS_CONFIG_VALUES, MAXIMIZE, SweepConfig
from multitask_bert.errors import InputError
from multitask_bert.saving.run_folder import SWEEP, config_of, primary_config, with_precision
from multitask_bert.sweeps.study import ARMS, JOURNAL_FILE, PRECISION, open_storage
from multitask_bert.sweeps.trials import counted_trials, counts_of
from multitask_bert.trust.databases import storage_problems
from multitask_bert.trust.permissions import refuse
from multitask_bert.utils.addresses import without_password
from multitask_bert.utils.files import finite, read_json, shown, write_bytes, write_json
from multitask_bert.utils.visible import on_one_line

BEST = "best"  # name of the config, without .yaml
NUM_ROWS = 10


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials, best first; with several metrics, the Pareto front, ordered by the first metric."""
    complete = [trial for trial in counted_trials(study) if trial.state == TrialState.COMPLETE]
    if len(study.directions) > 1 and complete:
        front = {trial.number for trial in study.best_trials}
        complete = [trial for trial in complete if trial.number in front]
    is_highest_best = study.directions[0].name.lower() == MAXIMIZE
    return sorted(complete, key=lambda trial: trial.values[0], reverse=is_highest_best)


def study_of(folder: Path) -> optuna.Study:
    """Load the study that `sweep.json` in the sweep's folder names.

    Raises:
        InputError: the folder is not that of a sweep, or the storage is down or lacks the study.
    """
    try:
        summary = read_json(folder / SWEEP)
        name, storage = summary["study"], summary["storage"]
        if not isinstance(name, str) or not isinstance(storage, str):
            raise ValueError("study and storage must be text")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"run_dir={folder}: not the folder of a sweep (it has no valid {SWEEP}: {error})") from error
    sweeper = SweepConfig(study=name, storage=None if storage == JOURNAL_FILE else storage)
    refuse(storage_problems(sweeper.storage), folder / SWEEP)
    try:
        return optuna.load_study(study_name=name, storage=open_storage(sweeper, folder))
    except KeyError as error:
        raise InputError(f"run_dir={folder}: the storage {storage} holds no study {name}") from error


def is_ranked(study: optuna.Study) -> bool:
    """Whether trials compete; the arms of a study do not."""
    return ARMS not in study.user_attrs


def collapsed_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Trials with a head that learned nothing in the best model; a pruned trial may have lacked the time."""
    return [trial for trial in counted_trials(study) if trial.user_attrs.get("collapsed")]


def words_on_collapsed(study: optuna.Study) -> str | None:
    """For example `4 trials with a head that learned nothing (3 of them pruned)`; None if there are none."""
    found = collapsed_trials(study)
    if not found:
        return None
    num_pruned = sum(trial.state == TrialState.PRUNED for trial in found)
    noun = "trial" if len(found) == 1 else "trials"
    return f"{len(found)} {noun} with a head that learned nothing ({num_pruned} of them pruned)"


def best_values(study: optuna.Study) -> dict[str, float]:
    """Values of the best trial, by `best_<metric>`; empty if no trial is complete."""
    best = best_trials(study)
    metrics = [f"best_{metric}" for metric in study.user_attrs["metrics"]]
    return dict(zip(metrics, best[0].values, strict=True)) if best else {}


def write_summary(study: optuna.Study, sweeper: SweepConfig, folder: Path) -> None:
    """Write `sweep.json`: the study's name and storage, the counts of its trials, and the best one."""
    best = best_trials(study)
    counts = counts_of(study)
    write_json(
        folder / SWEEP,
        finite({
            "study": sweeper.study,
            "storage": without_password(sweeper.storage or JOURNAL_FILE),  # a file is relative to this folder
            "metrics": sweeper.metrics,
            "directions": sweeper.directions,
            "n_trials": sweeper.n_trials,
            "complete": counts.complete,
            "pruned": counts.pruned,
            "failed": counts.failed,
            "collapsed": len(collapsed_trials(study)),
            "best": None if not best else {
                "trial": best[0].number,
                "values": best[0].values,
                "params": best[0].params,
                "folder": best[0].user_attrs["folder"],
            },
        }),
    )  # fmt: skip


def write_best(study: optuna.Study, folder: Path) -> Path | None:
    """Write `best.yaml`, the best trial's config as a primary config; None if no trial is complete."""
    best = best_trials(study)
    if not best:
        return None
    scores = ", ".join(
        f"{metric} {value:.4f}" for metric, value in zip(study.user_attrs["metrics"], best[0].values, strict=True)
    )
    config = config_of(folder / best[0].user_attrs["folder"])
    if config.trainer.precision == AUTO_PRECISION:  # of a trial with several seeds, which has no record of its own
        config = with_precision(config, study.user_attrs[PRECISION])
    text = primary_config(
        config,
        f"# python run.py --config-dir {shlex.quote(str(shown(folder)))} --config-name {BEST}",
        "#",
        f"# Trial {best[0].number} of study {study.study_name}: {scores}.",
        *(f"# {on_one_line(override)}" for override in best[0].user_attrs["overrides"]),
    )
    path = folder / f"{BEST}.yaml"
    write_bytes(path, text.encode())
    return path


def table_of(study: optuna.Study) -> Table:
    """The best trials: values, standard deviation over seeds, and overrides."""
    metrics = study.user_attrs["metrics"]
    title = "Best trials" if len(metrics) == 1 else "Pareto front"
    notes = [*(f"Note: {caveat}" for caveat in study.user_attrs.get("caveats", [])), words_on_collapsed(study)]
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD,
        caption="\n".join(filter(None, notes)) or None, caption_justify="left", caption_style="",
    )  # fmt: skip
    for name in ("trial", *metrics):
        table.add_column(name, justify="right")
    table.add_column("values")
    for trial in best_trials(study)[:NUM_ROWS]:
        scores = [_with_spread(trial, index) for index in range(len(metrics))]
        chosen = "  ".join(map(_shortened, trial.user_attrs["overrides"]))
        chosen += "  (the config's values)" if trial.user_attrs.get(HAS_CONFIG_VALUES) else ""
        if heads := trial.user_attrs.get("collapsed"):
            chosen += f"  (learned nothing: {', '.join(heads)})"
        table.add_row(str(trial.number), *scores, on_one_line(chosen))
    return table


def _with_spread(trial: FrozenTrial, index: int) -> str:
    by_seed = [scores if isinstance(scores, list) else [scores] for scores in trial.user_attrs["seed_scores"].values()]
    spread = f" ± {statistics.stdev(scores[index] for scores in by_seed):.4f}" if len(by_seed) > 1 else ""
    return f"{trial.values[index]:.4f}{spread}"


def _shortened(override: str) -> str:
    """`optimizer.lr=3.2123456789e-05` -> `optimizer.lr=3.212e-05`."""
    key, _, value = override.partition("=")
    try:
        return override if value.lstrip("-").isdigit() else f"{key}={float(value):.4g}"
    except ValueError:
        return override

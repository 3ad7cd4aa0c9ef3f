"""What a sweep leaves in its folder: `sweep.json`, `best.yaml` and a table of the best trials."""

from __future__ import annotations

import shlex
import statistics
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.box import SIMPLE_HEAD
from rich.table import Table

from multitask_bert.errors import InputError
from multitask_bert.saving.run_folder import SWEEP, config_of, primary_config
from multitask_bert.sweeps.settings import MAXIMIZE, OWN, SweepConfig
from multitask_bert.sweeps.study import JOURNAL_FILE, open_storage
from multitask_bert.sweeps.trials import count, counted
from multitask_bert.trust.databases import storage_problems
from multitask_bert.trust.permissions import refuse
from multitask_bert.utils.addresses import without_password
from multitask_bert.utils.files import finite, read_json, shown, write_bytes, write_json
from multitask_bert.utils.visible import on_one_line

BEST = "best"  # name of the config, without .yaml
NUM_ROWS = 10


def best_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Complete trials, best first; with several metrics, those that no other one beats, by the first metric."""
    complete = [trial for trial in counted(study) if trial.state == TrialState.COMPLETE]
    if len(study.directions) > 1 and complete:
        front = {trial.number for trial in study.best_trials}
        complete = [trial for trial in complete if trial.number in front]
    is_highest_best = study.directions[0].name.lower() == MAXIMIZE
    return sorted(complete, key=lambda trial: trial.values[0], reverse=is_highest_best)


def study_of(folder: Path) -> optuna.Study:
    """The study of a sweep's folder, as `sweep.json` tells where it is.

    Raises:
        InputError: there is no sweep, or its storage is down.
    """
    try:
        summary = read_json(folder / SWEEP)
        name, storage = summary["study"], summary["storage"]
        if not isinstance(name, str) or not isinstance(storage, str):
            raise ValueError("study and storage are no names")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"run_dir={folder}: not the folder of a sweep (no whole {SWEEP} there: {error})") from error
    settings = SweepConfig(study=name, storage=None if storage == JOURNAL_FILE else storage)
    refuse(storage_problems(settings.storage), folder / SWEEP)
    try:
        return optuna.load_study(study_name=name, storage=open_storage(settings, folder))
    except KeyError as error:
        raise InputError(f"run_dir={folder}: the storage {storage} holds no study {name}") from error


def collapsed_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials of whose best model a head has learnt nothing; a pruned one may have had no time to."""
    return [trial for trial in counted(study) if trial.user_attrs.get("collapsed")]


def words_on_collapsed(study: optuna.Study) -> str | None:
    """As in `4 trials with a head that learnt nothing (3 of them pruned)`; None: there are none."""
    found = collapsed_trials(study)
    if not found:
        return None
    num_pruned = sum(trial.state == TrialState.PRUNED for trial in found)
    noun = "trial" if len(found) == 1 else "trials"
    return f"{len(found)} {noun} with a head that learnt nothing ({num_pruned} of them pruned)"


def best_values(study: optuna.Study) -> dict[str, float]:
    """The best trial's values, by `best_<metric>`; empty where none is complete."""
    best = best_trials(study)
    metrics = [f"best_{metric}" for metric in study.user_attrs["metrics"]]
    return dict(zip(metrics, best[0].values, strict=True)) if best else {}


def write_summary(study: optuna.Study, settings: SweepConfig, folder: Path) -> None:
    """`sweep.json`: which study this is and where it is stored, for whoever reads the folder later."""
    best = best_trials(study)
    counts = count(study)
    write_json(
        folder / SWEEP,
        finite({
            "study": settings.study,
            "storage": without_password(settings.storage or JOURNAL_FILE),  # a file: below this folder
            "metrics": settings.metrics,
            "directions": settings.directions,
            "n_trials": settings.n_trials,
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
    """`best.yaml`: the best trial's config as one of its own; None where no trial is complete."""
    best = best_trials(study)
    if not best:
        return None
    scores = ", ".join(
        f"{metric} {value:.4f}" for metric, value in zip(study.user_attrs["metrics"], best[0].values, strict=True)
    )
    text = primary_config(
        config_of(folder / best[0].user_attrs["folder"]),
        f"# python run.py --config-dir {shlex.quote(str(shown(folder)))} --config-name {BEST}",
        "#",
        f"# Trial {best[0].number} of study {study.study_name}: {scores}.",
        *(f"# {on_one_line(override)}" for override in best[0].user_attrs["overrides"]),
    )
    path = folder / f"{BEST}.yaml"
    write_bytes(path, text.encode())
    return path


def table_of(study: optuna.Study) -> Table:
    """The best trials: values, spread over seeds, and what was chosen."""
    metrics = study.user_attrs["metrics"]
    title = "Best trials" if len(metrics) == 1 else "Trials that no other one beats"
    notes = [*(f"Note: {caveat}" for caveat in study.user_attrs.get("caveats", [])), words_on_collapsed(study)]
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD,
        caption="\n".join(filter(None, notes)) or None, caption_justify="left", caption_style="",
    )  # fmt: skip
    for name in ("trial", *metrics):
        table.add_column(name, justify="right")
    table.add_column("values")
    for trial in best_trials(study)[:NUM_ROWS]:
        scores = [_with_spread(trial, place) for place in range(len(metrics))]
        chosen = "  ".join(map(_shortened, trial.user_attrs["overrides"]))
        chosen += "  (the config's own)" if trial.user_attrs.get(OWN) else ""
        if heads := trial.user_attrs.get("collapsed"):
            chosen += f"  (learnt nothing: {', '.join(heads)})"
        table.add_row(str(trial.number), *scores, on_one_line(chosen))
    return table


def _with_spread(trial: FrozenTrial, place: int) -> str:
    by_seed = [own if isinstance(own, list) else [own] for own in trial.user_attrs["seed_scores"].values()]
    spread = f" ± {statistics.stdev(own[place] for own in by_seed):.4f}" if len(by_seed) > 1 else ""
    return f"{trial.values[place]:.4f}{spread}"


def _shortened(override: str) -> str:
    """`optimizer.lr=3.2123456789e-05` -> `optimizer.lr=3.212e-05`."""
    key, _, value = override.partition("=")
    try:
        return override if value.lstrip("-").isdigit() else f"{key}={float(value):.4g}"
    except ValueError:
        return override

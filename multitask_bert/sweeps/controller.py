"""The sweep, seen from outside the jobs: asks for trials, launches them, and settles what did not finish.

1. plan.py reads what is wanted and refuses what cannot work; `open` finds or makes the study.
2. `run` asks for as many trials as run side by side, launches them, and waits; until `n_trials` are done.
3. Each job tells its own result (job.py). A trial that is still running then failed before it could tell, or died.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import optuna
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from optuna.trial import FrozenTrial, TrialState

from multitask_bert.config.overrides import as_value
from multitask_bert.errors import InputError
from multitask_bert.sweeps import conf_files, trials
from multitask_bert.sweeps.forecast import Forecast
from multitask_bert.sweeps.liveness import is_alive, is_here, this_process
from multitask_bert.sweeps.plan import Plan
from multitask_bert.sweeps.progress import Progress
from multitask_bert.sweeps.results import best_values, table_of, write_best, write_summary
from multitask_bert.sweeps.settings import OWN, PARENT_RUN, THREADS, TRIAL
from multitask_bert.sweeps.space import as_overrides
from multitask_bert.sweeps.study import TRIAL_FOLDER, lock, open_storage, open_study
from multitask_bert.utils.files import shown

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # between two looks at jobs that outlive a launcher's error


class Tracker(Protocol):
    """Where the sweep itself is logged, as a run above those of its trials."""

    def start(self, name: str, folder: Path, config: Mapping[str, Any]) -> str | None:
        """Begin, or go on; the id that trials name as their parent, None where there is none."""

    def log(self, values: Mapping[str, float], *, step: int) -> None: ...

    def prune(self, folder: Path) -> None:
        """The trainings in a trial's folder are all that it will have."""

    def close(self, status: str) -> None: ...


@dataclass
class Controller:
    """One process that works on a study; others may work on the same one."""

    plan: Plan
    launcher: Launcher
    tracker: Tracker | None  # None: the sweep has no run of its own
    study: optuna.Study
    progress: Progress
    foresee: Callable[[Plan, int], Forecast] | None  # the cost of so many trials; None: it is not told
    parent_run: str | None = None

    @classmethod
    def open(
        cls,
        plan: Plan,
        launcher: Launcher,
        tracker: Tracker | None,
        foresee: Callable[[Plan, int], Forecast] | None = None,
    ) -> Controller:
        """With the study, new or to go on with.

        Raises:
            InputError: the storage is down, or the study was made for something else.
        """
        plan.folder.mkdir(parents=True, exist_ok=True)
        with lock(plan.folder):
            storage = open_storage(plan.settings, plan.folder)
            study = open_study(storage, plan.settings, plan.attributes(), plan.folder)
            conf_files.refuse_changes(study.user_attrs["conf_files"], plan.conf_files(), plan.conf)
            if plan.own is not None and not study.get_trials(deepcopy=False):
                study.enqueue_trial(dict(plan.own), user_attrs={OWN: True})
            write_summary(study, plan.settings, plan.folder)
        return cls(plan, launcher, tracker, study, Progress(study, plan.n_trials, plan.num_jobs), foresee)

    def run(self) -> float | None:
        """All trials that are still to be done; the best value of the first metric.

        Raises:
            InputError: too many trials failed, or conf/ changed meanwhile.
        """
        settings, folder = self.plan.settings, self.plan.folder
        if self.tracker is not None:
            self.parent_run = self.tracker.start(settings.study, folder, self.study.user_attrs)
        self.progress.say(f"sweep {settings.study}: folder {shown(folder)}")
        for caveat in self.study.user_attrs.get("caveats", []):
            self.progress.say(f"Note: {caveat}")
        status = "FAILED"
        try:
            self._say_what_comes()
            while batch := self._next_batch():
                self._launch(batch)
                write_summary(self.study, settings, folder)
                self.progress.show()
                self._track()
            if not best_values(self.study) and trials.count(self.study).failed:
                raise InputError(self._all_failed())
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit):  # the second where a job was told to end
            status = "KILLED"
            raise
        finally:
            if self.tracker is not None:
                self.tracker.close(status)
            best = self._end()
            if status == "KILLED":
                self.progress.say(f"stopped; {self.progress.done()}, and the same command goes on with the others")
        return best

    def _say_what_comes(self) -> None:
        """What the trials that are still to be done will cost, and which values the first one has."""
        counts = trials.count(self.study)
        num_left = self.plan.n_trials - counts.finished - counts.running
        if num_left <= 0:
            return
        if self.foresee is not None and self.plan.settings.measure:
            try:
                self.progress.say(str(self.foresee(self.plan, num_left)))
            except Exception as error:  # of the data, which the trials will meet, too; or of this machine's memory
                log.info("the cost could not be told", exc_info=True)
                self.progress.say(f"what the trials cost could not be told: {_first_line(error)}")
        if self.plan.not_own is not None:
            self.progress.say(self.plan.not_own)
        elif self.plan.own is not None and not counts.finished:
            values = "  ".join(as_overrides(self.plan.own))
            self.progress.say(f"trial 0 has the config's own values: {values}")

    def _next_batch(self) -> list[tuple[int, list[str]]]:
        """Number and overrides of the trials to launch next; none where the study is complete."""
        settings, study = self.plan.settings, self.study
        conf_files.refuse_changes(study.user_attrs["conf_files"], self.plan.conf_files(), self.plan.conf)
        with lock(self.plan.folder):
            dead = trials.retry_the_dead(study, take_over=settings.take_over)
            if dead:
                self.progress.say(f"tried again, since the process died that ran them: trials {_listed(dead)}")
            counts = trials.count(study)
            if counts.failed > settings.max_failures:
                raise InputError(self._too_many_failures(counts.failed))
            room = self.plan.n_trials - counts.finished - counts.running
            batch = []
            for _ in range(min(room, self.plan.num_jobs)):
                trial, overrides = trials.ask(study, settings, self.plan.dimensions, self.plan.define)
                batch.append((trial.number, overrides))
                self._refuse_used_folder(trial.number)
        return batch

    def _launch(self, batch: Sequence[tuple[int, list[str]]]) -> None:
        """Run them; whatever goes wrong in one of them, the sweep goes on."""
        jobs = [[*self.plan.fixed, *overrides, *self._of_job(number)] for number, overrides in batch]
        numbers = [number for number, _ in batch]
        try:
            returns: Sequence[JobReturn | None] = self.launcher.launch(jobs, initial_job_idx=numbers[0])
            error: Exception | None = None
        except Exception as caught:  # of composing a job, or of a worker that is gone
            log.info("the launcher failed", exc_info=True)
            returns, error = [None] * len(batch), caught
        for number, returned in zip(numbers, returns, strict=True):
            self._settle(number, returned, error)
            if self.tracker is not None and self._trial(number).state == TrialState.PRUNED:
                self.tracker.prune(self.plan.folder / TRIAL_FOLDER.format(number=number))

    def _settle(self, number: int, returned: JobReturn | None, error: Exception | None) -> None:
        """What a job has told stands; what it has not is decided here."""
        trial = self._trial(number)
        if trial.state != TrialState.RUNNING:
            return
        if returned is not None:
            if returned.status == JobStatus.FAILED:
                error = returned._return_value
            self._fail(trial, error or RuntimeError("the job ended without a result"))
            return
        process = trial.user_attrs["process"]
        if process == this_process() and isinstance(error, BrokenExecutor):  # before it began, a worker died
            self._retry(trial, error)
            return
        if process == this_process():  # it never began, or in this process
            self._fail(trial, error or RuntimeError("the job did not begin"))
            return
        while trial.state == TrialState.RUNNING and is_here(process) and is_alive(process):
            time.sleep(POLL_SECONDS)
            trial = self._trial(number)
        if trial.state == TrialState.RUNNING and is_here(process):
            self._retry(trial, error)

    def _retry(self, trial: FrozenTrial, error: Exception | None) -> None:
        with lock(self.plan.folder):
            trials.retry(self.study, trial)
        self.progress.say(f"trial {trial.number}: its process died ({_first_line(error)}); it is tried again")

    def _fail(self, trial: FrozenTrial, error: Exception) -> None:
        trials.fail(self.study, trial, f"{type(error).__name__}: {error}")
        self.progress.say(f"trial {trial.number} failed: {_first_line(error)}")

    def _trial(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def _of_job(self, number: int) -> list[str]:
        """Its folder, and what its environment tells it; none of it stands in the config that it saves."""
        environment = {TRIAL: str(number)}
        if self.parent_run is not None:
            environment[PARENT_RUN] = self.parent_run
        if (threads := self.plan.threads_per_job) is not None:
            environment |= {THREADS: str(threads), "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        return [
            f"hydra.sweeper.study={as_value(self.plan.settings.study)}",  # not that of the job's own tasks
            f"hydra.sweep.subdir={TRIAL_FOLDER.format(number=number)}",
            *(f"++hydra.job.env_set.{name}='{value}'" for name, value in environment.items()),
        ]

    def _refuse_used_folder(self, number: int) -> None:
        folder = self.plan.folder / TRIAL_FOLDER.format(number=number)
        if folder.exists():
            raise InputError(
                f"{shown(folder)}: is there already, and no trial of this study made it; move it away, or name "
                f"another study with hydra.sweeper.study=NAME"
            )

    def _last_failure(self) -> FrozenTrial:
        return [trial for trial in trials.counted(self.study) if trial.state == TrialState.FAIL][-1]

    def _all_failed(self) -> str:
        num_failed = trials.count(self.study).failed
        return (
            f"sweep {self.plan.settings.study}: no trial gave a value, and {num_failed} failed; the last one: "
            f"{self._last_failure().user_attrs.get('error', 'ended without a word')}"
        )

    def _too_many_failures(self, num_failed: int) -> str:
        last = self._last_failure()
        error = str(last.user_attrs.get("error")).partition("\n")[0]
        return (
            f"hydra.sweeper.max_failures={self.plan.settings.max_failures}: {num_failed} trials failed, the last "
            f"({last.number}) with {error}; see run.log in its folder. With a higher max_failures the same "
            f"command goes on"
        )

    def _track(self) -> None:
        if self.tracker is not None:
            counts = trials.count(self.study)
            values = {"complete": counts.complete, "pruned": counts.pruned, "failed": counts.failed}
            self.tracker.log({**values, **best_values(self.study)}, step=counts.finished)

    def _end(self) -> float | None:
        """Table, `best.yaml` and `sweep.json`, whatever ended the sweep."""
        folder, study = self.plan.folder, self.study
        write_summary(study, self.plan.settings, folder)
        path = write_best(study, folder)
        for trial in trials.runs_elsewhere(study):
            self.progress.say(
                f"trial {trial.number} still runs on another machine; if that is gone, go on with "
                f"hydra.sweeper.take_over=true"
            )
        if path is None:
            return None
        self.progress.say(table_of(study))
        self.progress.say(
            f"Best config  python run.py --config-dir {shlex.quote(str(shown(folder)))} --config-name {path.stem}"
        )
        return next(iter(best_values(study).values()))


def _first_line(error: Exception | None) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))

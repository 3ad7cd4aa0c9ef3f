"""The sweep outside of its jobs: ask for trials, launch them, and settle those that did not tell a result.

1. spec.py reads and checks the sweep; `open` creates or loads the study.
2. `run` asks for as many trials as run in parallel, launches them and waits, until `n_trials` are done.
3. Each job tells its result (job.py). A trial that is still running after that has failed, or its process died.
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
from multitask_bert.config.sweep_config import HAS_CONFIG_VALUES, PARENT_RUN, THREADS, TRIAL
from multitask_bert.errors import InputError
from multitask_bert.sweeps import trials
from multitask_bert.sweeps.cost_estimate import CostEstimate
from multitask_bert.sweeps.processes import is_alive, is_here, this_process
from multitask_bert.sweeps.progress import Progress
from multitask_bert.sweeps.results import best_values, is_ranked, table_of, write_best, write_summary
from multitask_bert.sweeps.space import as_overrides
from multitask_bert.sweeps.spec import SweepSpec
from multitask_bert.sweeps.study import TRIAL_FOLDER, lock, open_storage, open_study
from multitask_bert.utils.command import command
from multitask_bert.utils.files import shown

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0  # between two looks at jobs that outlive a launcher's error


class Tracker(Protocol):
    """Logs the sweep itself, as the parent run of its trials."""

    def start(self, name: str, folder: Path, config: Mapping[str, Any]) -> str | None:
        """Start or resume the run; its id, None if there is no run."""

    def log(self, values: Mapping[str, float], *, step: int) -> None: ...

    def prune(self, folder: Path) -> None:
        """Mark the trainings in a trial's folder as those of a pruned trial."""

    def close(self, status: str) -> None: ...


@dataclass
class Controller:
    """Works on a study; controllers in other processes may work on the same one."""

    spec: SweepSpec
    launcher: Launcher
    tracker: Tracker | None  # None: the sweep itself is not logged
    study: optuna.Study
    progress: Progress
    estimate_cost: Callable[[SweepSpec, int], CostEstimate] | None  # of so many trials; None: no estimate is printed
    parent_run: str | None = None

    @classmethod
    def open(
        cls,
        spec: SweepSpec,
        launcher: Launcher,
        tracker: Tracker | None,
        estimate_cost: Callable[[SweepSpec, int], CostEstimate] | None = None,
    ) -> Controller:
        """Create or load the study.

        Raises:
            InputError: the storage is down, or the study was made for another search.
        """
        spec.folder.mkdir(parents=True, exist_ok=True)
        with lock(spec.folder):
            storage = open_storage(spec.sweeper, spec.folder)
            study = open_study(storage, spec.sweeper, spec.attributes(), spec.folder)
            spec.refuse_changed_files(study.user_attrs["conf_files"])
            if spec.config_values is not None and not study.get_trials(deepcopy=False):
                study.enqueue_trial(dict(spec.config_values), user_attrs={HAS_CONFIG_VALUES: True})
            write_summary(study, spec.sweeper, spec.folder)
        return cls(spec, launcher, tracker, study, Progress(study, spec.n_trials, spec.num_jobs), estimate_cost)

    def run(self) -> float | None:
        """Run all trials that remain; the best value of the first metric.

        Raises:
            InputError: too many trials failed, or config files changed meanwhile.
        """
        sweeper, folder = self.spec.sweeper, self.spec.folder
        if self.tracker is not None:
            self.parent_run = self.tracker.start(sweeper.study, folder, self.study.user_attrs)
        self.progress.say(f"sweep {sweeper.study}: folder {shown(folder)}")
        for caveat in self.study.user_attrs.get("caveats", []):
            self.progress.say(f"Note: {caveat}")
        status = "FAILED"
        try:
            self._announce()
            while batch := self._next_batch():
                self._launch(batch)
                write_summary(self.study, sweeper, folder)
                self.progress.show()
                self._track()
            counts = trials.counts_of(self.study)  # those still running are of other controllers
            if not best_values(self.study) and counts.failed and not counts.running:
                raise InputError(self._all_failed())
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit):  # SystemExit: a job was asked to stop
            status = "KILLED"
            raise
        finally:
            if self.tracker is not None:
                self.tracker.close(status)
            best = self._end()
            if status == "KILLED":
                self.progress.say(f"stopped; {self.progress.done()}, and the same command resumes it")
        return best

    def _announce(self) -> None:
        """Print the estimated cost of the trials that remain, and whether the first one has the config's values."""
        with lock(self.spec.folder):
            self._retry_the_dead()
        counts = trials.counts_of(self.study)
        num_left = self.spec.n_trials - counts.finished - counts.running
        if num_left <= 0:
            return
        if self.estimate_cost is not None and self.spec.sweeper.measure:
            try:
                self.progress.say(str(self.estimate_cost(self.spec, num_left)))
            except Exception as error:  # invalid data, which the trials will report, too; or out of memory
                log.info("the cost could not be estimated", exc_info=True)
                self.progress.say(f"the cost of the trials could not be estimated: {_first_line(error)}")
        if self.spec.config_values_problem is not None:
            self.progress.say(self.spec.config_values_problem)
        elif self.spec.config_values is not None and not counts.finished:
            values = "  ".join(as_overrides(self.spec.config_values))
            self.progress.say(f"the first trial has the config's values: {values}")

    def _next_batch(self) -> list[tuple[int, list[str]]]:
        """Numbers and overrides of the trials to launch next; empty if the study is complete."""
        sweeper, study = self.spec.sweeper, self.study
        self.spec.refuse_changed_files(study.user_attrs["conf_files"])
        with lock(self.spec.folder):
            self._retry_the_dead()
            counts = trials.counts_of(study)
            if counts.failed > sweeper.max_failures:
                raise InputError(self._too_many_failures(counts.failed))
            room = self.spec.n_trials - counts.finished - counts.running
            batch = []
            for _ in range(min(room, self.spec.num_jobs)):
                trial, overrides = trials.ask(study, sweeper, self.spec.dimensions, self.spec.define)
                batch.append((trial.number, overrides))
                self._refuse_used_folder(trial.number)
        return batch

    def _retry_the_dead(self) -> None:
        """Enqueue the trials whose process died, and say which; the sweep's lock must be held."""
        if dead := trials.retry_the_dead(self.study, take_over=self.spec.sweeper.take_over):
            self.progress.say(f"retried, since their process died: trials {_listed(dead)}")

    def _launch(self, batch: Sequence[tuple[int, list[str]]]) -> None:
        """Run the trials; an error in one of them does not end the sweep."""
        jobs = [[*self.spec.fixed, *overrides, *self._of_job(number)] for number, overrides in batch]
        numbers = [number for number, _ in batch]
        try:
            returns: Sequence[JobReturn | None] = self.launcher.launch(jobs, initial_job_idx=numbers[0])
            error: Exception | None = None
        except Exception as caught:  # a job could not be composed, or a worker died
            log.info("the launcher failed", exc_info=True)
            returns, error = [None] * len(batch), caught
        for number, returned in zip(numbers, returns, strict=True):
            self._settle(number, returned, error)
            if self.tracker is not None and self._trial(number).state == TrialState.PRUNED:
                self.tracker.prune(self.spec.folder / TRIAL_FOLDER.format(number=number))

    def _settle(self, number: int, returned: JobReturn | None, error: Exception | None) -> None:
        """Fail or retry a trial whose job did not tell its result."""
        trial = self._trial(number)
        if trial.state != TrialState.RUNNING:
            return
        if returned is not None:
            if returned.status == JobStatus.FAILED:
                error = returned._return_value
            self._fail(trial, error or RuntimeError("the job ended without a result"))
            return
        process = trial.user_attrs["process"]
        if process == this_process() and isinstance(error, BrokenExecutor):  # a worker died before the job started
            self._retry(trial, error)
            return
        if process == this_process():  # the job never started, or ran in this process
            self._fail(trial, error or RuntimeError("the job did not start"))
            return
        while trial.state == TrialState.RUNNING and is_here(process) and is_alive(process):
            time.sleep(POLL_SECONDS)
            trial = self._trial(number)
        if trial.state == TrialState.RUNNING and is_here(process):
            self._retry(trial, error)

    def _retry(self, trial: FrozenTrial, error: Exception | None) -> None:
        with lock(self.spec.folder):
            trials.retry(self.study, trial)
        self.progress.say(f"trial {trial.number}: its process died ({_first_line(error)}); it is retried")

    def _fail(self, trial: FrozenTrial, error: Exception) -> None:
        trials.fail(self.study, trial, f"{type(error).__name__}: {error}")
        self.progress.say(f"trial {trial.number} failed: {_first_line(error)}")

    def _trial(self, number: int) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[number]

    def _of_job(self, number: int) -> list[str]:
        """Overrides that give a job its folder and environment; they are not in the config that it saves."""
        environment = {TRIAL: str(number)}
        if self.parent_run is not None:
            environment[PARENT_RUN] = self.parent_run
        if (threads := self.spec.threads_per_job) is not None:
            environment |= {THREADS: str(threads), "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        return [
            f"hydra.sweeper.study={as_value(self.spec.sweeper.study)}",  # not that of the job's tasks
            f"hydra.sweep.subdir={TRIAL_FOLDER.format(number=number)}",
            *(f"++hydra.job.env_set.{name}='{value}'" for name, value in environment.items()),
        ]

    def _refuse_used_folder(self, number: int) -> None:
        folder = self.spec.folder / TRIAL_FOLDER.format(number=number)
        if folder.exists():
            raise InputError(
                f"{shown(folder)}: exists, and no trial of this study created it; move it away, or name "
                f"another study with hydra.sweeper.study=NAME"
            )

    def _last_failure(self) -> FrozenTrial:
        return [trial for trial in trials.counted_trials(self.study) if trial.state == TrialState.FAIL][-1]

    def _all_failed(self) -> str:
        num_failed = trials.counts_of(self.study).failed
        return (
            f"sweep {self.spec.sweeper.study}: no trial gave a value, and {num_failed} failed; the last one: "
            f"{self._last_failure().user_attrs.get('error', 'no error was recorded')}"
        )

    def _too_many_failures(self, num_failed: int) -> str:
        last = self._last_failure()
        error = str(last.user_attrs.get("error")).partition("\n")[0]
        return (
            f"hydra.sweeper.max_failures={self.spec.sweeper.max_failures}: {num_failed} trials failed, the last "
            f"({last.number}) with {error}; see run.log in its folder. With a higher max_failures the same "
            f"command resumes the sweep"
        )

    def _track(self) -> None:
        if self.tracker is not None:
            counts = trials.counts_of(self.study)
            values = {"complete": counts.complete, "pruned": counts.pruned, "failed": counts.failed}
            self.tracker.log({**values, **best_values(self.study)}, step=counts.finished)

    def _end(self) -> float | None:
        """Write `sweep.json` and `best.yaml` and print the table of the best trials, however the sweep ended."""
        folder, study = self.spec.folder, self.study
        write_summary(study, self.spec.sweeper, folder)
        path = write_best(study, folder) if is_ranked(study) else None
        for trial in trials.runs_elsewhere(study):
            self.progress.say(
                f"trial {trial.number} still runs on another machine; if that is gone, resume with "
                f"hydra.sweeper.take_over=true"
            )
        if path is None:
            return next(iter(best_values(study).values()), None)
        self.progress.say(table_of(study))
        self.progress.say(
            f"Best config  {command()} --config-dir {shlex.quote(str(shown(folder)))} --config-name {path.stem}"
        )
        return next(iter(best_values(study).values()))


def _first_line(error: Exception | None) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))

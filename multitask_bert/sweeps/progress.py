"""What a sweep prints between its trials: a line with a bar, and a table at the end."""

from __future__ import annotations

import math
from typing import Any

import optuna
from rich.progress_bar import ProgressBar
from rich.table import Table

from multitask_bert.sweeps.results import best_trials, is_ranked, words_on_collapsed
from multitask_bert.sweeps.trials import counted_trials, counts_of, seconds_of
from multitask_bert.utils.clock import rough_duration
from multitask_bert.utils.terminal import make_console

BAR_WIDTH = 24  # characters


class Progress:
    """Prints how far the study is; `num_jobs`: trials that run in parallel."""

    def __init__(self, study: optuna.Study, n_trials: int, num_jobs: int, *, file: Any = None) -> None:
        self.study, self.n_trials, self.num_jobs = study, n_trials, num_jobs
        self._console = make_console(file)

    def say(self, what: str | Table) -> None:
        self._console.print(what)

    def show(self) -> None:
        if self._console.is_terminal:
            done = min(self.n_trials, counts_of(self.study).finished)
            row = Table.grid(padding=(0, 1))
            bar = ProgressBar(total=self.n_trials, completed=done, width=BAR_WIDTH)
            row.add_row(bar, self.line())
            self.say(row)
        else:
            self.say(self.line())

    def line(self) -> str:
        """For example `sweep lr_ner: 5 of 24 trials done, 2 pruned, 0 failed; best eval_mean_f1 0.7114 (trial 3)`."""
        counts = counts_of(self.study)
        parts = [f"sweep {self.study.study_name}: {self.done()}, {counts.pruned} pruned, {counts.failed} failed"]
        if is_ranked(self.study) and (best := best_trials(self.study)):
            metric = self.study.user_attrs["metrics"][0]
            parts.append(f"best {metric} {best[0].values[0]:.4f} (trial {best[0].number})")
        if (words := words_on_collapsed(self.study)) is not None:
            parts.append(words)
        if (seconds := self._seconds_left()) is not None:
            parts.append(f"about {rough_duration(seconds)} left")
        return "; ".join(parts)

    def done(self) -> str:
        return f"{counts_of(self.study).finished} of {self.n_trials} trials done"

    def _seconds_left(self) -> float | None:
        """Estimated from the trials that ended; None before the first and after the last trial."""
        seconds = [seconds_of(t) for t in counted_trials(self.study) if t.state.is_finished() and t.duration]
        left = self.n_trials - counts_of(self.study).finished
        rounds = math.ceil(left / self.num_jobs)  # the next trials begin when all that run side by side have ended
        return rounds * sum(seconds) / len(seconds) if seconds and left > 0 else None

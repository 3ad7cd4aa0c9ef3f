"""What a run prints: a progress bar and tables in a terminal, plain lines elsewhere and in run.log."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from multitask_bert.utils.clock import rough_duration, seconds_since
from multitask_bert.utils.terminal import make_console
from multitask_bert.utils.visible import on_one_line

if TYPE_CHECKING:
    from multitask_bert.data.processor import SplitReport
    from multitask_bert.records import TaskResult
    from multitask_bert.train_state import TrainState

log = logging.getLogger(__name__)

NUM_PLAIN_LINES = 20  # progress lines per run where there is no terminal


class Console:
    """Prints a run's progress and results; `quiet`: print nothing. `file`: None for standard output."""

    def __init__(self, *, quiet: bool = False, file: Any = None) -> None:
        self._rich = make_console(file, quiet=quiet)
        self._fancy = self._rich.is_terminal and not quiet
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._num_steps = 0
        self._next_line = 0
        self._first_shown: tuple[int, float] | None = None  # of this training: the first step that was shown, and when
        self._last_shown: Mapping[str, TaskResult] | None = None  # the scores that were printed last

    def say(self, text: str) -> None:
        """Print a text, which may have several lines."""
        self._show(text.split("\n"))

    def show_data(self, reports: Sequence[SplitReport]) -> None:
        """Print what was read: a row per task and split."""
        columns = ("task", "split", "examples", "tokens", "truncated", "labels missing")
        rows = []
        for report in reports:
            split = report.split + (" (cut from train)" if report.was_cut_from_train else "")
            missing = ", ".join(f"{head} {count:,}" for head, count in report.num_missing.items()) or "0"
            counts = (f"{count:,}" for count in (report.num_examples, report.num_tokens, report.num_cut))
            rows.append((report.task, split, *counts, missing))
        lines = [
            f"{task} {split}: {examples} examples, {tokens} tokens; truncated {truncated}, no label {missing}"
            for task, split, examples, tokens, truncated, missing in rows
        ]
        self._show(lines, _table("Data", columns, rows, right_from=2))

    def start_training(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self._next_line = max(1, num_steps // NUM_PLAIN_LINES)
        self._first_shown = None
        if self._fancy:
            columns: list[ProgressColumn | str] = [
                TextColumn("training"), BarColumn(), TextColumn("{task.completed}/{task.total} steps"),
                TextColumn("loss {task.fields[loss]}  {task.fields[speed]} tokens/s"), TimeRemainingColumn(),
            ]  # fmt: skip
            self._progress = Progress(*columns, console=self._rich)
            self._bar = self._progress.add_task("training", total=num_steps, loss="-", speed="-")
            self._progress.start()

    def show_step(self, state: TrainState, loss: float) -> None:
        """Print how far the run is, the mean loss of the last steps, the speed so far and the time that is left."""
        step = state.step
        if self._progress is not None and self._bar is not None:
            self._progress.update(
                self._bar, completed=step, loss=f"{loss:.4f}", speed=f"{state.tokens_per_second:,.0f}"
            )
        if step >= self._next_line:
            self._next_line += max(1, self._num_steps // NUM_PLAIN_LINES)
            line = f"step {step}/{self._num_steps}  loss {loss:.4f}  {state.tokens_per_second:,.0f} tokens/s"
            self._show([line + self._time_left(step)], "" if self._progress is not None else None)
        if self._first_shown is None:
            self._first_shown = (step, time.perf_counter())

    def show_scores(self, title: str, results: Mapping[str, TaskResult], *, is_best: bool = False) -> None:
        """Print a row per task and head, with every metric."""
        self._last_shown = results
        title += " (best so far)" if is_best else ""
        rows = []
        for task, result in results.items():
            for head, scores in result.scores.items():
                values = {**scores, **({"loss": result.losses[head]} if head in result.losses else {})}
                cells = [f"{name} {value:.4f}" for name, value in values.items()]
                cells[0] += _interval(result.intervals.get(head))
                rows.append((task, head, "  ".join(cells)))
            if result.joint_accuracy is not None:
                joint = f"accuracy {result.joint_accuracy:.4f}" + _interval(result.joint_interval)
                rows.append((task, "all heads right", joint))
        self._show([f"{title}: {'  '.join(row)}" for row in rows], _table(title, ("task", "head", "scores"), rows))

    def show_rows(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; without a terminal, a line per row with the column's name before each cell."""
        lines = [
            f"{title}: " + "  ".join(f"{name} {cell}".strip() for name, cell in zip(columns, row, strict=True) if cell)
            for row in rows
        ]
        self._show(lines, _table(title, columns, rows))

    def end_training(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def show_end(
        self,
        state: TrainState,
        metric: str,
        results: Mapping[str, Mapping[str, TaskResult]],
        outputs: Mapping[str, str],
    ) -> None:
        """Print the end of a run: scores of the best model, its step, the time, and where to look; each score once."""
        if results["best"] is not self._last_shown:
            self.show_scores("Evaluation scores of the best model", results["best"])
        if "test" in results:
            self.show_scores("Test scores of the best model", results["test"])
        self.say("")
        best = f"Best by {metric}"
        if not _is_among(metric, results["best"]):
            best = f"Best {metric} {'none' if state.best_score is None else f'{state.best_score:.4f}'}"
        early = " (stopped early)" if state.stopped_early else " (pruned)" if state.pruned else ""
        self.say(f"{best} at step {state.best_step} of {state.step}{early}, epoch {state.best_epoch:.2f}")
        self.say(
            f"Training took {state.train_seconds:.0f} s: {state.num_tokens:,} tokens of {state.num_examples:,} "
            f"examples, {state.tokens_per_second:,.0f} tokens/s"
        )
        for what, path in outputs.items():
            self.say(f"{what:<12} {path}")

    def close(self) -> None:
        self.end_training()

    def _time_left(self, step: int) -> str:
        """For example `  about 12 min left`, evaluations included; empty before there is anything to tell it from."""
        if self._first_shown is None or step >= self._num_steps:
            return ""
        first_step, when = self._first_shown
        return f"  about {rough_duration(seconds_since(when) / (step - first_step) * (self._num_steps - step))} left"

    def _show(self, lines: Sequence[str], in_terminal: Table | str | None = None) -> None:
        """Log and print lines; a terminal shows `in_terminal` instead ("": nothing; None: the same lines)."""
        lines = list(map(on_one_line, lines))
        for line in lines:
            log.info("%s", line)
        if not self._fancy or in_terminal is None:
            for line in lines:
                self._rich.print(line)
        elif in_terminal:
            self._rich.print(in_terminal)


def _is_among(metric: str, results: Mapping[str, TaskResult]) -> bool:
    """Whether the scores show this metric; with a single head, every mean is that head's own score."""
    keys = [
        f"eval_{task}_{head}_{name}"
        for task, result in results.items()
        for head, scores in result.scores.items()
        for name in scores
    ]
    return metric in keys or sum(len(result.scores) for result in results.values()) == 1


def _interval(ends: tuple[float, float] | None) -> str:
    return "" if ends is None else f" [{ends[0]:.4f}, {ends[1]:.4f}]"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right_from: int = 99) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for column, name in enumerate(columns):
        table.add_column(name, justify="right" if column >= right_from else "left")
    for row in rows:
        table.add_row(*map(on_one_line, row))
    return table

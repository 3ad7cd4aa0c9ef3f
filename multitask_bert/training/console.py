"""What a person sees of a run: a progress bar and tables in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from multitask_bert.data.processor import SplitReport
    from multitask_bert.training.evaluation import TaskResult
    from multitask_bert.training.state import TrainState

NUM_PLAIN_LINES = 20  # progress lines per run where there is no terminal


class Console:
    """`quiet`: say nothing. Elsewhere the kind of output follows from whether it is a terminal."""

    def __init__(self, *, quiet: bool = False, file: Any = None) -> None:
        self._rich = RichConsole(file=file or sys.stdout, quiet=quiet, highlight=False, soft_wrap=True)
        self._fancy = self._rich.is_terminal and not quiet
        self._progress: Progress | None = None
        self._bar: TaskID | None = None
        self._num_steps = 0
        self._next_line = 0

    def say(self, text: str) -> None:
        self._rich.print(text, markup=False)

    def show_data(self, reports: Sequence[SplitReport]) -> None:
        """What was read: a row per task and split."""
        rows = [
            [
                report.task,
                report.split + (" (cut from train)" if report.was_cut_from_train else ""),
                f"{report.num_examples:,}",
                f"{report.num_tokens:,}",
                f"{report.num_cut:,}",
                ", ".join(f"{head} {count:,}" for head, count in report.num_missing.items()) or "0",
            ]
            for report in reports
        ]
        self._show("Data", ["task", "split", "examples", "pieces", "truncated", "labels missing"], rows, right_from=2)

    def start_training(self, num_steps: int) -> None:
        self._num_steps = num_steps
        self._next_line = max(1, num_steps // NUM_PLAIN_LINES)
        if self._fancy:
            columns: list[ProgressColumn | str] = [
                TextColumn("training"), BarColumn(), TextColumn("{task.completed}/{task.total} steps"),
                TextColumn("loss {task.fields[loss]}  {task.fields[speed]} tokens/s"), TimeRemainingColumn(),
            ]  # fmt: skip
            self._progress = Progress(*columns, console=self._rich)
            self._bar = self._progress.add_task("training", total=num_steps, loss="-", speed="-")
            self._progress.start()

    def show_step(self, state: TrainState, loss: float, step: int) -> None:
        """Loss of one step and the speed so far."""
        if self._progress is not None and self._bar is not None:
            self._progress.update(
                self._bar, completed=step, loss=f"{loss:.4f}", speed=f"{state.tokens_per_second:,.0f}"
            )
        elif step >= self._next_line:
            self._next_line += max(1, self._num_steps // NUM_PLAIN_LINES)
            self.say(f"step {step}/{self._num_steps}  loss {loss:.4f}  {state.tokens_per_second:,.0f} tokens/s")

    def show_scores(self, title: str, results: Mapping[str, TaskResult], *, is_best: bool = False) -> None:
        """A row per task and head, with every metric."""
        rows = [
            [task, head, *(f"{name} {score:.4f}" for name, score in scores.items()), f"loss {result.losses[head]:.4f}"]
            for task, result in results.items()
            for head, scores in result.scores.items()
        ]
        width = max(len(row) for row in rows)
        rows = [[*row[:-1], *[""] * (width - len(row)), row[-1]] for row in rows]
        self._show(
            f"{title}{' (best so far)' if is_best else ''}", ["task", "head", "scores", *[""] * (width - 3)], rows
        )

    def end_training(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def show_end(
        self,
        folder: Path,
        state: TrainState,
        metric: str,
        results: Mapping[str, Mapping[str, TaskResult]],
        places: Mapping[str, str],
    ) -> None:
        """The last screen: scores of the best model, when it was best, the time, and where to look."""
        if "test" in results:
            self.show_scores("Test scores of the best model", results["test"])
        else:
            self.show_scores("Evaluation scores of the best model", results["eval"])
        self.say("")
        best = "none" if state.best_score is None else f"{state.best_score:.4f}"
        early = ", stopped early" if state.stopped_early else ""
        self.say(
            f"Best {metric} {best} at step {state.best_step} (epoch {state.best_epoch:.2f}) of {state.step}{early}"
        )
        self.say(
            f"Training took {state.train_seconds:.0f} s: {state.num_tokens:,} tokens of {state.num_examples:,} "
            f"examples, {state.tokens_per_second:,.0f} tokens/s"
        )
        self.say(f"Run folder   {folder}")
        for what, place in places.items():
            self.say(f"{what:<12} {place}")

    def close(self) -> None:
        self.end_training()

    def _show(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right_from: int = 99) -> None:
        if not self._fancy:
            named = any(name in columns for name in ("examples", "pieces"))
            for row in rows:
                cells = [
                    f"{name} {cell}" if named and place >= right_from else cell
                    for place, (name, cell) in enumerate(zip(columns, row, strict=True))
                ]
                self.say(f"{title}: " + "  ".join(cell for cell in cells if cell))
            return
        table = Table(title=title, title_justify="left", title_style="bold")
        for place, name in enumerate(columns):
            table.add_column(name, justify="right" if place >= right_from else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        self._rich.print(table)

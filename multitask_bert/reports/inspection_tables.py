"""An inspection as tables: the same rows for a terminal, for plain lines and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from multitask_bert.reports.pages import TextTable, percent
from multitask_bert.utils.terminal import make_console
from multitask_bert.utils.visible import on_one_line

if TYPE_CHECKING:
    from rich.console import Console

    from multitask_bert.reports.inspection import Inspection
    from multitask_bert.reports.splits import SplitFigures

NUM_LABELS_SHOWN = 6  # per row in a terminal


def tables_of(inspection: Inspection) -> list[TextTable]:
    """The tables of sizes, lengths, labels, leaks and training, in this order."""
    return [_sizes(inspection), _lengths(inspection), _labels(inspection), _leaks(inspection), _training(inspection)]


def show_tables(inspection: Inspection, file: Any = None) -> None:
    """Print the tables; see `print_tables`."""
    print_tables(tables_of(inspection), file)


def print_tables(tables: Sequence[TextTable], file: Any = None) -> None:
    """Print tables to a terminal, and a line per row to anything else."""
    console = make_console(file)
    for table in tables:
        if console.is_terminal:
            _print_table(console, table)
        else:
            for row in table.rows:
                num_names = table.num_names if table.num_names < len(row) else 1
                cells = list(zip(table.columns, row, strict=True))
                first = num_names - table.num_settings
                names = [*row[:first], *(f"{setting}={value}" for setting, value in cells[first:num_names])]
                shown = ", ".join(f"{column} {cell}" for column, cell in cells[num_names:] if cell)
                console.print(on_one_line(f"{table.title}: {' '.join(names)}: {shown}"))
        if table.note:
            console.print(table.note)


def _print_table(console: Console, table: TextTable) -> None:
    shown = Table(title=table.title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    for index, column in enumerate(table.columns):
        is_number = table.num_names <= index and column != "labels"
        shown.add_column(column, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    for row in table.rows:
        shown.add_row(*map(on_one_line, row))
    if table.rows:
        console.print(shown)


def _sizes(inspection: Inspection) -> TextTable:
    rows = [
        (
            split.task, _split(split), f"{split.num_examples:,}", f"{split.num_words:,}", f"{split.num_pieces:,}",
            f"{split.tokens_per_word:.2f}", f"{split.num_duplicates:,}", percent(split.share_unknown),
        )
        for split in inspection.splits
    ]  # fmt: skip
    columns = ("task", "split", "examples", "words", "tokens", "per word", "duplicates", "unknown")
    any_split_off = any(split.was_cut_from_train for split in inspection.splits)
    note = (
        f"Per word: tokens, special ones left out. Unknown: share of the tokens that {inspection.tokenizer} has "
        f"no word piece for."
    )
    note += " *: split off from train." if any_split_off else ""
    return TextTable(
        "Data", columns, rows, note="\n".join([note, *(f"Warning: {line}." for line in inspection.warnings)])
    )


def _lengths(inspection: Inspection) -> TextTable:
    rows = []
    for split in inspection.splits:
        lengths = (f"{split.lengths.percentiles[name]:,}" for name in ("p50", "p90", "p99", "max"))
        truncated = f"{split.num_truncated:,} ({percent(split.share_truncated)})"
        rows.append((split.task, _split(split), *lengths, truncated, f"{split.num_in_windows:,}"))
    columns = ("task", "split", "50% to", "90% to", "99% to", "longest", "truncated", "windows")
    note = (
        f"In tokens; a text longer than batching.max_length={inspection.max_length} is truncated, or read in windows "
        f"(batching.windows=true; span heads always do so)."
    )
    return TextTable("Lengths", columns, rows, note=note)


def _split(split: SplitFigures) -> str:
    return f"{split.split}*" if split.was_cut_from_train else split.split


def _labels(inspection: Inspection) -> TextTable:
    rows = []
    for split in inspection.splits:
        for head, counts in split.labels.items():
            rows.append((f"{split.task}.{head}", split.split, f"{split.num_missing[head]:,}", _counted(counts)))
    return TextTable("Labels", ("head", "split", "missing", "labels"), rows)


def _counted(counts: Mapping[str, int]) -> str:
    shown = [f"{label} {count:,}" for label, count in list(counts.items())[:NUM_LABELS_SHOWN]]
    more = len(counts) - NUM_LABELS_SHOWN
    return "  ".join([*shown, *([f"and {more} more"] if more > 0 else [])])


def _leaks(inspection: Inspection) -> TextTable:
    rows = [
        (leak.task, leak.split, f"in {leak.train_task} train", f"{leak.num_examples:,}", percent(leak.share))
        for leak in inspection.leaks
    ]
    first = [
        f"For example, {there} is also at {here}." for leak in inspection.leaks for there, here, _ in leak.places[:1]
    ]
    note = " ".join(first[:1]) if rows else "Leaks: no text of a dev or test set is also in a train set."
    return TextTable("Leaks", ("task", "split", "found", "examples", "share"), rows, num_names=3, note=note)


def _training(inspection: Inspection) -> TextTable:
    plan = inspection.plan
    rows = [
        (
            task.task, f"{task.num_steps:,}", f"{task.num_epochs:.2f}", f"{task.num_examples:,}",
            f"{task.num_tokens:,}", percent(task.share_of_tokens),
        )
        for task in plan.tasks
    ]  # fmt: skip
    note = (
        f"Training will take {plan.num_steps:,} steps ({plan.num_warmup_steps:,} of warmup) in {plan.num_epochs:.2f} "
        f"epochs, unless it stops early."
    )
    columns = ("task", "steps", "epochs", "examples", "tokens", "share of tokens")
    return TextTable("Training", columns, rows, num_names=1, note=note)

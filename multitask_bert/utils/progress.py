"""Progress of long loops over data: a bar in a terminal, and lines in run.log."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from multitask_bert.utils.clock import seconds_since
from multitask_bert.utils.ranks import this_run
from multitask_bert.utils.terminal import make_console
from multitask_bert.utils.visible import on_one_line

log = logging.getLogger(__name__)

SECONDS_UNSEEN = 2.0  # a loop that ends sooner shows no bar
SECONDS_BETWEEN_LOOKS, SECONDS_BETWEEN_LINES = 0.2, 60.0
Item = TypeVar("Item")


def tracked(
    items: Iterable[Item], what: str, *, total: int | None = None, size_of: Callable[[Item], int] = lambda item: 1
) -> Iterator[Item]:
    """Yield the items and show how many examples are done. `total`: of the examples, if known; `size_of`: number of
    examples in an item."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    start = last_line = last_look = time.perf_counter()
    num_done = 0
    what = on_one_line(what)
    named = TextColumn("{task.description}", markup=False)
    columns = named, BarColumn(), MofNCompleteColumn(), TextColumn("examples"), TimeRemainingColumn()
    console = make_console(sys.stderr)
    is_shown = console.is_terminal and this_run().is_first
    with Progress(*columns, console=console, transient=True, auto_refresh=False, disable=not is_shown) as progress:
        bar = progress.add_task(what, total=total, visible=False)
        for item in items:
            yield item
            num_done += size_of(item)
            if num_done % 100 and size_of(item) == 1:  # reading the clock costs as much as reading a short line
                continue
            now = time.perf_counter()
            if now - last_look > SECONDS_BETWEEN_LOOKS:
                last_look = now
                progress.update(bar, completed=num_done, visible=now - start > SECONDS_UNSEEN, refresh=True)
            if now - last_line > SECONDS_BETWEEN_LINES:
                last_line = now
                of = "" if total is None else f" of {total:,}"
                log.info("%s: %s%s examples after %.0f s", what, f"{num_done:,}", of, now - start)
    seconds = seconds_since(start)
    if seconds > SECONDS_UNSEEN:
        log.info(
            "%s: %s examples in %.1f s, %s per second", what, f"{num_done:,}", seconds, f"{num_done / seconds:,.0f}"
        )

"""Where a run writes its files, and who is told how it goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from multitask_bert.data.processor import SplitReport
from multitask_bert.tracking.console import Console
from multitask_bert.tracking.loggers import RunLogger

# Called after each evaluation with the step, the number of steps of the whole run and the scores; True ends the run.
Watcher = Callable[[int, int, Mapping[str, float]], bool]


@dataclass(frozen=True)
class RunOutput:
    """The outside of a run; with the defaults it writes nothing and says nothing."""

    folder: Path | None = None  # None: the best weights stay in memory, and nothing is written
    name: str | None = None  # of the run in the loggers; None: that of the config, or its tasks
    tags: Mapping[str, str] = field(default_factory=dict)  # for the loggers
    loggers: Sequence[RunLogger] = ()  # used only with a folder; `Trainer.from_config` adds those of the config
    console: Console = field(default_factory=lambda: Console(quiet=True))
    watcher: Watcher | None = None  # may prune an unpromising run
    data_reports: Sequence[SplitReport] = ()  # what the data holds, for `results.json`

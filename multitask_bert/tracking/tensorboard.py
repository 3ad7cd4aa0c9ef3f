"""TensorBoard event files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from multitask_bert.tracking.event_file import EventFile
from multitask_bert.tracking.loggers import RunLogger, RunStart

SPLITS = ("train", "eval", "test")  # `eval_loss` is shown as `eval/loss` in TensorBoard


class TensorBoardLogger(RunLogger):
    """Scalars, images and the config as event files in `<folder>/<log_dir>`."""

    def __init__(self, log_dir: str = "tensorboard") -> None:
        self.log_dir = log_dir
        self._file: EventFile | None = None
        self._folder, self._step = Path(), 0  # of the run; the newest that has metrics

    def start(self, run: RunStart) -> None:
        is_resumed = run.num_bytes_kept is not None  # later steps are logged again
        self._folder = run.folder
        self._file = EventFile(run.folder / self.log_dir, first_step=run.step + 1 if is_resumed else None)
        text = json.dumps(run.config, indent=2, ensure_ascii=False, default=str)
        self._file.add_text("config", f"```json\n{text}\n```")

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        file, self._step = self._file, step
        if file is not None:
            for name, value in metrics.items():
                self.attempt(partial(file.add_scalar, _tag(name), value, step))

    def log_artifact(self, path: Path) -> None:
        """Show a PNG file as an image of the newest step, named by its path in the run's folder; ignore other files."""
        file = self._file
        if file is not None and path.suffix == ".png":
            tag = path.relative_to(self._folder).with_suffix("").as_posix()
            file.add_png(tag, path.read_bytes(), self._step)

    def close(self, status: str = "FINISHED") -> None:
        file, self._file = self._file, None
        if file is not None:
            file.flush()


def _tag(name: str) -> str:
    split, _, rest = name.partition("_")
    tag = f"{split}/{rest}" if split in SPLITS and rest else name
    return tag.encode("utf-8", "backslashreplace").decode("utf-8")  # protobuf refuses lone surrogates

"""The best model so far: which one it is, and where it is kept.

`checkpoints/best/` is a whole model folder, with `state.json` beside the weights.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from multitask_bert.errors import InputError
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.train_state import TrainState
from multitask_bert.utils.files import CHECKSUMS, compare_checksums, partial_of, read_json, write_json

log = logging.getLogger(__name__)

STATE = "state.json"


class BestCheckpoint:
    """Keeps the best weights: in `folder`/checkpoints/`name`, or in memory where there is no folder.

    `metric`: the key of the score that decides; `is_higher_better`: its direction.
    """

    def __init__(self, folder: Path | None, *, metric: str, is_higher_better: bool, name: str = "best") -> None:
        self.folder = None if folder is None else folder / "checkpoints" / name
        self.metric, self.is_higher_better = metric, is_higher_better
        self._in_memory: dict[str, Any] | None = None

    def prefers(self, metrics: Mapping[str, float], others: Mapping[str, float]) -> bool:
        """Whether the first scores are better than the others."""
        return is_better(self._score(metrics), self._score(others), higher=self.is_higher_better)

    def offer(
        self,
        model: MultiTaskModel,
        tokenizer: Any,
        metrics: Mapping[str, float],
        state: TrainState,
        *,
        weights: str = "plain",
    ) -> bool:
        """Keep weights with these scores if they are the best so far, and note that in the state; whether they are.

        Raises:
            InputError: the metric is not among the scores, or the folder cannot be written.
        """
        score = self._score(metrics)
        if not is_better(score, state.best_score, higher=self.is_higher_better):
            state.evaluations_since_best += 1
            return False
        state.evaluations_since_best = 0
        state.best_score, state.best_metrics, state.best_weights = score, dict(metrics), weights
        state.best_step, state.best_epoch = state.step, state.epoch + state.epoch_progress
        self.keep(model, tokenizer, state)
        if math.isnan(score):  # only the first evaluation can be such a best
            log.warning(
                "step %d: %s is not a number; this model is kept until an evaluation gives one",
                state.step, self.metric,
            )  # fmt: skip
        return True

    def _score(self, metrics: Mapping[str, float]) -> float:
        if self.metric not in metrics:
            raise InputError(f"trainer.metric_for_best={self.metric}: not among {', '.join(metrics)}")
        return metrics[self.metric]

    def keep(self, model: MultiTaskModel, tokenizer: Any, state: TrainState) -> None:
        """Replace what was kept before.

        Raises:
            InputError: the folder cannot be written.
        """
        if self.folder is None:
            self._in_memory = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
            return
        try:
            model.save(self.folder, tokenizer)
            write_json(self.folder / STATE, asdict(state))
        except Exception as error:  # for a full disk, safetensors and tokenizers have exceptions of their own
            raise InputError(
                f"{self.folder}: the best model cannot be written ({error}); make room there and go on with "
                f"resume=true; the one before it is whole"
            ) from error

    def is_there(self) -> bool:
        """Whether a folder holds it, whole or not."""
        return self.folder is not None and self.folder.is_dir()

    def is_half_replaced(self) -> bool:
        """Whether a process was killed just where the old one is removed and the new one has not got its name."""
        return self.folder is not None and not self.is_there() and partial_of(self.folder).is_dir()

    def step(self) -> int | None:
        """At which it was made; None: that cannot be read."""
        assert self.folder is not None
        try:
            return int(read_json(self.folder / STATE)["step"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def damage(self) -> str | None:
        """What is wrong with the kept model; None: nothing is, or it is in memory."""
        if self.folder is None:
            return None
        if not self.is_there():
            return "it is not there"
        if not (self.folder / CHECKSUMS).is_file():
            return None  # an older one
        try:
            compare_checksums(self.folder)
        except (OSError, ValueError) as error:
            return f"damaged: {error}"
        return None

    def restore(self, model: MultiTaskModel) -> None:
        """Put the kept weights into the model.

        Raises:
            InputError: they are not what was kept.
        """
        if self.folder is not None:
            if (damage := self.damage()) is not None:
                raise InputError(f"{self.folder}: the best model is lost ({damage}); resume=true looks for a way to it")
            model.load_weights(self.folder)
        elif self._in_memory is not None:
            model.load_state_dict(self._in_memory)

    def publish(self, folder: Path) -> None:
        """The kept model as a folder of its own, without a second copy of the weights where the disk can link.

        Raises:
            InputError: it cannot be written; what was there before is whole.
        """
        if self.folder is None or not self.folder.is_dir():
            return
        partial = partial_of(folder)
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for path in self.folder.iterdir():
                if path.name != STATE:
                    _link_or_copy(path, partial / path.name)
            shutil.rmtree(folder, ignore_errors=True)
            partial.rename(folder)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise InputError(
                f"{folder}: the best model cannot be written there ({error}); make room and go on with resume=true; "
                f"it is whole in {self.folder}"
            ) from error


def is_better(score: float, best: float | None, *, higher: bool) -> bool:
    """Whether a score beats the best so far (None: there is none); what is not a number never beats one that is."""
    if best is None or math.isnan(best):
        return best is None or not math.isnan(score)
    return score > best if higher else score < best


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)

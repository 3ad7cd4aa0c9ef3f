"""The best model so far, which is not a checkpoint: weights with the best score, from which a run is not resumed.

`checkpoints/best/` is a model folder like `model/`, with `state.json` beside the weights.
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
from multitask_bert.saving.store import CHECKPOINTS
from multitask_bert.train_state import TrainState
from multitask_bert.utils.files import CHECKSUMS, compare_checksums, partial_of, read_json, write_json
from multitask_bert.utils.ranks import this_run

log = logging.getLogger(__name__)

STATE = "state.json"


class BestModel:
    """Saves the best weights: in `folder`/checkpoints/`name`, or in memory if there is no folder.

    `metric`: the key of the score that decides; `is_higher_better`: its direction.
    """

    def __init__(self, folder: Path | None, *, metric: str, is_higher_better: bool, name: str = "best") -> None:
        self.folder = None if folder is None else folder / CHECKPOINTS / name
        self.metric, self.is_higher_better = metric, is_higher_better
        self._in_memory: dict[str, Any] | None = None

    def prefers(self, metrics: Mapping[str, float], others: Mapping[str, float]) -> bool:
        """Whether the first metrics are better than the others."""
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
        """Save the weights, and note it in the state, if these metrics are the best so far; True if they are.

        Raises:
            InputError: `self.metric` is not among the metrics, or the folder cannot be written.
        """
        score = self._score(metrics)
        if not is_better(score, state.best_score, higher=self.is_higher_better):
            state.evaluations_since_best += 1
            return False
        state.evaluations_since_best = 0
        state.best_score, state.best_metrics, state.best_weights = score, dict(metrics), weights
        state.best_step, state.best_epoch = state.step, state.epoch + state.epoch_progress
        self.save(model, tokenizer, state)
        if math.isnan(score):  # only the first evaluation can be such a best
            log.warning(
                "step %d: %s is not a number; this model counts as the best until one is",
                state.step, self.metric,
            )  # fmt: skip
        return True

    def _score(self, metrics: Mapping[str, float]) -> float:
        if self.metric not in metrics:
            raise InputError(f"trainer.metric_for_best={self.metric}: not among {', '.join(metrics)}")
        return metrics[self.metric]

    def save(self, model: MultiTaskModel, tokenizer: Any, state: TrainState) -> None:
        """Save these weights in place of the earlier ones; of several processes, rank 0 does.

        Raises:
            InputError: the folder cannot be written.
        """
        if not this_run().is_first:
            return
        if self.folder is None:
            self._in_memory = {name: weight.detach().clone() for name, weight in model.state_dict().items()}
            return
        try:
            model.save(self.folder, tokenizer)
            write_json(self.folder / STATE, asdict(state))
        except Exception as error:  # safetensors and tokenizers raise exceptions of their own when a disk is full
            raise InputError(
                f"{self.folder}: the best model cannot be written ({error}); free disk space and continue with "
                f"resume=true; the earlier one is intact"
            ) from error

    def is_there(self) -> bool:
        """Whether the folder exists, intact or not."""
        return self.folder is not None and self.folder.is_dir()

    def is_half_replaced(self) -> bool:
        """Whether a process was killed after it removed the old folder and before it renamed the new one."""
        return self.folder is not None and not self.is_there() and partial_of(self.folder).is_dir()

    def step(self) -> int | None:
        """The step at which the model was saved; None if that cannot be read."""
        assert self.folder is not None
        try:
            return int(read_json(self.folder / STATE)["step"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def damage(self) -> str | None:
        """What is wrong with the saved model; None if it is intact or in memory."""
        if self.folder is None:
            return None
        if not self.is_there():
            return "it is not there"
        if not (self.folder / CHECKSUMS).is_file():
            return None  # saved by an older version
        try:
            compare_checksums(self.folder)
        except (OSError, ValueError) as error:
            return f"damaged: {error}"
        return None

    def restore(self, model: MultiTaskModel) -> None:
        """Load the saved weights into the model, and into that of every other process of the run.

        Raises:
            InputError: the saved model is damaged or missing.
        """
        self._load(model)
        this_run().copy_from_first(model.state_dict().values())

    def _load(self, model: MultiTaskModel) -> None:
        if self.folder is not None:
            if (damage := self.damage()) is not None:
                raise InputError(f"{self.folder}: the best model is lost ({damage}); resume=true makes it again")
            model.load_weights(self.folder)
        elif self._in_memory is not None:
            model.load_state_dict(self._in_memory)

    def publish(self, folder: Path) -> None:
        """Copy the saved model to a folder of its own, by hard links if the disk supports them.

        Raises:
            InputError: it cannot be written; what was there before is intact.
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
                f"{folder}: the best model cannot be written there ({error}); free disk space and continue with "
                f"resume=true; it is intact in {self.folder}"
            ) from error


def is_better(score: float, best: float | None, *, higher: bool) -> bool:
    """Whether a score beats the best so far (None: there is none); NaN never beats a number."""
    if best is None or math.isnan(best):
        return best is None or not math.isnan(score)
    return score > best if higher else score < best


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)

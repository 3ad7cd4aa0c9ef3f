"""Each head's own best step, beside the one step that is best for all heads together: what the joint choice costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import EncodedExample, TaskResult
from multitask_bert.saving.best_model import BestCheckpoint, is_better
from multitask_bert.train_state import TrainState
from multitask_bert.training.evaluation import Evaluator


class OwnBest:
    """Notes each head's best headline score on dev and its step in `state.best_by_head`, by `task.head`.

    `keeps`: whether the weights of those steps are kept too, each in checkpoints/best_of/TASK.HEAD (in memory where
    `folder` is None), a model folder as any.
    """

    def __init__(self, folder: Path | None, state: TrainState, *, keeps: bool) -> None:
        self._folder, self._state, self.keeps = folder, state, keeps
        self._kept: dict[str, BestCheckpoint] = {}

    def offer(self, results: Mapping[str, TaskResult], model: MultiTaskModel, tokenizer: Any) -> None:
        """The results of an evaluation of the weights that are in the model."""
        for name, (task, head) in _names(results):
            score = next(iter(results[task].scores[head].values()))
            best = self._state.best_by_head.get(name)
            if is_better(score, None if best is None else best["score"], higher=True):
                self._state.best_by_head[name] = {"score": score, "step": self._state.step}
                if self.keeps:
                    self._checkpoint(name).keep(model, tokenizer, self._state)

    def rows(self, best: Mapping[str, TaskResult]) -> list[tuple[str, str, str, str, str]]:
        """By head that does better at a step of its own: its score with the model that is best for all (`best`), its
        own best, the step, and the difference.
        """
        rows = []
        for name, (task, head) in _names(best):
            own = self._state.best_by_head[name]
            if own["step"] == self._state.best_step:
                continue
            (metric, score), *_ = best[task].scores[head].items()
            cost = 100 * (own["score"] - score)
            rows.append((name, f"{metric} {score:.4f}", f"{own['score']:.4f}", str(own["step"]), f"{cost:.1f} points"))
        return rows

    def test(
        self,
        model: MultiTaskModel,
        evaluator: Evaluator,
        datasets: Mapping[str, Dataset[EncodedExample]],
    ) -> dict[str, dict[str, Any]]:
        """Test scores of each head with the weights of its own best step, which are then in the model; by `task.head`.

        Empty where no weights are kept.
        """
        found = {}
        for name, own in self._state.best_by_head.items() if self.keeps else ():
            task, _, head = name.partition(".")
            if task in datasets:
                self._checkpoint(name).restore(model)
                result = evaluator.evaluate(task, datasets[task], test=True, joint=False)
                scores, interval = result.scores.get(head, {}), result.intervals.get(head)
                found[name] = {"step": own["step"], "scores": scores, "interval": interval}
        return found

    def _checkpoint(self, name: str) -> BestCheckpoint:
        if name not in self._kept:
            metric = f"the headline of {name}"
            self._kept[name] = BestCheckpoint(
                self._folder, metric=metric, is_higher_better=True, name=f"best_of/{name}"
            )
        return self._kept[name]


def _names(results: Mapping[str, TaskResult]) -> Iterator[tuple[str, tuple[str, str]]]:
    """`task.head` and the two names; heads without a score are left out."""
    for task, result in results.items():
        yield from ((f"{task}.{head}", (task, head)) for head, scores in result.scores.items() if scores)

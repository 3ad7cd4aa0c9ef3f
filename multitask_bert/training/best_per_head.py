"""Each head's own best step, beside the one step that is best for all together: what choosing one step costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import EncodedExample, TaskResult, task_of
from multitask_bert.saving.best_model import BestModel, is_better
from multitask_bert.train_state import TrainState
from multitask_bert.training.evaluation import Evaluator


class BestPerHead:
    """Keeps each head's best headline score on dev and its step in `state.best_by_head`, by `task.head`.

    `keeps`: whether to save the weights of those steps too, each as a model folder checkpoints/best_of/TASK.HEAD (in
    memory where `folder` is None).
    """

    def __init__(self, folder: Path | None, state: TrainState, *, keeps: bool) -> None:
        self._folder, self._state, self.keeps = folder, state, keeps
        self._saved: dict[str, BestModel] = {}

    def offer(self, results: Mapping[str, TaskResult], model: MultiTaskModel, tokenizer: Any) -> None:
        """Update the best scores with the results of the weights that are in the model."""
        for name, (task, head) in _names(results):
            score = next(iter(results[task].scores[head].values()))
            best = self._state.best_by_head.get(name)
            if is_better(score, None if best is None else best["score"], higher=True):
                self._state.best_by_head[name] = {"score": score, "step": self._state.step}
                if self.keeps:
                    self._best_model(name).save(model, tokenizer, self._state)

    def rows(self, best: Mapping[str, TaskResult]) -> list[tuple[str, str, str, str, str]]:
        """A row for each head that does better at another step: its name, its score with the best model (`best`), its
        own best score, the step of that, and the difference in points.
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
        """Test scores of each head with the weights of its own best step, by `task.head`; empty if none are saved.

        Leaves those weights in the model.
        """
        found = {}
        for name, own in self._state.best_by_head.items() if self.keeps else ():
            task, _, head = name.partition(".")
            if task in datasets:
                self._best_model(name).restore(model)
                result = evaluator.evaluate_all({task: datasets[task]}, intervals=True)[task]
                scores, interval = result.scores.get(head, {}), result.intervals.get(head)
                found[name] = {"step": own["step"], "scores": scores, "interval": interval}
        return found

    def _best_model(self, name: str) -> BestModel:
        if name not in self._saved:
            metric = f"the headline of {name}"
            self._saved[name] = BestModel(self._folder, metric=metric, is_higher_better=True, name=f"best_of/{name}")
        return self._saved[name]


def _names(results: Mapping[str, TaskResult]) -> Iterator[tuple[str, tuple[str, str]]]:
    """`task.head` and the two names, of each head that has a score; not of pooled scores."""
    for task, result in results.items():
        if task_of(task) != task:
            continue
        yield from ((f"{task}.{head}", (task, head)) for head, scores in result.scores.items() if scores)

"""Step 9 of the flow: logits become predictions (evaluation_pass.py), predictions become scores (task_scores.py), which
are named in metric_keys.py. One pass gives loss and scores.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

import torch
from torch.utils.data import Dataset

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.model.acceleration import empty_cache
from multitask_bert.model.devices import is_out_of_memory
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import EncodedExample, TaskResult, task_of
from multitask_bert.training.evaluation_pass import PassOptions, Predicted, predict_task
from multitask_bert.training.task_scores import score_pooled, score_task, tune_heads

log = logging.getLogger(__name__)


class Evaluator:
    """Evaluates data sets; once a batch did not fit into the device's memory, in smaller batches.

    `before_batch`: called before each batch; what it raises ends the evaluation.
    """

    def __init__(
        self,
        model: MultiTaskModel,
        config: ExperimentConfig,
        *,
        pad_id: int,
        device: torch.device,
        before_batch: Callable[[], None] = lambda: None,
    ) -> None:
        self.model, self.tasks = model, config.tasks
        self.options = PassOptions(
            config.batching.eval_batch_size, config.batching.eval_max_tokens, pad_id, device, before_batch
        )

    def evaluate_all(
        self,
        datasets: Mapping[str, Dataset[EncodedExample]],
        *,
        tune: bool = False,
        intervals: bool = False,
        trained: Collection[str] | None = None,
    ) -> dict[str, TaskResult]:
        """The results by task; those of a named test set as `task.name`. The scores of shared heads over all their
        tasks follow, as `task.pooled`, by the task that has the weights.

        `tune`, `intervals`: as in `evaluate_task`. `trained`: the tasks that have training data; None: all. Heads are
        tuned on the dev sets of these, a shared one once, and then the others are evaluated.

        Raises:
            InputError: one example alone does not fit into the device's memory.
        """
        is_trained = {name: trained is None or task_of(name) in trained for name in datasets}
        found = {name: self._predict(name, datasets[name], tune=tune) for name in datasets if is_trained[name]}
        if tune:
            tune_heads(self.model, found)
        found |= {name: self._predict(name, datasets[name]) for name in datasets if not is_trained[name]}
        results = {
            name: score_task(
                self.model, found[name], tune=tune and is_trained[name], intervals=intervals,
                joint_accuracy=self.tasks[task_of(name)].joint_accuracy,
            )
            for name in datasets
        }  # fmt: skip
        return results | score_pooled(self.model, found, intervals=intervals)

    def _predict(self, name: str, dataset: Dataset[EncodedExample], *, tune: bool = False) -> Predicted:
        """What a task's heads predict for a split; in smaller batches where memory is short."""
        while True:
            try:
                return predict_task(self.model, task_of(name), dataset, self.options, tune=tune)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.options.max_tokens == 1:
                    raise InputError(
                        f"evaluating {name}: out of memory; one example does not fit into the device's memory; set "
                        f"trainer.precision=bf16 or a smaller batching.max_length"
                    ) from None
            assert self.options.max_tokens is not None
            self.options = replace(self.options, max_tokens=self.options.max_tokens // 2)
            log.warning("evaluation: out of memory; from here on batching.eval_max_tokens=%d", self.options.max_tokens)
            empty_cache(self.options.device)


def evaluate_task(
    model: MultiTaskModel,
    task: str,
    dataset: Dataset[EncodedExample],
    *,
    batch_size: int,
    max_tokens: int | None = None,
    pad_id: int,
    device: torch.device,
    tune: bool = False,
    joint_accuracy: bool = False,
    intervals: bool = False,
) -> TaskResult:
    """Predict and score one data set; the model is in eval mode meanwhile.

    `tune`: let heads choose what the config leaves open, such as thresholds, and look for heads that have learned
    nothing; for dev only, never for test. `intervals`: also the 95% bootstrap interval of each head's headline score.
    """
    options = PassOptions(batch_size, max_tokens, pad_id, device, before_batch=lambda: None)
    found = predict_task(model, task, dataset, options, tune=tune)
    if tune:
        tune_heads(model, {task: found})
    return score_task(model, found, tune=tune, intervals=intervals, joint_accuracy=joint_accuracy)

"""The training plan, compared with the batches that training draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from multitask_bert.config.schema import ExperimentConfig, MixingConfig
from multitask_bert.data.processor import DataProcessor
from multitask_bert.data.streaming import TrainingStream
from multitask_bert.reports.training_plan import plan_training


@pytest.mark.parametrize("max_steps", [None, 7, 11, 100])
@pytest.mark.parametrize(
    "mixing", [MixingConfig(), MixingConfig(when_exhausted="cycle"), MixingConfig("temperature", temperature=3.0)]
)
def test_steps_examples_and_tokens_are_those_that_training_draws(
    make_config: Callable[..., ExperimentConfig], tokenizer: Any, mixing: MixingConfig, max_steps: int | None
) -> None:
    config = make_config(num_epochs=2, max_steps=max_steps, batch_size=9)
    config.mixing = mixing
    data = DataProcessor(config.tasks, data_root=config.data_root, seed=1).process(tokenizer, max_length=32)
    datasets = dict(sorted(data.train.items()))  # as the Trainer has them
    stream = TrainingStream(datasets, config.batching, mixing, num_epochs=2, pad_id=0, seed=config.seed)
    steps_of_run = [pair for epoch in range(2) for pair in zip(stream.plan(epoch), stream.epoch(epoch), strict=True)]
    drawn = [(task, batch) for step, (batch,) in steps_of_run for task in step][:max_steps]
    plan = plan_training(config, dict(data.train), pad_id=0)
    assert plan.num_steps == len(drawn)
    assert plan.num_epochs == pytest.approx(len(drawn) / stream.num_steps(0))
    steps, examples, tokens = Counter[str](), Counter[str](), Counter[str]()
    for task, batch in drawn:
        steps[task] += 1
        examples[task] += batch.num_examples
        tokens[task] += batch.num_tokens
    for task in plan.tasks:
        assert (task.num_steps, task.num_examples) == (steps[task.task], examples[task.task])
        assert task.num_tokens == tokens[task.task]
        assert task.num_epochs == examples[task.task] / len(datasets[task.task])
    assert sum(task.share_of_tokens for task in plan.tasks) == pytest.approx(1.0)

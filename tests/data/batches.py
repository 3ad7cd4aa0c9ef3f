"""What the tests of batching and loading share: random encoded examples, plans of batches over them, and a loader."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from multitask_bert.config.schema import BatchingConfig
from multitask_bert.data.batching import plan_batches
from multitask_bert.data.loading import Loader
from multitask_bert.data.splits import InMemorySplit
from multitask_bert.records import UNKNOWN, Batch, EncodedExample, Example, Target

PAD = 99
LENGTHS = [int(length) for length in np.random.default_rng(0).integers(3, 40, size=237)]


def target(indices: tuple[int, ...], values: tuple[int, ...]) -> Target:
    return Target(indices, values, num_known=sum(value != UNKNOWN for value in values))


def plan(
    batch_size: int, sort_window: int, *, lengths: Sequence[int] = LENGTHS, epoch: int = 0, seed: int = 1
) -> list[list[int]]:
    batching = BatchingConfig(batch_size=batch_size, sort_window=sort_window)
    return plan_batches(lengths, batching, purpose=("ner", epoch, 0), seed=seed)


def encoded(name: str, ids: tuple[int, ...], types: tuple[int, ...] | None = None, **targets: Target) -> EncodedExample:
    example = Example(f"{name}:1", name, {})
    return EncodedExample(example, ids, types or (0,) * len(ids), (), targets)


def random_examples(num_examples: int) -> list[EncodedExample]:
    """With a target at a few positions and one for the whole; every eighth has none at all for `tags`."""
    draw = random.Random(6)
    examples = []
    for number in range(num_examples):
        ids = tuple(draw.randint(100, 999) for _ in range(draw.randint(3, 12)))
        indices = () if number % 8 == 0 else tuple(sorted(draw.sample(range(len(ids)), k=2)))
        values = tuple(draw.choice([0, 1, 2, UNKNOWN]) for _ in indices)
        types = tuple(int(place > 4) for place in range(len(ids)))
        mood = target((0,), (draw.choice([0, 1, UNKNOWN]),))
        examples.append(encoded(f"text {number}", ids, types, tags=target(indices, values), mood=mood))
    return examples


def assert_equal_batches(one: Batch, other: Batch) -> None:
    for field in dataclasses.fields(Batch):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name != "targets":
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, field.name
    assert list(one.targets) == list(other.targets)
    for key, target in one.targets.items():
        twin = other.targets[key]
        assert target.num_known == twin.num_known
        for name in ("token_M", "example_M", "value_M"):
            assert torch.equal(getattr(target, name), getattr(twin, name)), (key, name)


DATASET = InMemorySplit(random_examples(60))
BATCHES = [{"ner": batch} for batch in plan(4, 2, lengths=DATASET.lengths())]


def loader(num_workers: int, dataset: Dataset[EncodedExample] = DATASET, **options: object) -> Loader:
    return Loader({"ner": dataset}, micro_batch_size=3, pad_id=PAD, num_workers=num_workers, **options)  # type: ignore[arg-type]


class SlowDataset(Dataset[EncodedExample]):
    """So that there is time to end the process that loads."""

    def __init__(self, dataset: Dataset[EncodedExample], seconds: float = 0.002) -> None:
        self.dataset, self.seconds = dataset, seconds

    def __getitem__(self, index: int) -> EncodedExample:
        time.sleep(self.seconds)
        return self.dataset[index]

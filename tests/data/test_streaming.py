"""The batches of a training run: what an epoch sees, and that nothing but config, sizes, seed and epoch decides it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from multitask_bert.config.schema import BatchingConfig, MixingConfig
from multitask_bert.data.splits import InMemorySplit
from multitask_bert.data.streaming import TrainingStream
from multitask_bert.records import UNKNOWN, EncodedExample, Example, Target

SIZES = {"big": 50, "small": 13}


def target(indices: tuple[int, ...], values: tuple[int, ...]) -> Target:
    return Target(indices, values, num_known=sum(value != UNKNOWN for value in values))


def numbered(task: str, n: int) -> EncodedExample:
    ids = (1, n, *[2] * (n % 7))
    return EncodedExample(Example(f"{task}:{n}", "", {}), ids, (0,) * len(ids), (), {"h": target((0,), (0,))})


def numbered_set(task: str, size: int) -> InMemorySplit:
    return InMemorySplit([numbered(task, n) for n in range(size)])


def make_stream(mixing: MixingConfig | None = None, *, seed: int = 1, **batching: Any) -> TrainingStream:
    """Two tasks; the second token of an example is its number, by which a batch shows whom it holds."""
    datasets = {task: InMemorySplit([numbered(task, n) for n in range(size)]) for task, size in SIZES.items()}
    config = BatchingConfig(**{"batch_size": 4, **batching})
    return TrainingStream(datasets, config, mixing or MixingConfig(), num_epochs=3, pad_id=0, seed=seed)


def numbers(stream: TrainingStream, epoch: int) -> list[tuple[str, list[int]]]:
    """Task and examples of every step."""
    return [
        ("+".join(step), [n for batch in micro_batches for n in batch.input_ids_BS[:, 1].tolist()])
        for step, micro_batches in zip(stream.plan(epoch), stream.epoch(epoch), strict=True)
    ]


@pytest.mark.parametrize("epoch", [0, 2])
def test_an_epoch_sees_every_example_of_every_task_once(epoch: int) -> None:
    stream = make_stream()
    steps = numbers(stream, epoch)
    seen = Counter((task, n) for task, batch in steps for n in batch)
    assert seen == Counter((task, n) for task, size in SIZES.items() for n in range(size))
    assert len(steps) == stream.num_steps(epoch) == 13 + 4


def test_examples_longer_than_max_tokens_are_counted_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Lengths are 2 to 8, of 50 examples 7 or 8 each."""
    make_stream(max_tokens=8)
    assert not caplog.records
    stream = make_stream(max_tokens=7)
    assert [record.message for record in caplog.records] == [
        f"batching.max_tokens=7: {which} are longer (up to 8 tokens); each is a batch of its own"
        for which in ("7 of 50 training examples of big", "1 of 13 training examples of small")
    ]
    assert all(len(batch) == 1 for _, batch in numbers(stream, 0) if any(n % 7 == 6 for n in batch))


def test_steps_follow_the_rounds_of_the_plan() -> None:
    stream = make_stream(MixingConfig(rule="temperature"))
    assert [task for task, _ in numbers(stream, 1)] == [task for step in stream.plan(1) for task in step]


def test_a_task_that_begins_anew_sees_all_its_examples_again_in_another_order() -> None:
    steps = numbers(make_stream(MixingConfig(when_exhausted="cycle")), 0)
    small = [n for task, batch in steps if task == "small" for n in batch]
    first, second, third = small[:13], small[13:26], small[26:39]
    assert sorted(first) == sorted(second) == sorted(third) == list(range(13))
    assert first != second != third != first


def test_an_epoch_does_not_depend_on_the_epochs_before_it() -> None:
    stream = make_stream()
    numbers(stream, 0)
    assert numbers(stream, 1) == numbers(make_stream(), 1)


def test_orders_differ_between_epochs_and_between_seeds() -> None:
    orders = [numbers(make_stream(seed=seed), epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert all(one != other for place, one in enumerate(orders) for other in orders[:place])


def test_micro_batches_hold_the_examples_of_the_step_in_their_order() -> None:
    assert numbers(make_stream(micro_batch_size=3), 0) == numbers(make_stream(), 0)


def test_a_task_with_epochs_of_its_own_is_seen_so_often_in_the_whole_run_and_evenly() -> None:
    datasets = {"a": numbered_set("a", 64), "b": numbered_set("b", 32)}
    stream = TrainingStream(
        datasets, BatchingConfig(batch_size=4, sort_window=1), MixingConfig(),
        num_epochs=4, task_epochs={"b": 1.5}, pad_id=0, seed=1,
    )  # fmt: skip
    seen = [Counter(index for step in stream.plan(epoch) for index in step.get("b", ())) for epoch in range(4)]
    assert [sum(of_epoch.values()) for of_epoch in seen] == [12, 12, 12, 12]
    assert [sum("a" in step for step in stream.plan(epoch)) for epoch in range(4)] == [16] * 4
    in_all = sum(seen, Counter())
    assert sorted(in_all.values()) == [1] * 16 + [2] * 16  # one pass whole, then half of another


def test_epochs_are_added_for_min_steps_only_where_a_task_has_more_to_give() -> None:
    def stream(**task_epochs: float) -> TrainingStream:
        datasets = {"a": numbered_set("a", 16), "b": numbered_set("b", 8)}
        return TrainingStream(
            datasets, BatchingConfig(batch_size=4), MixingConfig(),
            num_epochs=1, min_steps=20, task_epochs=task_epochs, pad_id=0, seed=1,
        )  # fmt: skip

    assert (stream().num_epochs, stream().total_steps) == (4, 24)
    assert (stream(b=1.0).num_epochs, stream(b=1.0).total_steps) == (5, 22)
    assert (stream(a=1.0, b=1.0).num_epochs, stream(a=1.0, b=1.0).total_steps) == (1, 6)


def test_epochs_after_the_last_step_are_not_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = TrainingStream(
        {"a": numbered_set("a", 16)}, BatchingConfig(batch_size=4), MixingConfig(),
        num_epochs=10**9, pad_id=0, seed=1,
    )  # fmt: skip
    assert stream.count_steps(6) == 6
    assert make_stream().count_steps(None) == make_stream().total_steps == make_stream().count_steps(10**6)

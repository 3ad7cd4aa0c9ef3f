"""Which task is next."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction

import pytest

from multitask_bert.config.schema import MixingConfig
from multitask_bert.data.mixing import exponent, plan_epoch

SIZES = [
    {"a": 1},
    {"a": 3, "b": 3},
    {"a": 100, "b": 1},
    {"a": 7, "b": 212, "c": 82},
    {"a": 132, "b": 114, "c": 44, "d": 1, "e": 132},
]
DRAWN = [
    MixingConfig(rule="proportional"),
    MixingConfig(rule="temperature", temperature=2.0),
    MixingConfig(rule="annealed"),
]


def plan(
    mixing: MixingConfig, sizes: dict[str, int], *, epoch: int = 0, num_epochs: int = 3, seed: int = 1
) -> list[tuple[str, ...]]:
    return plan_epoch(mixing, sizes, epoch=epoch, num_epochs=num_epochs, seed=seed)


def counts(rounds: list[tuple[str, ...]]) -> Counter[str]:
    return Counter(task for tasks in rounds for task in tasks)


@pytest.mark.parametrize("sizes", SIZES)
def test_spread_takes_every_batch_once_per_epoch(sizes: dict[str, int]) -> None:
    assert MixingConfig().rule == "round_robin"
    assert MixingConfig().when_exhausted == "spread"
    assert counts(plan(MixingConfig(), sizes)) == sizes


@pytest.mark.parametrize("sizes", SIZES)
def test_spread_is_proportional_to_within_a_batch_after_any_round(sizes: dict[str, int]) -> None:
    rounds = plan(MixingConfig(), sizes)
    done: Counter[str] = Counter()
    for number, tasks in enumerate(rounds, start=1):
        done.update(tasks)
        for task, size in sizes.items():
            assert abs(done[task] - Fraction(number * size, len(rounds))) < 1


def test_spread_lets_the_smaller_task_sit_out_evenly() -> None:
    rounds = plan(MixingConfig(), {"big": 9, "small": 3})
    assert rounds == [("big",), ("big",), ("big", "small")] * 3


@pytest.mark.parametrize("sizes", SIZES)
def test_cycle_has_every_task_in_every_round_until_the_largest_is_through(sizes: dict[str, int]) -> None:
    assert plan(MixingConfig(when_exhausted="cycle"), sizes) == [tuple(sizes)] * max(sizes.values())


@pytest.mark.parametrize("sizes", SIZES)
def test_stop_has_every_task_in_every_round_until_the_smallest_is_through(sizes: dict[str, int]) -> None:
    assert plan(MixingConfig(when_exhausted="stop"), sizes) == [tuple(sizes)] * min(sizes.values())


@pytest.mark.parametrize("when_exhausted", ["spread", "cycle", "stop"])
def test_no_task_is_twice_in_a_round_and_their_order_stays(when_exhausted: str) -> None:
    sizes = {"c": 5, "a": 9, "b": 2}
    for tasks in plan(MixingConfig(when_exhausted=when_exhausted), sizes):
        assert list(tasks) == [task for task in sizes if task in tasks]


@pytest.mark.parametrize("mixing", DRAWN, ids=lambda mixing: mixing.rule)
@pytest.mark.parametrize("epoch", [0, 1, 4])
def test_drawn_shares_are_powers_of_the_sizes(mixing: MixingConfig, epoch: int) -> None:
    sizes = {"a": 4000, "b": 1000, "c": 250}
    power = {"proportional": 1.0, "temperature": 0.5, "annealed": 1.0 - 0.8 * epoch / 4}[mixing.rule]
    rounds = plan(mixing, sizes, epoch=epoch, num_epochs=5)
    num_steps = sum(sizes.values())
    assert len(rounds) == num_steps
    assert all(len(tasks) == 1 for tasks in rounds)
    for task, size in sizes.items():
        share = size**power / sum(other**power for other in sizes.values())
        standard_error = (share * (1 - share) / num_steps) ** 0.5
        assert abs(counts(rounds)[task] / num_steps - share) < 4 * standard_error


@pytest.mark.parametrize("mixing", DRAWN, ids=lambda mixing: mixing.rule)
def test_an_epoch_of_drawn_batches_has_as_many_as_are_asked_for(mixing: MixingConfig) -> None:
    short = replace(mixing, steps_per_epoch=7)
    assert [len(plan(short, {"a": 60, "b": 40}, epoch=epoch)) for epoch in (0, 1)] == [7, 7]


def test_temperature_one_and_the_first_annealed_epoch_are_proportional() -> None:
    assert exponent(MixingConfig(rule="temperature", temperature=1.0), epoch=2, num_epochs=3) == 1.0
    assert exponent(MixingConfig(rule="annealed"), epoch=0, num_epochs=3) == 1.0
    assert exponent(MixingConfig(rule="annealed"), epoch=0, num_epochs=1) == 1.0


def test_a_very_high_temperature_draws_all_tasks_alike() -> None:
    rounds = plan(MixingConfig(rule="temperature", temperature=1e9), {"a": 5000, "b": 100})
    assert abs(counts(rounds)["b"] / 5100 - 0.5) < 4 * (0.25 / 5100) ** 0.5


@pytest.mark.parametrize("mixing", [MixingConfig(), *DRAWN], ids=lambda mixing: mixing.rule)
def test_a_plan_depends_on_its_arguments_only(mixing: MixingConfig) -> None:
    sizes = {"a": 30, "b": 20}
    before = plan(mixing, sizes, epoch=1)
    plan(mixing, sizes, epoch=0)
    assert plan(mixing, sizes, epoch=1) == before


@pytest.mark.parametrize("mixing", DRAWN, ids=lambda mixing: mixing.rule)
def test_drawn_plans_differ_between_epochs_and_seeds(mixing: MixingConfig) -> None:
    sizes = {"a": 60, "b": 40}
    plans = [plan(mixing, sizes, epoch=epoch, seed=seed) for epoch in range(3) for seed in range(3)]
    assert all(one != other for place, one in enumerate(plans) for other in plans[:place])

"""Batches: every example once, padded where it should be, each target at its token."""

from __future__ import annotations

import pytest
import torch

from multitask_bert.data.batching import plan_evaluation
from multitask_bert.data.collation import collate
from multitask_bert.data.loading import Loader
from multitask_bert.data.splits import InMemorySplit
from multitask_bert.records import UNKNOWN
from tests.data.batches import LENGTHS, PAD, assert_equal_batches, encoded, plan, random_examples, target


def padding_in(batches: list[list[int]]) -> int:
    return sum(max(LENGTHS[i] for i in batch) * len(batch) - sum(LENGTHS[i] for i in batch) for batch in batches)


# Plans


@pytest.mark.parametrize("batch_size", [1, 8, 16, 237, 500])
@pytest.mark.parametrize("sort_window", [1, 4, 50])
def test_each_example_is_in_exactly_one_batch_of_a_pass(batch_size: int, sort_window: int) -> None:
    batches = plan(batch_size, sort_window)
    assert sorted(index for batch in batches for index in batch) == list(range(len(LENGTHS)))
    sizes = sorted(map(len, batches), reverse=True)
    assert sizes[:-1] == [batch_size] * (len(LENGTHS) // batch_size if len(LENGTHS) % batch_size else len(batches) - 1)


@pytest.mark.parametrize("sort_window", [1, 4, 50])
def test_another_epoch_and_another_seed_have_another_order(sort_window: int) -> None:
    plans = [plan(16, sort_window, epoch=epoch, seed=seed) for epoch in range(3) for seed in (1, 2)]
    assert all(one != other for place, one in enumerate(plans) for other in plans[:place])
    groups = [{*map(frozenset, one)} for one in plans]
    assert all(one != other for place, one in enumerate(groups) for other in groups[:place]), "the same batches again"


@pytest.mark.parametrize("sort_window", [1, 4, 50])
def test_the_same_seed_has_the_same_order(sort_window: int) -> None:
    assert plan(16, sort_window, epoch=2) == plan(16, sort_window, epoch=2)


def test_one_window_over_everything_makes_batches_of_neighbours_in_length() -> None:
    found = sorted(sorted(LENGTHS[index] for index in batch) for batch in plan(16, 50))
    ordered = sorted(LENGTHS)
    assert found == sorted(ordered[first : first + 16] for first in range(0, len(ordered), 16))


def test_sorted_batches_do_not_come_in_the_order_of_their_lengths() -> None:
    longest = [max(LENGTHS[index] for index in batch) for batch in plan(16, 50)]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_a_wider_window_has_less_padding() -> None:
    assert padding_in(plan(16, 50)) < padding_in(plan(16, 4)) < padding_in(plan(16, 1))


def test_texts_of_one_length_are_shuffled_fully() -> None:
    order = [index for batch in plan(8, 50, lengths=[5] * 64) for index in batch]
    assert order != sorted(order)
    assert {*map(frozenset, plan(8, 50, lengths=[5] * 64))} != {frozenset(range(n, n + 8)) for n in range(0, 64, 8)}


@pytest.mark.parametrize("batch_size", [1, 10, 237, 500])
def test_evaluation_covers_every_example_once_longest_first(batch_size: int) -> None:
    batches = plan_evaluation(LENGTHS, batch_size)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(LENGTHS)))
    assert [LENGTHS[index] for index in order] == sorted(LENGTHS, reverse=True)
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}


# Collating


def test_a_batch_is_padded_on_the_right_and_padding_is_owned_by_nobody() -> None:
    batch = collate([("ner", encoded("a", (5, 6, 7, 8), (0, 0, 1, 1))), ("ner", encoded("b", (5, 9)))], pad_id=PAD)
    assert batch.input_ids_BS.tolist() == [[5, 6, 7, 8], [5, 9, PAD, PAD]]
    assert batch.token_type_BS.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0]]
    assert batch.sequence_BS.tolist() == [[0, 0, 0, 0], [1, 1, -1, -1]]
    assert batch.position_BS[batch.sequence_BS >= 0].tolist() == [0, 1, 2, 3, 0, 1]
    assert (batch.num_examples, batch.num_tokens) == (2, 6)


def test_rows_without_padding_are_the_examples() -> None:
    examples = random_examples(40)
    batch = collate([("ner", example) for example in examples], pad_id=PAD)
    for row, example in enumerate(examples):
        is_real = batch.sequence_BS[row] == row
        assert tuple(batch.input_ids_BS[row][is_real].tolist()) == example.input_ids
        assert tuple(batch.token_type_BS[row][is_real].tolist()) == example.token_type_ids
        assert set(batch.input_ids_BS[row][~is_real].tolist()) <= {PAD}
    assert batch.num_tokens == sum(len(example.input_ids) for example in examples)


def test_every_target_points_at_its_token_and_its_example() -> None:
    examples = random_examples(40)
    batch = collate([("ner", example) for example in examples], pad_id=PAD)
    for head in ("tags", "mood"):
        target = batch.targets["ner", head]
        flat = [
            (number, example.input_ids[index], value)
            for number, example in enumerate(examples)
            for index, value in zip(example.targets[head].token_indices, example.targets[head].values, strict=True)
        ]
        tokens = batch.input_ids_BS.flatten()[target.token_M].tolist()
        owners = batch.sequence_BS.flatten()[target.token_M].tolist()
        assert list(zip(target.example_M.tolist(), tokens, target.value_M.tolist(), strict=True)) == flat
        assert owners == target.example_M.tolist()
        assert target.num_known == sum(value != UNKNOWN for _, _, value in flat) < len(flat)


def test_examples_of_several_tasks_share_a_batch_with_targets_by_task_and_head() -> None:
    examples = [
        ("ner", encoded("a", (1, 2, 3), entities=target((1, 2), (4, 5)))),
        ("mood", encoded("b", (1, 6), polarity=target((0,), (1,)), tone=target((0,), (UNKNOWN,)))),
        ("ner", encoded("c", (1, 7, 8, 9), entities=target((3,), (6,)))),
    ]
    batch = collate(examples, pad_id=PAD)
    seen = {
        key: (
            batch.input_ids_BS.flatten()[target.token_M].tolist(),
            target.example_M.tolist(),
            target.value_M.tolist(),
            target.num_known,
        )
        for key, target in batch.targets.items()
    }
    assert seen == {
        ("ner", "entities"): ([2, 3, 9], [0, 0, 2], [4, 5, 6], 3),
        ("mood", "polarity"): ([1], [1], [1], 1),
        ("mood", "tone"): ([1], [1], [UNKNOWN], 0),
    }


def test_a_head_without_any_target_in_the_batch_keeps_its_place() -> None:
    batch = collate([("ner", encoded("a", (1, 2), entities=target((), ())))], pad_id=PAD)
    found = batch.targets["ner", "entities"]
    assert (found.token_M.tolist(), found.value_M.tolist(), found.num_known) == ([], [], 0)
    assert found.token_M.dtype == found.example_M.dtype == found.value_M.dtype == torch.long


# Loaders


def test_lengths_are_numbers_of_tokens() -> None:
    examples = random_examples(9)
    assert InMemorySplit(examples).lengths() == [len(example.input_ids) for example in examples]


def test_a_loader_gives_the_batches_in_the_order_of_the_plan() -> None:
    examples = random_examples(20)
    batches = plan(6, 1, lengths=[len(example.input_ids) for example in examples])
    loaded = list(Loader({"ner": InMemorySplit(examples)}, pad_id=PAD).load([{"ner": batch} for batch in batches]))
    assert len(loaded) == len(batches) == 4
    for indices, micro_batches in zip(batches, loaded, strict=True):
        (batch,) = micro_batches
        assert_equal_batches(batch, collate([("ner", examples[index]) for index in indices], pad_id=PAD))


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4, 5, 8, 100])
def test_micro_batches_together_are_the_batch(micro_batch_size: int) -> None:
    examples = random_examples(8)
    loader = Loader({"ner": InMemorySplit(examples)}, micro_batch_size=micro_batch_size, pad_id=PAD)
    (micro_batches,) = loader.load([{"ner": range(8)}])
    assert [batch.num_examples for batch in micro_batches] == [
        min(micro_batch_size, 8 - first) for first in range(0, 8, micro_batch_size)
    ]
    whole = collate([("ner", example) for example in examples], pad_id=PAD)
    rows = [
        ids[owners >= 0].tolist()
        for batch in micro_batches
        for ids, owners in zip(batch.input_ids_BS, batch.sequence_BS, strict=True)
    ]
    assert rows == [list(example.input_ids) for example in examples]
    assert sum(batch.num_tokens for batch in micro_batches) == whole.num_tokens
    for key, joined in whole.targets.items():
        parts = [batch.targets[key] for batch in micro_batches]
        assert sum(part.num_known for part in parts) == joined.num_known
        assert torch.equal(torch.cat([part.value_M for part in parts]), joined.value_M)
        tokens = [b.input_ids_BS.flatten()[b.targets[key].token_M] for b in micro_batches]
        assert torch.equal(torch.cat(tokens), whole.input_ids_BS.flatten()[joined.token_M])


def test_loading_draws_nothing_from_the_generator_of_dropout() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    list(Loader({"ner": InMemorySplit(random_examples(4))}, pad_id=PAD).load([{"ner": [0, 1]}, {"ner": [2, 3]}]))
    assert torch.equal(torch.get_rng_state(), before)

"""The arithmetic, the parsing and the data behind `benchmarks/peers.py`, and that a peer can be trained on it."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import peers, recipe, report, tiny_model
from benchmarks.hf_trainer import train, training_arguments
from benchmarks.inference_speed import align
from multitask_bert.records import EncodedExample, Example


def training(contestant: str, number: int, speed: float) -> dict[str, Any]:
    """A record of a training run, as `peers.py` writes it."""
    return {
        "part": "training", "bundle": "a+b", "round": number, "contestant": contestant, "tokens_per_second": speed,
        "examples_per_second": speed / 10, "peak_memory_mib": 1000.0, "command_seconds": 60.0,
        "test": {"test_a_head_f1": 0.5, f"test_only_{contestant}": 1.0},
    }  # fmt: skip


def ceiling(number: int, rate: float) -> dict[str, Any]:
    return {
        "part": "ceiling", "bundle": "a+b", "round": number, "operations_per_second": rate, "encoder_parameters": 1000,
        "device": "CPU", "threads": 2, "torch": "2", "transformers": "5",
    }  # fmt: skip


def test_ratio_pairs_runs_of_the_same_round_whatever_their_order() -> None:
    ours = [training("ours", 0, 30.0), training("ours", 1, 10.0)]
    theirs = [training("Trainer", 1, 5.0), training("Trainer", 0, 10.0)]
    assert report.ratios(ours, theirs, "tokens_per_second") == [3.0, 2.0]


def test_ratio_leaves_out_a_round_that_one_of_the_two_lacks() -> None:
    ours = [training("ours", 0, 30.0), training("ours", 1, 10.0)]
    assert report.ratios(ours, [training("Trainer", 1, 5.0)], "tokens_per_second") == [2.0]


def test_ratio_is_shown_as_median_with_least_and_greatest() -> None:
    assert report.show_ratios([3.0, 1.0, 2.0]) == "2.00 x (1.00 to 3.00)"
    assert report.show_ratios([1.5]) == "1.50 x"
    assert report.show_ratios([]) == ""


def test_share_of_the_ceiling_takes_the_rate_of_its_own_round() -> None:
    records = [training("ours", 0, 10.0), training("ours", 1, 10.0)]
    shares = report.shares_of_ceiling(records, [ceiling(1, 600_000.0), ceiling(0, 120_000.0)])
    assert shares == [0.5, 0.1]  # 6 x 1000 x 10 operations per second


def test_report_has_medians_and_only_scores_that_all_have() -> None:
    records = [
        record
        for number, (ours, theirs) in enumerate([(10.0, 5.0), (40.0, 10.0), (30.0, 10.0)])
        for record in (ceiling(number, 1e6), training("Trainer", number, theirs), training("ours", number, ours))
    ]
    text = report.write_report({"commit": "abc", "model": "m", "seed": 1, "records": records}, None)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    by_name = {line[0]: line for line in lines}
    assert by_name["ours"][:4] == ["ours", "30", "", "3.0"]
    assert by_name["Trainer"][:4] == ["Trainer", "10", "3.00 x (2.00 to 4.00)", "1.0"]
    assert by_name["`a_head_f1`"] == ["`a_head_f1`", *["50.0 (50.0 50.0 50.0)"] * 2]
    assert "only_" not in text


def test_scores_are_shown_as_mean_and_those_of_each_seed() -> None:
    assert report.show_scores([{"f1": 0.25}, {"f1": 0.75}], "f1") == "50.0 (25.0 75.0)"
    assert report.show_scores([{"f1": 0.25}], "f1") == "25.0"


def test_rows_of_a_table_have_as_many_cells_as_its_header() -> None:
    growth = [
        {
            "part": "growth", "round": 0, "contestant": contestant, "num_tasks": num_tasks, "length": 32,
            "tokens_per_second": 10.0, "seconds_per_batch": 0.5, "peak_memory_mib": 900.0,
        }
        for contestant in ("ours", "plain")
        for num_tasks in (1, 2)
    ]  # fmt: skip
    speeds = [
        {"contestant": way, "round": 0, "examples_per_second": 10.0, "peak_memory_mib": 900.0}
        for _, way, peer, _ in report.INFERENCE
        for way in (way, peer)
    ]
    for written in (report.growth_table(growth), report.inference_table(speeds)):
        counts = {line.count("|") for line in written.splitlines()}
        assert len(counts) == 1
        assert len(written.splitlines()) > 3


def test_two_ways_agree_where_scores_are_equal_to_four_places() -> None:
    assert report.agreement({"test": {"f1": 0.50001}}, {"test": {"f1": 0.50003, "accuracy": 0.1}}) == "yes"
    assert report.agreement({"test": {"f1": 0.5}}, {"test": {"f1": 0.6}}) == "no"
    assert report.agreement({"labels": {"task": {"a": 1}}}, {"labels": {"task": {"a": 2}}}) == "no"
    assert report.agreement({}, {}) == ""


def test_every_round_begins_with_another_contestant() -> None:
    assert [peers.rotated("abc", number) for number in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_an_option_without_a_value_is_left_out() -> None:
    assert peers.as_options({"max_steps": 3, "seed": None}) == ["--max-steps", "3"]


def test_json_is_read_from_the_last_line_only() -> None:
    assert peers.last_json(['{"a": 1}', "", '{"b": 2}']) == {"b": 2}
    assert peers.last_json(["Training took 3 s"]) == {}
    assert peers.last_json([]) == {}


def test_a_point_that_both_sweeps_share_is_measured_once() -> None:
    amounts = peers.Amounts(("a",), 1, 1, tasks_to_grow=(1, 2), tasks_length=64, lengths_to_grow=(32, 64))
    assert amounts.growth_points() == [(1, 64), (2, 64), (1, 32)]


def test_measuring_tells_output_and_time_of_a_command() -> None:
    finished = peers.measure([sys.executable, "-c", "import time; time.sleep(0.2); print('{\"a\": 1}')"])
    assert finished.output == {"a": 1}
    assert finished.seconds >= 0.2


def test_the_peak_of_a_small_process_is_not_that_of_the_one_that_measures() -> None:
    size_of = "lambda num: measure([sys.executable, '-c', f'data = bytearray({num} * 2**20)']).peak_memory_mib"
    code = f"import sys; from benchmarks.peers import measure; size_of = {size_of}; print(size_of(1), size_of(200))"
    printed = subprocess.run([sys.executable, "-c", code], cwd=peers.REPOSITORY, stdout=subprocess.PIPE, check=True)
    small, large = map(float, printed.stdout.split())
    assert small < 100  # torch alone, loaded where it measures, would be more
    assert large - small > 150


def test_a_command_that_fails_is_told_with_what_it_said() -> None:
    with pytest.raises(RuntimeError, match=r"status 3:\nno such task"):
        peers.measure([sys.executable, "-c", "import sys; print('no such task', file=sys.stderr); sys.exit(3)"])


def test_the_recipe_of_the_others_is_what_the_config_of_ours_holds() -> None:
    args = argparse.Namespace(
        tasks="ner+sentiment", model=recipe.MODEL, epochs=2, max_steps=None, seed=3, data_root=Path("data")
    )
    config = recipe.compose_config(recipe.overrides_of(args))
    assert list(config.tasks) == ["ner", "sentiment"]
    assert (config.optimizer.lr, config.optimizer.weight_decay) == (recipe.LEARNING_RATE, recipe.WEIGHT_DECAY)
    assert (config.batching.batch_size, config.batching.max_length) == (recipe.BATCH_SIZE, recipe.MAX_LENGTH)
    assert (config.trainer.num_epochs, config.trainer.max_steps, config.seed) == (2, None, 3)


def test_a_word_that_truncation_cut_off_counts_as_outside() -> None:
    encoded = EncodedExample(
        example=Example(where="here", text="Juma yuko Arusha", labels={}),
        input_ids=(101, 7, 8, 9, 102), token_type_ids=(0,) * 5, word_starts=(1, 3, -1), targets={},
    )  # fmt: skip
    assert recipe.tags_of_words(encoded, [0, 1, 0, 0, 0, 1], ["O", "B-PER"]) == ["B-PER", "O", "O"]


def test_only_the_first_piece_of_a_word_carries_its_label() -> None:
    assert align([None, 0, 0, 1, None], [5, 6]) == [-100, 5, -100, 6, -100]


def test_steps_are_shared_by_tasks_that_are_trained_one_after_the_other() -> None:
    assert recipe.steps_of_a_task(5, 2) == 3
    assert recipe.steps_of_a_task(None, 2) is None


def test_contestants_get_the_examples_of_the_data_processor_and_score_right_answers_as_right() -> None:
    entities, sentiment = load_embedded_tasks()
    assert [task.name for task in (entities, sentiment)] == ["ner", "sentiment"]
    for task in (entities, sentiment):
        assert all(len(task.splits[split]) > 100 for split in ("train", "dev", "test"))
        right = [np.array(task.label_of(encoded)) for encoded in task.splits["dev"]]
        assert task.score("dev", right)["f1"] == 1.0
        assert task.score("dev", [np.zeros_like(answer) for answer in right])["f1"] < 0.5


@pytest.mark.slow
def test_the_trainer_is_trained_and_tells_its_scores_on_dev_and_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["tiny_model.py", str(tmp_path / "tiny")])
    tiny_model.main()
    (_, sentiment) = load_embedded_tasks()
    few = replace(sentiment, splits={split: examples[:40] for split, examples in sentiment.splits.items()})
    options = training_arguments(str(tmp_path / "run"), max_steps=2, train_sampling_strategy="group_by_length")
    result = train(few, str(tmp_path / "tiny"), recipe.load_tokenizer(recipe.MODEL), options)
    assert (result.steps, result.examples) == (2, 2 * recipe.BATCH_SIZE)
    assert set(result.test) == {few.key(name) for name in ("f1", "f1_weighted", "accuracy")}
    ((seconds, f1),) = result.dev["sentiment"]
    assert seconds > 0
    assert 0 <= f1 <= 1


def load_embedded_tasks() -> list[recipe.Task]:
    args = recipe.argument_parser("").parse_args(["--tasks", "ner+sentiment"])
    return recipe.load_tasks(args, recipe.load_tokenizer(args.model))

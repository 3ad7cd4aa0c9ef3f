"""Two processes, started by torchrun, train as one does: the same losses, weights, scores and predictions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import to_dict
from multitask_bert.data.batching import split_step
from multitask_bert.errors import InputError
from multitask_bert.model.devices import pick_device
from multitask_bert.saving.store import CheckpointStore
from multitask_bert.training.balancing import FixedWeights
from multitask_bert.training.data_parallel import check_processes_agree
from multitask_bert.training.loop import make_stream
from multitask_bert.training.output import RunOutput
from multitask_bert.training.trainer import Trainer
from multitask_bert.utils.ranks import Ranks
from tests.composing import ROOT
from tests.training import one_of_several
from tests.training.recorded import assert_same_weights

MakeConfig = Callable[..., ExperimentConfig]
EXACT: dict[str, Any] = {"dropout": 0.0, "num_epochs": 1, "log_every": 1}
# By name: fields of trainer, batching and others
CASES: dict[str, dict[str, Any]] = {
    "padded_task": {},
    "padded_round": {"update": "round"},
    "packed_task": {"layout": "packed"},
    "packed_round": {"layout": "packed", "update": "round"},
    "micro_batches": {"micro_batch_size": 2, "update": "round"},
    "uneven_end": {"batch_size": 13},  # the last batches have 1 and 4 examples: none for rank 1 in the first
    "pairs": {"batch_size": 1, "update": "round", "layout": "packed"},  # a task per process
    "own_counts": {"sort_window": 1},  # each step divides by its own count
    "max_tokens": {"max_tokens": 50},
    "missing_labels": {"missing": True},
    "ema": {"averaging": "ema"},
    "balancer": {"balancing": "tests.training.test_data_parallel.LastLosses"},
    "non_finite": {"on_non_finite": "skip", "balancing": "tests.training.test_data_parallel.InfiniteOnce"},
    "out_of_memory": {},
    "workers": {"num_workers": 1},
    "stopped": {"update": "round"},
    "stopped_alone": {"update": "round"},  # by one process; resumed by two
}
RANDOM = {"with_dropout": {"dropout": 0.1}, "stopped_with_dropout": {"dropout": 0.1}}


def torchrun(*arguments: str | Path, processes: int = 2, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    own = {"OMP_NUM_THREADS": "1", "MULTITASK_BERT_ALLOW": "tests", "MULTITASK_BERT_CACHE": "", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, *map(str, arguments)], cwd=ROOT, env={**os.environ, **own, **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


class LastLosses(FixedWeights):
    """A rule that learns: each head's weight is one over its last loss."""

    def after_step(self, losses: Any) -> None:
        self.weights = {**self.weights, **{key: 1.0 / (0.1 + float(loss)) for key, loss in losses.items()}}


class InfiniteOnce(FixedWeights):
    """The loss of an example of `people`, which one process has, is not a number in the third step."""

    num_steps = 0

    def after_step(self, losses: Any) -> None:
        self.num_steps += 1

    def combine(self, losses: Any) -> Any:
        total = super().combine(losses)
        is_bad = self.num_steps == 2 and ("people", "entities") in losses
        return total * float("nan") if is_bad else total


def config_of(name: str, make_config: MakeConfig, root: Path) -> ExperimentConfig:
    fields = dict((CASES | RANDOM)[name])
    averaging, balancing, is_missing = (fields.pop(key, None) for key in ("averaging", "balancing", "missing"))
    config = make_config(**EXACT | {"max_steps": None if name == "uneven_end" else 6} | fields)
    config.name = name
    if averaging:
        config.averaging.kind, config.averaging.decay = averaging, 0.5
    if balancing:
        config.balancing._target_ = balancing
    if is_missing:
        config.data_root = str(root)
    return config


@dataclass
class Finished:
    """What a run left: what each rank saw, its weights, and the log."""

    seen: list[dict[str, Any]]
    weights: list[dict[str, torch.Tensor]]
    losses: list[tuple[int, dict[str, float]]]

    @classmethod
    def read(cls, folder: Path, processes: int) -> Finished:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        return cls(
            [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(processes)],
            [load_file(folder / f"rank{rank}.safetensors") for rank in range(processes)],
            [(line.pop("step"), line) for line in lines if "train_loss" in line],
        )


@pytest.fixture(scope="module")
def data_with_gaps(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two tasks, with most labels of `mood` missing: a process often has none."""
    root = tmp_path_factory.mktemp("gaps")
    for file in data_root.rglob("*.*"):
        target = root / file.relative_to(data_root)
        target.parent.mkdir(exist_ok=True)
        text = file.read_text()
        if file.suffix == ".tsv":
            lines = text.splitlines()
            text = "\n".join(line if n % 5 < 2 else line.partition("\t")[0] + "\t" for n, line in enumerate(lines))
        target.write_text(text)
    return root


@pytest.fixture(scope="module")
def two(make_config: MakeConfig, data_with_gaps: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have trained every case."""
    folder = tmp_path_factory.mktemp("two")
    for name in CASES | RANDOM:
        OmegaConf.save(OmegaConf.create(to_dict(config_of(name, make_config, data_with_gaps))), folder / f"{name}.yaml")
    alone = folder / "stopped_alone"
    trainer = Trainer.from_config(config_of(alone.name, make_config, data_with_gaps), RunOutput(alone))
    one_of_several.stop_and_save(trainer, alone)
    process = torchrun(Path(one_of_several.__file__), folder)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_as_one(
    name: str, two: Path, make_config: MakeConfig, data_with_gaps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTITASK_BERT_ALLOW", "tests")
    one_of_several.train(config_of(name, make_config, data_with_gaps), tmp_path / "one")
    alone, both = Finished.read(tmp_path / "one", 1), Finished.read(two / name, 2)
    assert_same_weights(alone.weights[0], both.weights[0])
    assert all(torch.equal(weight, both.weights[1][key]) for key, weight in both.weights[0].items())
    for (step, losses), (step_of_both, losses_of_both) in zip(alone.losses, both.losses, strict=True):
        for values in (losses, losses_of_both):
            values.pop("time")
        assert (step_of_both, losses_of_both) == (step, pytest.approx(losses, abs=1e-6, rel=1e-5))
    for seen in both.seen:
        assert seen["state"] == pytest.approx(alone.seen[0]["state"], abs=1e-6)
        for split in ("dev", "test"):
            assert seen[split] == pytest.approx(alone.seen[0][split], abs=1e-5)
        assert seen["predictions"] == alone.seen[0]["predictions"]


@pytest.mark.slow
def test_a_run_of_two_processes_can_be_resumed_by_one(
    two: Path, make_config: MakeConfig, data_with_gaps: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(two / "stopped_before", tmp_path / "resumed")
    config = config_of("padded_round", make_config, data_with_gaps)
    one_of_several.train(replace(config, name="stopped", resume=True), folder, stops=False)
    alone = Finished.read(folder, 1)
    assert_same_weights(alone.weights[0], Finished.read(two / "padded_round", 2).weights[0])
    assert [step for step, _ in alone.losses] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_resumed_run_of_two_processes_equals_an_uninterrupted_one(two: Path) -> None:
    whole, resumed = (Finished.read(two / name, 2) for name in RANDOM)
    for rank in range(2):
        assert all(torch.equal(weight, resumed.weights[rank][key]) for key, weight in whole.weights[rank].items())
        assert whole.seen[rank]["dev"] == resumed.seen[rank]["dev"]


@pytest.mark.slow
def test_processes_draw_dropout_of_their_own(two: Path) -> None:
    saved = CheckpointStore(two / "stopped_before").read()
    assert saved is not None
    assert not torch.equal(saved.tensors["random.torch"], saved.tensors["random.rank1.torch"])


@pytest.mark.slow
def test_processes_share_the_steps(two: Path) -> None:
    pairs = Finished.read(two / "pairs", 2).seen
    rounds = list(zip(*(seen["heads"] for seen in pairs), strict=False))
    assert sorted(rounds[0]) == [["mood"], ["people"]]
    uneven = Finished.read(two / "uneven_end", 2).seen
    assert len(uneven[0]["heads"]) > len(uneven[1]["heads"])  # a step of one example is no work for rank 1
    assert Finished.read(two / "non_finite", 2).seen[1]["state"]["num_skipped"] > 0


class WithAnother(Ranks):
    """Rank 0 of two processes; the other has other data."""

    def gather(self, value: Any) -> list[Any]:
        return [value, {**value, "data": "other"}]


def test_a_process_that_begins_with_other_data_is_refused(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config())
    with pytest.raises(InputError, match="rank 1 has other data than rank 0"):
        check_processes_agree(WithAnother(size=2), trainer.model, make_stream(trainer))


def test_more_loader_processes_than_cores_are_warned_of(
    make_config: MakeConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    for num_workers, is_warned in ((1, False), (2, True)):
        trainer = Trainer.from_config(make_config(num_workers=num_workers))
        with pytest.raises(InputError):
            check_processes_agree(WithAnother(size=2, local_size=2), trainer.model, make_stream(trainer))
        assert (
            "batching.num_workers=2: 2 processes on this machine have 4 workers, on 4 cores" in caplog.text
        ) is is_warned


@pytest.mark.parametrize(
    ("device", "problem"),
    [("auto", "4 processes on a machine with 2 CUDA devices"), ("cuda:1", "one device for 4 processes")],
)
def test_processes_without_a_gpu_each_are_refused(device: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multitask_bert.model.devices.this_run", lambda: Ranks(size=4, local_size=4))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(InputError, match=problem):
        pick_device(device)


def tokens_of(part: dict[str, list[int]], lengths: dict[str, list[int]]) -> int:
    return sum(lengths[task][index] for task, indices in part.items() for index in indices)


def test_a_step_is_split_by_tokens_and_keeps_its_order() -> None:
    lengths = {"a": [10, 3, 3, 4], "b": [9, 1, 20]}
    step = {"b": [0, 1], "a": [3, 0, 2]}
    parts = split_step(step, lengths, 2)
    assert parts == [{"b": [1], "a": [0, 2]}, {"b": [0], "a": [3]}]
    assert [tokens_of(part, lengths) for part in parts] == [14, 13]


def test_a_step_of_few_examples_leaves_processes_without_any() -> None:
    assert split_step({"a": [5]}, {"a": [1] * 6}, 3) == [{"a": [5]}, {}, {}]

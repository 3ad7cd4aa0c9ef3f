"""A program that torchrun starts twice: it trains with each config of a folder, one after the other.

FOLDER/NAME.yaml becomes FOLDER/NAME/: metrics.jsonl by rank 0, and for each rank what it saw and its weights.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import save_file

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import from_tree
from multitask_bert.training import steps
from multitask_bert.training.loop import Stopped
from multitask_bert.training.output import RunOutput
from multitask_bert.training.trainer import Trainer
from multitask_bert.utils.ranks import this_run

STATE = ("step", "num_examples", "num_tokens", "best_score", "best_step", "num_skipped")


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for file in sorted(folder.glob("*.yaml")):
        train(from_tree(OmegaConf.load(file)), folder / file.stem)  # type: ignore[arg-type]


def train(config: ExperimentConfig, folder: Path, *, stops: bool = True) -> None:
    """Train; a run whose name begins with `stopped` stops after three steps and is resumed, unless it shall not."""
    ranks = this_run()
    folder.mkdir(exist_ok=True)
    trainer = Trainer.from_config(config, RunOutput(folder if ranks.is_first else None))
    heads: list[list[str]] = []
    trainer.model.register_forward_pre_hook(
        lambda model, inputs: heads.append(sorted(task for task, _ in inputs[0].targets)) if model.training else None
    )
    if config.name == "out_of_memory" and ranks.rank == 1:
        run_out_of_memory_once()
    if stops and config.name and config.name.startswith("stopped"):
        if config.name != "stopped_alone":
            stop_and_save(trainer, folder)
        trainer = Trainer.from_config(replace(config, resume=True), RunOutput(folder if ranks.is_first else None))
    state = trainer.train()
    result = trainer.evaluate()
    test = trainer.evaluate(test=True)
    seen: dict[str, Any] = {
        "state": {name: getattr(state, name) for name in STATE},
        "dev": result, "test": test, "heads": heads,
        "predictions": {f"{name} {task}.{head}": [repr(one.value) for one in found]
                        for name in ("eval", "test")
                        for task, of_task in trainer.results[name].items()
                        for head, found in of_task.predictions.items()},
    }  # fmt: skip
    trainer.close()
    (folder / f"rank{ranks.rank}.json").write_text(json.dumps(seen))
    weights = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    save_file(weights, folder / f"rank{ranks.rank}.safetensors")


def stop_and_save(trainer: Trainer, folder: Path) -> None:
    """Ask the last process to stop after the third step, and copy what the run has left to FOLDER_before."""
    ranks, agree = this_run(), trainer.agree_to_stop

    def ask_and_agree() -> None:
        if trainer.state.step == 3 and ranks.rank == ranks.size - 1:
            trainer.ask_to_stop("SIGTERM")
        agree()

    trainer.agree_to_stop = ask_and_agree  # type: ignore[method-assign]
    with pytest.raises(Stopped, match="SIGTERM"):
        trainer.train()
    trainer.close()
    assert trainer.state.step == 3
    if ranks.is_first:
        shutil.copytree(folder, folder.with_name(f"{folder.name}_before"))
    ranks.sums([0])  # wait for the copy


def run_out_of_memory_once() -> None:
    """Let the second step of this process not fit into memory."""
    run, calls = steps._run_micro_batches, 0

    def fail_once(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            steps._run_micro_batches = run
            raise torch.OutOfMemoryError("a test")
        return run(*arguments)

    steps._run_micro_batches = fail_once


if __name__ == "__main__":
    main(Path(sys.argv[1]))

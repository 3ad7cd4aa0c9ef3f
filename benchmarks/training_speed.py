"""Training speed of one task, ours beside the Hugging Face `Trainer`: same data, encoder and recipe, runs in turn.

    python benchmarks/training_speed.py --data-root data --task wnut17 --runs 3

Prints the median real (not padding) tokens per second of each, and the ratio of ours to each, pair by pair.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PEERS = {"Trainer": [], "Trainer, group_by_length": ["--group-by-length"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--task", default="wnut17")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    args = parser.parse_args()
    speeds: dict[str, list[float]] = {"ours": [], **{name: [] for name in PEERS}}
    for _ in range(args.runs):
        speeds["ours"].append(speed_of_ours(args.data_root, args.task, args.epochs))
        for name, options in PEERS.items():
            speeds[name].append(speed_of_trainer(args.data_root, args.task, args.epochs, options))
        print({name: round(values[-1]) for name, values in speeds.items()}, file=sys.stderr, flush=True)
    print(f"{args.task}, {args.epochs} epoch(s), {args.runs} run(s) each")
    for name, values in speeds.items():
        ratio = statistics.median(mine / other for mine, other in zip(speeds["ours"], values, strict=True))
        print(f"{name:<26} {statistics.median(values):>8,.0f} tokens/s   ours is {ratio:.2f} x")


def speed_of_ours(data_root: Path, task: str, epochs: int) -> float:
    """Real tokens per second in training, as `results.json` has it."""
    with tempfile.TemporaryDirectory() as folder:
        run(
            "run.py", f"tasks={task}", f"data_root={data_root.resolve()}", f"trainer.num_epochs={epochs}",
            "logger=none", f"hydra.run.dir={folder}",
        )  # fmt: skip
        return float(json.loads((Path(folder) / "results.json").read_text())["train_tokens_per_second"])


def speed_of_trainer(data_root: Path, task: str, epochs: int, options: list[str]) -> float:
    """The same of `benchmarks/hf_trainer.py`, whose time is that of `Trainer.train()` without evaluations."""
    printed = run(
        "benchmarks/hf_trainer.py", "--data-root", str(data_root.resolve()), "--task", task, "--epochs", str(epochs),
        "--no-evaluation", *options,
    )  # fmt: skip
    return float(json.loads(printed.splitlines()[-1])["real_tokens_per_second"])


def run(script: str, *arguments: str) -> str:
    """What `python SCRIPT ARGUMENTS` prints."""
    command = [sys.executable, str(REPOSITORY / script), *arguments]
    return subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    main()

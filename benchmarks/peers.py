"""Speed, memory and scores of ours beside its peers, in one command; a Markdown report, a plot and all raw numbers.

    python benchmarks/peers.py --data-root data --runs 3                   # everything: hours; nothing else may run
    python benchmarks/peers.py --data-root data --quick                    # does it work? minutes; believe no number
    python benchmarks/peers.py --data-root data --parts training --bundles wnut17 --epochs 1
    python benchmarks/peers.py --report-of outputs/peers/raw.json          # write the report anew

Parts: `training` (ours, `Trainer` twice, a plain loop), `inference` (evaluating and predicting), `encoding`, `growth`
(cost by number of tasks and length of texts). Every contestant is a process of its own. Within a round they take turns,
each round in another order and with a seed of its own; `--runs` rounds. The ceiling is measured before the training
runs of each round and bundle.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installed package, too

from benchmarks import recipe, report
from benchmarks.recipe import REPOSITORY

PARTS = ("training", "inference", "encoding", "growth")
BUNDLES = ("masakhaner_swa+afrisenti_swa", "wnut17+nollysenti_en")
PEERS = {
    "Trainer": ["hf_trainer.py"],
    "Trainer, group_by_length": ["hf_trainer.py", "--group-by-length"],
    "plain loop": ["plain_loop.py"],
}
WAYS = {
    "inference": ("evaluate", "trainer_evaluate", "predictor", "pipelines"),
    "encoding": ("encoder", "datasets_map"),
}
MIB_PER_UNIT = 1 / 1024**2 if sys.platform == "darwin" else 1 / 1024  # of getrusage's ru_maxrss: bytes, or KiB
Item = TypeVar("Item")


@dataclass(frozen=True)
class Amounts:
    """How much is done of everything."""

    bundles: tuple[str, ...]
    runs: int
    epochs: int
    max_steps: int | None = None  # updates of each training; None: all epochs
    max_examples: int | None = None  # of each test set for inference; None: all
    num_rows: int = 20_000  # to encode
    growth_steps: int = 10
    tasks_to_grow: tuple[int, ...] = (1, 2, 4, 8)  # at length `tasks_length`
    tasks_length: int = 128
    lengths_to_grow: tuple[int, ...] = (32, 64, 128, 256, 512)  # of one task

    def growth_points(self) -> list[tuple[int, int]]:
        """Number of tasks and length, each pair once."""
        by_tasks = [(num_tasks, self.tasks_length) for num_tasks in self.tasks_to_grow]
        return list(dict.fromkeys(by_tasks + [(1, length) for length in self.lengths_to_grow]))


@dataclass(frozen=True)
class Finished:
    """What became of a command."""

    output: dict[str, Any]  # its last line, which is JSON; empty where it prints none
    seconds: float
    peak_memory_mib: float


def main() -> None:
    args = parse_arguments()
    if args.report_of is None:
        args.output.mkdir(parents=True, exist_ok=True)
        raw_file = args.output / "raw.json"
        raw: dict[str, Any] = {
            "command": sys.argv,
            "commit": commit(),
            "model": "a tiny random encoder" if is_tiny(args) else args.model,
            "seed": args.seed,
            "records": [],
        }
        for record in run_all(args, amounts_of(args)):
            raw["records"].append(record)
            raw_file.write_text(json.dumps(raw, indent=1), encoding="utf-8")  # what is done stays, whatever comes
    else:
        raw_file = args.report_of
        raw = json.loads(raw_file.read_text(encoding="utf-8"))
    plot = raw_file.with_name("growth.svg")
    is_drawn = report.draw_growth(raw["records"], plot)
    text = report.write_report(raw, plot.name if is_drawn else None)
    raw_file.with_name("report.md").write_text(text, encoding="utf-8")
    print(text)
    print(f"In {raw_file.parent}: report.md, raw.json{', growth.svg' if is_drawn else ''}", file=sys.stderr)


def run_all(args: argparse.Namespace, amounts: Amounts) -> Iterator[dict[str, Any]]:
    """A record of each run, in the order in which they are made."""
    with tempfile.TemporaryDirectory() as folder:
        model = args.model
        if is_tiny(args):
            model = str(Path(folder) / "tiny_model")
            measure(script("tiny_model.py", model))
        for number in range(amounts.runs):
            for bundle in amounts.bundles:
                seed = args.seed + number
                bench = Bench(args, model, amounts, bundle, seed, Path(folder) / f"{bundle}_{number}")
                for record in in_parts(bench, args.parts, number):
                    record = {"round": number, "bundle": bundle, "seed": seed} | record
                    print(report.line_of(record), file=sys.stderr, flush=True)
                    yield record
            if "growth" in args.parts:
                for record in grow(amounts, model, number):
                    record = {"round": number} | record
                    print(report.line_of(record), file=sys.stderr, flush=True)
                    yield record


@dataclass(frozen=True)
class Bench:
    """Runs the contestants over one bundle of tasks, in one round; `run_dir`: where our run goes."""

    args: argparse.Namespace
    model: str
    amounts: Amounts
    bundle: str
    seed: int
    run_dir: Path

    def ceiling(self) -> dict[str, Any]:
        return {"part": "ceiling"} | measure(script("ceiling.py", "--model", self.model)).output

    def train_ours(self) -> dict[str, Any]:
        overrides = recipe.overrides_of(argparse.Namespace(**self._given()))
        finished = measure([sys.executable, str(REPOSITORY / "run.py"), *overrides, f"hydra.run.dir={self.run_dir}"])
        return _training_record(report.OURS, finished, report.result_of_ours(_read(self.run_dir / "results.json")))

    def train_peer(self, name: str) -> dict[str, Any]:
        finished = measure([*script(*PEERS[name]), *as_options(self._given())])
        return _training_record(name, finished, finished.output)

    def infer(self, part: str, way: str) -> dict[str, Any]:
        options = {
            "way": way, "run_dir": self.run_dir, "max_examples": self.amounts.max_examples,
            "num_rows": self.amounts.num_rows,
        }  # fmt: skip
        finished = measure([*script("inference_speed.py"), *as_options(self._given() | options)])
        memory = {"peak_memory_mib": finished.peak_memory_mib, "command_seconds": finished.seconds}
        return {"part": part, "contestant": way} | finished.output | memory

    def _given(self) -> dict[str, Any]:
        """What every contestant is told."""
        return {
            "tasks": self.bundle, "model": self.model, "data_root": self.args.data_root.resolve(),
            "seed": self.seed, "epochs": self.amounts.epochs, "max_steps": self.amounts.max_steps,
        }  # fmt: skip


def in_parts(bench: Bench, parts: Sequence[str], number: int) -> Iterator[dict[str, Any]]:
    """The records of one bundle in one round: training first, since inference takes the model of our run."""
    if "training" in parts:
        yield bench.ceiling()
        for name in rotated([report.OURS, *PEERS], number):
            yield bench.train_ours() if name == report.OURS else bench.train_peer(name)
    elif "inference" in parts:
        bench.train_ours()
    for part, ways in WAYS.items():
        if part in parts:
            yield from (bench.infer(part, way) for way in rotated(ways, number))


def grow(amounts: Amounts, model: str, number: int) -> Iterator[dict[str, Any]]:
    """The records of one round of growing work."""
    for num_tasks, length in amounts.growth_points():
        for contestant in rotated(("ours", "plain"), number):
            point = {"contestant": contestant, "num_tasks": num_tasks, "length": length}
            options = point | {"steps": amounts.growth_steps, "model": model}
            finished = measure([*script("growth.py"), *as_options(options)])
            yield {"part": "growth"} | point | finished.output | {"peak_memory_mib": finished.peak_memory_mib}


def measure(command: Sequence[str]) -> Finished:
    """Run a command, and measure it from outside.

    The peak that the system tells of a process is at least the size of the process that started it: this one must not
    load torch. Encoded data is not kept, so that every command does all of its work.

    Raises:
        RuntimeError: it failed; with the end of what it wrote.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=output, stderr=errors, env=os.environ | {"MULTITASK_BERT_CACHE": ""}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        lines = output.read().decode().splitlines()
        if process.returncode:
            end = "\n".join(errors.read().decode().splitlines()[-20:])
            raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}:\n{end}")
    return Finished(last_json(lines), seconds, usage.ru_maxrss * MIB_PER_UNIT)


def last_json(lines: Sequence[str]) -> dict[str, Any]:
    """The last line, where it is a JSON object; else nothing."""
    try:
        found = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def rotated(items: Sequence[Item], number: int) -> list[Item]:
    """The items in turn, beginning with another one each round."""
    first = number % len(items)
    return [*items[first:], *items[:first]]


def as_options(given: Mapping[str, Any]) -> list[str]:
    """`{"max_steps": 3, "seed": None}` -> `[--max-steps, 3]`."""
    return [
        word
        for name, value in given.items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]


def script(name: str, *options: str) -> list[str]:
    return [sys.executable, str(REPOSITORY / "benchmarks" / name), *options]


def commit() -> str:
    """Of this repository, and whether tracked files differ from it."""
    found = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def is_tiny(args: argparse.Namespace) -> bool:
    """Whether all run on a tiny random encoder: with --quick, unless a model is named."""
    return bool(args.quick and args.model == recipe.MODEL)


def amounts_of(args: argparse.Namespace) -> Amounts:
    amounts = Amounts(tuple(args.bundles or BUNDLES), args.runs, args.epochs, args.max_steps)
    if not args.quick:
        return amounts
    return replace(
        amounts, bundles=tuple(args.bundles or BUNDLES[:1]), runs=1, epochs=1, max_steps=args.max_steps or 4,
        max_examples=64, num_rows=500, growth_steps=2, tasks_to_grow=(1, 2), tasks_length=32, lengths_to_grow=(32, 64),
    )  # fmt: skip


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--bundles", nargs="+", help=f"tasks joined by +; default: {' '.join(BUNDLES)}")
    parser.add_argument("--runs", type=int, default=3, help="rounds, of which the report gives medians")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-steps", type=int, help="updates after which each training ends; none: all epochs")
    recipe.add_model(parser)
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next has the next")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="a few steps of a tiny encoder, one round, one bundle")
    parser.add_argument("--output", type=Path, default=Path("outputs/peers"), help="folder of report and numbers")
    parser.add_argument("--report-of", type=Path, metavar="RAW", help="measure nothing; write the report of a raw.json")
    return parser.parse_args()


def _training_record(name: str, finished: Finished, result: dict[str, Any]) -> dict[str, Any]:
    seconds = result["train_seconds"]
    return {
        "part": "training",
        "contestant": name,
        "tokens_per_second": result["real_tokens"] / seconds,
        "examples_per_second": result["examples"] / seconds,
        "peak_memory_mib": finished.peak_memory_mib,
        "command_seconds": finished.seconds,
    } | result


def _read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


if __name__ == "__main__":
    main()

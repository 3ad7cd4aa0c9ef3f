"""Tokens per second and memory of one process and of several, on the same cores.

    python benchmarks/processes.py [--steps 60] [--processes 1x1,1x2,2x1] KEY=VALUE ...

`PxT`: P processes of T threads each. KEY=VALUE: what `run.py` takes, as `tasks=masakhaner_swa data_root=FOLDER`. Also
prints how long the sum of the model's gradients takes. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
SUM = """
import sys, time, torch
from multitask_bert.utils.ranks import this_run
ranks, gradients = this_run(), torch.ones(int(sys.argv[1]))
ranks.sum_in_place(gradients)
began = time.perf_counter()
for _ in range(5): ranks.sum_in_place(gradients)
if ranks.is_first: print("seconds", (time.perf_counter() - began) / 5)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--processes", default="1x1,1x2,2x1")
    args, settings = parser.parse_known_args()
    print("processes x threads  tokens/s  peak memory, all together")
    for shape in args.processes.split(","):
        num_processes, num_threads = map(int, shape.split("x"))
        speed, num_bytes, num_weights = measure(settings, args.steps, num_processes, num_threads)
        line = f"{shape:>19}  {speed:>8,.0f}  {num_bytes / 2**20:,.0f} MiB"
        if num_processes > 1:
            line += f"  sum of {num_weights:,} gradients: {1000 * seconds_of_sum(num_weights, num_processes):.0f} ms"
        print(line, flush=True)


def measure(settings: list[str], num_steps: int, num_processes: int, num_threads: int) -> tuple[float, int, int]:
    """Tokens per second, peak memory in bytes, and the number of weights of a run."""
    with tempfile.TemporaryDirectory() as folder:
        own = [f"trainer.max_steps={num_steps}", "logger=none", "trainer.keep_last=0", f"hydra.run.dir={folder}/run"]
        process = psutil.Popen(
            [*launcher(num_processes), "run.py", *settings, *own], cwd=ROOT, env=environment(num_threads),
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        peak = [0]
        watcher = threading.Thread(target=watch_memory, args=(process, peak))
        watcher.start()
        status = process.wait()
        watcher.join()
        if status:
            sys.exit("a run failed; its message is above")
        results = json.loads(Path(folder, "run", "results.json").read_text(encoding="utf-8"))
        from safetensors import safe_open

        with safe_open(Path(folder, "run", "model", "model.safetensors"), "numpy") as file:
            num_weights = sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118 - it is no dict
    return float(results["train_tokens_per_second"]), peak[0], int(num_weights)


def seconds_of_sum(num_weights: int, num_processes: int) -> float:
    """Seconds that the sum of so many fp32 gradients takes."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(SUM)
        file.flush()
        command = [*launcher(num_processes), file.name, str(num_weights)]
        output = subprocess.run(
            command, cwd=ROOT, env=environment(1), check=True, capture_output=True, text=True
        ).stdout
    return float(output.split()[-1])


def launcher(num_processes: int) -> list[str]:
    """What starts the processes: torchrun, where there are several."""
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"]
    return [sys.executable, *(several if num_processes > 1 else [])]


def environment(num_threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(num_threads), "PYTHONPATH": str(ROOT)}


def watch_memory(process: psutil.Popen, peak: list[int]) -> None:
    """Keep the largest sum of the memory of a process and its children in `peak`."""
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):  # one has ended since it was listed
            found = [process, *process.children(recursive=True)]
            peak[0] = max(peak[0], sum(one.memory_info().rss for one in found))
        time.sleep(0.2)


if __name__ == "__main__":
    main()

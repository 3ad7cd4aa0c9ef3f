"""What this machine could do at best: the rate of 2048 x 2048 float32 matrix products, with all threads torch takes.

    python benchmarks/ceiling.py

Prints one line of JSON: the rate, the parameters of the encoder outside its embeddings (without the pooler, which sees
one piece per text), and what was measured on.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installed package, too

import torch
import transformers

from benchmarks import recipe

SIDE = 2048
NUM_PRODUCTS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    recipe.add_model(parser)
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    found = {
        "operations_per_second": products_per_second(device) * 2 * SIDE**3,
        "encoder_parameters": num_encoder_parameters(args.model),
        "device": torch.cuda.get_device_name()
        if device == "cuda"
        else f"CPU, {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    print(json.dumps(found), flush=True)


def products_per_second(device: str) -> float:
    """The median over `NUM_PRODUCTS` products, after two that do not count."""
    left, right = torch.rand(2, SIDE, SIDE, device=device)
    seconds = []
    for _ in range(NUM_PRODUCTS + 2):
        started = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 1 / statistics.median(seconds[2:])


def num_encoder_parameters(model: str) -> int:
    """Of the layers; neither embeddings nor pooler."""
    return sum(parameter.numel() for parameter in recipe.load_backbone(model).encoder.parameters())


if __name__ == "__main__":
    main()

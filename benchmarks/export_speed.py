"""Texts per second on the CPU, all heads of a run: torch, its graph, its graph in 8 bits, and a pipeline per head.

python -m benchmarks.export_speed RUN [--num-texts 200] [--repeats 3]: a line per way and batch size; first
action=export in format=hf, onnx and onnx_int8. Ways take turns, and the best of the repeats counts, as other work on
the machine only slows down. The texts are those of the run's dev sets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH_SIZES = (1, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--num-texts", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    from multitask_bert.actions import calm_libraries

    calm_libraries()
    texts = texts_of(args.run, args.num_texts)
    for batch_size in BATCH_SIZES:
        ways = {
            "torch": predicting(args.run, "torch", batch_size),
            "pipelines": pipelines(args.run / "export" / "hf", batch_size),
            "onnx": predicting(args.run / "export" / "onnx", "onnx", batch_size),
            "onnx_int8": predicting(args.run / "export" / "onnx_int8", "onnx", batch_size),
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(args.repeats):
            for name, way in ways.items():
                started = time.perf_counter()
                way(texts)
                best[name] = min(best[name], time.perf_counter() - started)
        for name, seconds in best.items():
            times = best["pipelines"] / seconds
            print(f"batch {batch_size:2}  {name:10} {len(texts) / seconds:8.1f} texts/s  {times:5.2f} x pipelines")


def texts_of(run: Path, num_texts: int) -> list[str]:
    """Texts of the run's dev sets, task by task."""
    from multitask_bert.config.schema import ExperimentConfig
    from multitask_bert.data.processor import DataProcessor
    from multitask_bert.model.multitask import MultiTaskModel
    from multitask_bert.saving.run_folder import config_to_evaluate

    config = config_to_evaluate(run, ExperimentConfig())
    model, tokenizer = MultiTaskModel.load(run / "model")
    processor = DataProcessor(
        config.tasks,
        data_root=config.data_root,
        seed=config.seed_of_splits,
        known_heads=model.heads,
        splits=("dev", "test"),
    )
    dev = processor.process(tokenizer, max_length=config.batching.max_length).dev
    each = num_texts // len(dev)
    return [example.text for split in dev.values() for example in list(split.examples())[:each]]


def predicting(folder: Path, backend: str, batch_size: int) -> Callable[[list[str]], Any]:
    """All heads with our `Predictor`."""
    from multitask_bert.inference.predictor import Predictor

    predictor = Predictor.load(folder, device="cpu", batch_size=batch_size, backend=backend)
    return lambda texts: list(predictor.predict(texts))


def pipelines(folder: Path, batch_size: int) -> Callable[[list[str]], Any]:
    """A pipeline of transformers for each head, one after the other."""
    import transformers

    made = []
    for own in sorted(path for path in folder.iterdir() if path.is_dir()):
        is_tagging = "ForTokenClassification" in (own / "config.json").read_text(encoding="utf-8")
        task = "token-classification" if is_tagging else "text-classification"
        options: dict[str, Any] = {"aggregation_strategy": "first"} if is_tagging else {"truncation": True}
        made.append(
            transformers.pipeline(
                task, model=str(own), batch_size=batch_size, device=-1, trust_remote_code=True, **options
            )
        )
    return lambda texts: [list(pipe(texts)) for pipe in made]


if __name__ == "__main__":
    main()

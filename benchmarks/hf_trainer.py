"""Contestant: the Hugging Face `Trainer`, one task after the other; times and counts are added up.

    python benchmarks/hf_trainer.py --data-root data --tasks wnut17+nollysenti_en --seed 1 [--group-by-length]
    python benchmarks/hf_trainer.py --data-root data --tasks wnut17 --lr 3e-4 --bf16    # with its own best rate

Prints one line of JSON (`recipe.Result`). The recipe is that of `benchmarks/recipe.py`; whatever it does not name is
the `Trainer`'s default. The best epoch by F1 on dev is what is scored on test.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installed package, too

import psutil
import torch
import transformers

from benchmarks import recipe
from benchmarks.recipe import Result, Task


def main() -> None:
    parser = recipe.argument_parser(__doc__)
    parser.add_argument("--group-by-length", action="store_true", help='train_sampling_strategy="group_by_length"')
    parser.add_argument("--lr", type=float, default=recipe.LEARNING_RATE, help="learning rate of encoder and head")
    parser.add_argument("--bf16", action="store_true", help="products in 16 bits")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    tokenizer = recipe.load_tokenizer(args.model)
    tasks = recipe.load_tasks(args, tokenizer)
    max_steps = recipe.steps_of_a_task(args.max_steps, len(tasks))
    total = Result()
    for task in tasks:
        with tempfile.TemporaryDirectory() as folder:
            options = {
                "num_train_epochs": args.epochs,
                "max_steps": max_steps or -1,
                "seed": args.seed,
                "learning_rate": args.lr,
                "bf16": args.bf16,
                "train_sampling_strategy": "group_by_length" if args.group_by_length else "random",
            }
            total.add(train(task, args.model, tokenizer, training_arguments(folder, **options)))
    total.print()


def train(task: Task, place: str, tokenizer: Any, arguments: Any) -> Result:
    """Train the encoder of `place` on one task, and score the best epoch on test."""
    transformers.set_seed(arguments.seed)
    factory = (
        transformers.AutoModelForTokenClassification
        if task.is_tagging
        else transformers.AutoModelForSequenceClassification
    )
    model = factory.from_pretrained(recipe.model_folder(place), num_labels=len(task.head.labels))
    trainer = make_trainer(task, model, tokenizer, arguments)
    trainer.train()
    scores = trainer.score("test", rows_of(task, "test"))
    return Result(
        train_seconds=trainer.clock.seconds,
        real_tokens=trainer.num_tokens_seen,
        examples=trainer.num_examples_seen,
        steps=trainer.state.global_step,
        test={task.key(name): value for name, value in scores.items()},
        dev={task.name: trainer.clock.scores},
    )


def training_arguments(folder: str, **options: Any) -> Any:
    """The recipe in the words of the `Trainer`."""
    return transformers.TrainingArguments(
        output_dir=folder,
        per_device_train_batch_size=recipe.BATCH_SIZE,
        per_device_eval_batch_size=recipe.EVAL_BATCH_SIZE,
        weight_decay=recipe.WEIGHT_DECAY,
        warmup_steps=recipe.WARMUP_RATIO,  # below 1: a share of all steps
        max_grad_norm=recipe.MAX_GRAD_NORM,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="f1",
        dataloader_pin_memory=torch.cuda.is_available(),  # without a GPU it is ignored, with a warning
        report_to=[],
        disable_tqdm=True,
        **{"learning_rate": recipe.LEARNING_RATE, **options},
    )


def make_trainer(task: Task, model: Any, tokenizer: Any, arguments: Any) -> CountingTrainer:
    collator = (
        transformers.DataCollatorForTokenClassification if task.is_tagging else transformers.DataCollatorWithPadding
    )
    trainer = CountingTrainer(
        model=model,
        args=arguments,
        train_dataset=rows_of(task, "train"),
        eval_dataset=rows_of(task, "dev"),
        data_collator=collator(tokenizer),
    )
    trainer.follow(task)
    return trainer


def rows_of(task: Task, split: str) -> list[dict[str, Any]]:
    """The examples as the `Trainer` takes them."""
    return [
        {
            "input_ids": list(encoded.input_ids),
            "token_type_ids": list(encoded.token_type_ids),
            "attention_mask": [1] * len(encoded.input_ids),
            "labels": task.label_of(encoded),
        }
        for encoded in task.splits[split]
    ]


class EpochClock(transformers.TrainerCallback):  # type: ignore[misc]
    """Adds up the time within epochs; evaluating and saving come after each."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.scores: list[tuple[float, float]] = []  # seconds since the process started, and F1 on dev
        self._started = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.seconds += time.perf_counter() - self._started

    def on_evaluate(self, *_: Any, metrics: dict[str, float], **__: Any) -> None:
        self.scores.append((time.time() - psutil.Process().create_time(), metrics["eval_f1"]))


class CountingTrainer(transformers.Trainer):  # type: ignore[misc]
    """A `Trainer` that counts what it trains on, and scores with the task's own golds."""

    def follow(self, task: Task) -> None:
        """To be called once, before training."""
        self.task, self.clock = task, EpochClock()
        self.num_tokens_seen = self.num_examples_seen = 0
        self.order: Sequence[int] = ()  # in which the last evaluation took the examples: grouping reorders those, too
        self.add_callback(self.clock)
        self.compute_metrics: Any = lambda output: self.score_output("dev", output)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        self.num_tokens_seen += int(inputs["attention_mask"].sum())
        self.num_examples_seen += len(inputs["input_ids"])
        return super().training_step(model, inputs, num_items_in_batch)

    def _get_eval_sampler(self, eval_dataset: Any) -> Sequence[int]:
        self.order = list(super()._get_eval_sampler(eval_dataset))
        return self.order

    def score(self, split: str, rows: list[dict[str, Any]]) -> dict[str, float]:
        """Predict a split, of which these are the rows, and score it, by name of metric."""
        return self.score_output(split, self.predict_rows(rows))

    def predict_rows(self, rows: list[dict[str, Any]]) -> Any:
        self.compute_metrics = None  # it knows dev only
        return self.predict(rows)

    def score_output(self, split: str, output: Any) -> dict[str, float]:
        ids = output.predictions.argmax(axis=-1)
        in_order = [ids[row] for _, row in sorted(zip(self.order, range(len(ids)), strict=True))]
        return self.task.score(split, in_order)


if __name__ == "__main__":
    main()

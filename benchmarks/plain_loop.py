"""Contestant: a plain round-robin loop, as one writes it by hand: shuffled batches, dynamic padding, a task per step.

    python benchmarks/plain_loop.py --data-root data --tasks wnut17+nollysenti_en --seed 1

One BERT encoder with a linear head per task. Tasks take turns; one that is through with its batches sits out the rest
of the epoch. Prints one line of JSON (`recipe.Result`); the recipe is that of `benchmarks/recipe.py`. The best epoch by
mean F1 on dev is what is scored on test. Shapes: B rows, S pieces per row, H hidden width, L labels.
"""

from __future__ import annotations

import copy
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installed package, too

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup, set_seed
from transformers import logging as transformers_logging

from benchmarks import recipe
from benchmarks.recipe import IGNORED, Result, Task
from multitask_bert.records import EncodedExample


def main() -> None:
    args = recipe.argument_parser(__doc__).parse_args()
    transformers_logging.set_verbosity_error()
    tokenizer = recipe.load_tokenizer(args.model)
    tasks = recipe.load_tasks(args, tokenizer)
    set_seed(args.seed)
    model = PlainModel(recipe.load_backbone(args.model), tasks, pad_id=tokenizer.pad_token_id)
    best_f1, best_weights = -1.0, model.state_dict()

    def keep_best() -> None:
        nonlocal best_f1, best_weights
        f1 = sum(evaluate(model, task, "dev")["f1"] for task in tasks) / len(tasks)
        if f1 > best_f1:
            best_f1, best_weights = f1, copy.deepcopy(model.state_dict())

    result = train(model, tasks, epochs=args.epochs, max_steps=args.max_steps, after_epoch=keep_best)
    model.load_state_dict(best_weights)
    for task in tasks:
        result.test |= {task.key(name): value for name, value in evaluate(model, task, "test").items()}
    result.print()


class Inputs(NamedTuple):
    """A padded batch."""

    input_ids_BS: Tensor
    token_type_BS: Tensor
    is_real_BS: Tensor  # 1 on pieces, 0 on padding
    labels: Tensor  # class ids: (B), or for tagging (B, S)


class PlainModel(nn.Module):
    """An encoder, and per task dropout and a linear layer over the pooled text or over every piece."""

    def __init__(self, backbone: Any, tasks: Sequence[Task], *, pad_id: int) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.backbone = backbone
        self.dropout = nn.Dropout(backbone.config.hidden_dropout_prob)
        self.heads = nn.ModuleDict(
            {task.name: nn.Linear(backbone.config.hidden_size, len(task.head.labels)) for task in tasks}
        )
        self.to(self.device)

    def forward(self, task: Task, inputs: Inputs) -> Tensor:
        """logits_BL, or for tagging logits_BSL."""
        output = self.backbone(
            input_ids=inputs.input_ids_BS, token_type_ids=inputs.token_type_BS, attention_mask=inputs.is_real_BS
        )
        features = output.last_hidden_state if task.is_tagging else output.pooler_output
        logits: Tensor = self.heads[task.name](self.dropout(features))
        return logits


def train(
    model: PlainModel,
    tasks: Sequence[Task],
    *,
    epochs: int,
    max_steps: int | None = None,
    after_epoch: Callable[[], None] = lambda: None,
) -> Result:
    """Epochs of rounds of steps; the time that `after_epoch` takes does not count."""
    loaders = [make_loader(model, task, "train", recipe.BATCH_SIZE, shuffle=True) for task in tasks]
    num_steps = min(epochs * sum(map(len, loaders)), max_steps or sys.maxsize)
    optimizer = make_optimizer(model)
    scheduler = get_linear_schedule_with_warmup(optimizer, math.ceil(num_steps * recipe.WARMUP_RATIO), num_steps)
    result = Result()
    model.train()
    for _ in range(epochs):
        started = time.perf_counter()
        for task, inputs in itertools.islice(rounds(tasks, loaders), num_steps - result.steps):
            inputs = Inputs(*(tensor.to(model.device) for tensor in inputs))
            logits = model(task, inputs)
            loss = nn.functional.cross_entropy(logits.flatten(0, -2), inputs.labels.flatten(), ignore_index=IGNORED)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), recipe.MAX_GRAD_NORM)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            result.steps += 1
            result.examples += len(inputs.input_ids_BS)
            result.real_tokens += int(inputs.is_real_BS.sum())
        result.train_seconds += time.perf_counter() - started
        after_epoch()
        if result.steps == num_steps:
            break
    return result


def rounds(tasks: Sequence[Task], loaders: Sequence[DataLoader[Any]]) -> Iterator[tuple[Task, Inputs]]:
    """One batch of each task in turn, until all are through."""
    for batches in itertools.zip_longest(*loaders):
        yield from ((task, batch) for task, batch in zip(tasks, batches, strict=True) if batch is not None)


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW; biases and norms do not decay."""
    weights = list(model.parameters())
    groups = [
        {"params": [weight for weight in weights if weight.ndim >= 2], "weight_decay": recipe.WEIGHT_DECAY},
        {"params": [weight for weight in weights if weight.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.LEARNING_RATE)


@torch.inference_mode()
def evaluate(model: PlainModel, task: Task, split: str) -> dict[str, float]:
    """Scores on a split, by name of metric."""
    model.eval()
    predicted: list[Any] = []
    for inputs in make_loader(model, task, split, recipe.EVAL_BATCH_SIZE, shuffle=False):
        logits = model(task, Inputs(*(tensor.to(model.device) for tensor in inputs)))
        predicted += logits.argmax(dim=-1).tolist()
    model.train()
    return task.score(split, predicted)


def make_loader(model: PlainModel, task: Task, split: str, batch_size: int, *, shuffle: bool) -> DataLoader[Any]:
    def collate(examples: Sequence[EncodedExample]) -> Inputs:
        labels = [torch.tensor(task.label_of(encoded)) for encoded in examples]
        return Inputs(
            pad([torch.tensor(encoded.input_ids) for encoded in examples], model.pad_id),
            pad([torch.tensor(encoded.token_type_ids) for encoded in examples], 0),
            pad([torch.ones(len(encoded.input_ids), dtype=torch.long) for encoded in examples], 0),
            pad(labels, IGNORED) if task.is_tagging else torch.stack(labels),
        )

    return DataLoader(task.splits[split], batch_size, shuffle=shuffle, collate_fn=collate)  # type: ignore[arg-type]


def pad(rows: list[Tensor], value: int) -> Tensor:
    """To the longest row of the batch."""
    return pad_sequence(rows, batch_first=True, padding_value=value)


if __name__ == "__main__":
    main()

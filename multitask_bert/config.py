"""What a run is made of: `ExperimentConfig` and its children, composed by Hydra from `conf/`.

Every field carries one line: what it means, its unit, and what null does. Values that contradict each other are refused
by `check`, before anything is loaded. This file imports neither torch nor transformers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException


class InputError(ValueError):
    """Something the user gave cannot be used; the text names the field or the file and line, and the way out."""


@dataclass
class DownloadConfig:
    """Where a public file comes from, and how to know that it is the right one."""

    url: str = MISSING  # full address
    sha256: str = MISSING  # hex digest of the file's bytes


@dataclass
class SourceConfig:
    """The files of a task and how to read them."""

    format: str = MISSING  # conll | csv | tsv | samples
    folder: str = ""  # folder of the files, under data_root unless absolute
    train: Optional[str] = None  # training file, under `folder`; for samples: unused
    dev: Optional[str] = None  # evaluation file; null: cut from train by dev_fraction
    test: Optional[str] = None  # test file; null: cut from train by test_fraction
    dev_fraction: float = 0.1  # share of train (0 to 1, of distinct texts) that becomes dev where no dev file is named
    test_fraction: float = 0.1  # share of train that becomes test where no test file is named; 0: no test set
    encoding: str = "utf-8"  # of the files, as Python names it
    text: Optional[str] = None  # csv, tsv: name of the column with the text
    text_pair: Optional[str] = None  # csv, tsv: name of the column with the second text; null: single texts
    word_column: int = 0  # conll: number of the column with the word, from 0; negative counts from the end
    quoted: bool = True  # tsv: fields are quoted like CSV; false: a `"` is data like any other character
    samples: Optional[str] = None  # samples: which embedded synthetic corpus, ner or sentiment
    downloads: Dict[str, DownloadConfig] = field(default_factory=dict)  # by split: where a missing file comes from


@dataclass
class HeadConfig:
    """One prediction over a task's text."""

    type: str = MISSING  # classification | tagging
    column: Optional[str] = None  # csv, tsv: name of the label's column; conll: its number (negative: from the end)
    weight: float = 1.0  # factor of this head's mean loss in the step's loss
    metrics: List[str] = field(default_factory=list)  # the first is the headline; empty: the head type's own
    labels: Optional[List[str]] = None  # all labels (for scheme iob2: entity types); null: those found in train
    scheme: str = "iob2"  # tagging: iob2 (entity spans) or plain (one tag per word, as for parts of speech)
    pooling: Optional[str] = None  # classification: pooler | cls | mean | max; null: model.pooling
    dropout: Optional[float] = None  # rate before the head's linear layer; null: as the encoder (model.dropout)


@dataclass
class TaskConfig:
    """A named data source and what is to be learnt from it; one YAML in conf/tasks/."""

    source: SourceConfig = field(default_factory=SourceConfig)
    heads: Dict[str, HeadConfig] = field(default_factory=dict)


@dataclass
class ModelConfig:
    """The shared encoder."""

    pretrained: Optional[str] = None  # directory, hub name or pkg://package/path; null: random weights
    revision: Optional[str] = None  # hub: commit, tag or branch; null: the newest
    sha256: Optional[str] = None  # hex digest that the weights file must have; null: not checked
    tokenizer: Optional[str] = None  # directory, hub name or pkg://package/path; null: as `pretrained`
    architecture: Dict[str, Any] = field(
        default_factory=dict
    )  # random weights: model_type and sizes, as in config.json
    dropout: Optional[float] = None  # rate everywhere in encoder and heads, 0 to 1; null: the encoder's own rates
    pooling: str = "pooler"  # how a text becomes one vector: pooler (the encoder's own, else cls) | cls | mean | max


@dataclass
class OptimizerConfig:
    """The optimizer, made once with two groups: decayed weights, and biases and norms without decay."""

    _target_: str = "torch.optim.AdamW"  # class from torch.optim
    lr: float = 5e-5  # peak learning rate
    weight_decay: float = 0.01  # decoupled decay of matrices; biases and norms have none
    options: Dict[str, Any] = field(default_factory=dict)  # further keyword arguments of the class


@dataclass
class SchedulerConfig:
    """The learning rate over the run, as a factor of optimizer.lr."""

    shape: str = "linear"  # linear (to 0) | cosine (to 0) | constant
    warmup_ratio: float = 0.1  # share of all steps (0 to 1) in which the rate rises from 0 to its peak


@dataclass
class MixingConfig:
    """Which task is next."""

    rule: str = "round_robin"  # round_robin | proportional | temperature | annealed
    when_exhausted: str = "spread"  # round_robin: spread | cycle | stop (see multitask_bert/data/mixing.py)
    temperature: float = 2.0  # temperature: a task is drawn with p ~ batches^(1/temperature), 1 or more


@dataclass
class BalancingConfig:
    """How the losses of several heads become one."""

    _target_: str = "multitask_bert.training.balancing.FixedWeights"


@dataclass
class BatchingConfig:
    """How examples become batches."""

    layout: str = "padded"  # padded: one example per row
    batch_size: int = 16  # examples per task and step
    micro_batch_size: Optional[int] = None  # examples per forward pass; null: the whole batch; the step is the same
    eval_batch_size: int = 64  # examples per forward pass when evaluating
    max_length: int = 128  # word pieces per text, special tokens included; longer texts are cut (and counted)
    sort_window: int = 50  # batches within which examples are sorted by length after shuffling; 1: fully random
    num_workers: int = 0  # processes that collate batches in the background; 0: none


@dataclass
class TrainerConfig:
    """The training loop."""

    _target_: str = "multitask_bert.training.trainer.Trainer.from_config"  # what hydra.utils.instantiate makes
    num_epochs: int = 3  # times through every task's training examples
    max_steps: Optional[int] = None  # optimizer updates after which training ends; null: after num_epochs
    eval_every: Optional[int] = None  # steps between evaluations; null: at the end of every epoch
    metric_for_best: str = "eval_mean_f1"  # key of the metric that decides which checkpoint is kept
    higher_is_better: Optional[bool] = None  # null: false for losses and errors, else true
    patience: Optional[int] = None  # evaluations without a new best after which training stops; null: never
    max_grad_norm: Optional[float] = 1.0  # length to which longer gradients are clipped; null: not clipped
    log_every: int = 10  # steps between hand-overs to the loggers (each step has its own line all the same)
    device: str = "auto"  # auto | cpu | cuda | cuda:N | mps


@dataclass
class ExperimentConfig:
    """Everything that a run needs to know."""

    action: str = "train"  # train | evaluate | upload
    name: Optional[str] = None  # name of the run in the loggers; null: the names of its tasks, joined
    seed: int = 1  # of weights, dropout, order of examples and splits
    data_root: str = "data"  # folder of the tasks' files
    run_dir: Optional[str] = None  # evaluate, upload: the folder of the earlier run
    model: ModelConfig = field(default_factory=ModelConfig)
    tasks: Dict[str, TaskConfig] = field(default_factory=dict)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    balancing: BalancingConfig = field(default_factory=BalancingConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    logger: Dict[str, Any] = field(default_factory=dict)  # by name: `_target_` and arguments of a RunLogger


def from_tree(tree: DictConfig) -> ExperimentConfig:
    """The typed config out of Hydra's composed tree, tasks sorted by name so that `a+b` and `b+a` are one run."""
    try:
        typed = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ExperimentConfig), tree))
    except OmegaConfBaseException as error:
        field_name = getattr(error, "full_key", None)
        message = str(error).splitlines()[0]
        raise InputError(f"{field_name}: {message}" if field_name else message) from error
    assert isinstance(typed, ExperimentConfig)
    typed.tasks = {name: typed.tasks[name] for name in sorted(typed.tasks)}
    for task in typed.tasks.values():
        task.heads = {name: task.heads[name] for name in sorted(task.heads)}
    return typed


def to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """The config as plain dicts, lists, strings and numbers."""
    tree = OmegaConf.to_container(OmegaConf.structured(config), resolve=True)
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def run_name(config: ExperimentConfig) -> str:
    return config.name or "+".join(config.tasks)


def check(config: ExperimentConfig) -> None:
    """Refuse values that cannot be right; all of them in one error.

    What a head type knows (metrics, schemes) is checked by `multitask_bert.heads.check_heads`.

    Raises:
        InputError: one line per problem, each with the field's full name and the way out.
    """
    problems = list(_problems(config))
    if problems:
        raise InputError("\n".join(problems))


CHOICES: dict[str, tuple[str, ...]] = {
    "action": ("train", "evaluate", "upload"),
    "model.pooling": ("pooler", "cls", "mean", "max"),
    "scheduler.shape": ("linear", "cosine", "constant"),
    "mixing.rule": ("round_robin", "proportional", "temperature", "annealed"),
    "mixing.when_exhausted": ("spread", "cycle", "stop"),
    "batching.layout": ("padded",),
}
AT_LEAST: dict[str, float] = {
    "seed": 0,
    "optimizer.lr": 0.0,
    "optimizer.weight_decay": 0.0,
    "mixing.temperature": 1.0,
    "batching.batch_size": 1,
    "batching.micro_batch_size": 1,
    "batching.eval_batch_size": 1,
    "batching.max_length": 3,
    "batching.sort_window": 1,
    "batching.num_workers": 0,
    "trainer.num_epochs": 1,
    "trainer.max_steps": 1,
    "trainer.eval_every": 1,
    "trainer.patience": 1,
    "trainer.max_grad_norm": 0.0,
    "trainer.log_every": 1,
}
SHARES = ("scheduler.warmup_ratio", "model.dropout")
NAME = re.compile(r"[A-Za-z0-9_-]+")


def _problems(config: ExperimentConfig) -> Iterator[str]:
    for name, choices in CHOICES.items():
        if (value := _lookup(config, name)) not in choices:
            yield f"{name}={value}: choose one of {', '.join(choices)}"
    for name, least in AT_LEAST.items():
        if (value := _lookup(config, name)) is not None and not value >= least:
            yield f"{name}={value}: must be at least {least:g}"
    for name in SHARES:
        if (value := _lookup(config, name)) is not None and not 0 <= value <= 1:
            yield f"{name}={value}: must be a share between 0 and 1"
    for name in ("optimizer._target_", "balancing._target_", "trainer._target_"):
        yield from _target_problems(name, _lookup(config, name))
    for name, logger in config.logger.items():
        target = logger.get("_target_") if isinstance(logger, dict) else None
        yield from _target_problems(f"logger.{name}._target_", target)
    if not config.tasks and config.action == "train":
        yield "tasks: none is chosen; name one or several, as in tasks=ner+sentiment"
    for name, task in config.tasks.items():
        yield from _task_problems(f"tasks.{name}", name, task)
    if config.action in ("evaluate", "upload") and config.run_dir is None:
        yield f"run_dir: action={config.action} needs the folder of an earlier run, as in run_dir=outputs/…"
    if config.model.pretrained is None and not config.model.architecture and config.model.tokenizer is None:
        yield "model.pretrained: null needs model.architecture (model_type and sizes) and model.tokenizer"


def _task_problems(where: str, name: str, task: TaskConfig) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield f"{where}: a task's name may hold letters, digits, '-' and '_' only"
    if not task.heads:
        yield f"{where}.heads: a task needs a head at least, as in heads: {{mood: {{type: classification, column: …}}}}"
    for head_name, head in task.heads.items():
        if not NAME.fullmatch(head_name):
            yield f"{where}.heads.{head_name}: a head's name may hold letters, digits, '-' and '_' only"
        if head.weight < 0:
            yield f"{where}.heads.{head_name}.weight={head.weight}: must be at least 0"
    source = task.source
    if not 0 <= source.dev_fraction < 1 or not 0 <= source.test_fraction < 1:
        yield f"{where}.source: dev_fraction and test_fraction must be at least 0 and less than 1"
    elif source.dev_fraction + source.test_fraction >= 1:
        yield f"{where}.source: dev_fraction and test_fraction together leave nothing to train on"
    for split in source.downloads:
        if split not in ("train", "dev", "test"):
            yield f"{where}.source.downloads.{split}: a split is one of train, dev, test"


ALLOWED_TARGETS = ("multitask_bert.", "torch.optim.")


def _target_problems(name: str, target: Any) -> Iterator[str]:
    """A config is data, not a program: what it may name is a class of ours or an optimizer of torch."""
    if not isinstance(target, str) or not target.startswith(ALLOWED_TARGETS):
        yield f"{name}={target}: must name a class from {' or '.join(p.rstrip('.') for p in ALLOWED_TARGETS)}"


def _lookup(config: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        config = getattr(config, part)
    return config


def expand_user_path(path: str) -> str:
    """`~` and environment variables written out."""
    return os.path.expandvars(Path(path).expanduser())

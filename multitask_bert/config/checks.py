"""Values that cannot be right, refused before anything is loaded; and settings that change nothing, to be warned of.

Here stands what the config alone shows. What a head type knows (metrics, schemes) is checked by
`multitask_bert.heads.check_heads`; what only the data or the encoder shows, where they are read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multitask_bert.config.schema import (
    AveragingConfig,
    ExperimentConfig,
    MixingConfig,
    SourceConfig,
    StudyConfig,
    TaskConfig,
    is_lower_better,
)
from multitask_bert.errors import InputError
from multitask_bert.trust.classes import NOT_OPENED, target_problems
from multitask_bert.trust.paths import is_inside
from multitask_bert.trust.permissions import is_allowed, opened

CHOICES: dict[str, tuple[str, ...]] = {
    "action": ("train", "evaluate", "inspect", "predict", "reproduce", "report", "upload"),
    "model.pooling": ("pooler", "cls", "mean", "max"),
    "model.head_init": ("normal", "uniform"),
    "scheduler.shape": ("linear", "cosine", "constant"),
    "mixing.rule": ("round_robin", "proportional", "temperature", "annealed"),
    "mixing.when_exhausted": ("spread", "cycle", "stop"),
    "batching.layout": ("padded", "packed"),
    "averaging.kind": ("none", "ema", "last"),
    "trainer.update": ("task", "round"),
    "trainer.precision": ("fp32", "bf16", "fp16"),
    "trainer.on_non_finite": ("stop", "skip"),
}
OWN_CODE = ("mixing.rule",)  # may also name a function of the user's own module
SOURCE_CHOICES: dict[str, tuple[str, ...]] = {
    "unspecified": ("missing", "label"),
    "on_bad_record": ("error", "skip"),
    "overlapping_entities": ("error", "longest"),
}
OF_FORMATS: dict[str, tuple[str, ...]] = {  # fields of a source that other formats do not read
    "quoted": ("tsv",),
    "delimiter": ("csv",),
    "header": ("csv", "tsv"),
    "comments": ("conll",),
    "unspecified": ("conllu",),
    "overlapping_entities": ("jsonl", "parquet", "datasets"),
}
AT_LEAST: dict[str, float] = {
    "seed": 0,
    "optimizer.lr": 0.0,
    "optimizer.weight_decay": 0.0,
    "optimizer.head_weight_decay": 0.0,
    "optimizer.embedding_weight_decay": 0.0,
    "optimizer.frozen_layers": 0,
    "mixing.temperature": 1.0,
    "mixing.steps_per_epoch": 1,
    "batching.batch_size": 1,
    "batching.max_tokens": 1,
    "batching.micro_batch_size": 1,
    "batching.micro_batch_tokens": 1,
    "batching.eval_batch_size": 1,
    "batching.eval_max_tokens": 1,
    "batching.max_length": 3,
    "batching.sort_window": 1,
    "batching.num_workers": 0,
    "batching.encoding_processes": 1,
    "trainer.num_epochs": 1,
    "trainer.min_steps": 1,
    "trainer.max_steps": 1,
    "trainer.eval_every": 1,
    "trainer.patience": 1,
    "trainer.max_grad_norm": 0.0,
    "trainer.log_every": 1,
    "trainer.save_every": 1,
    "trainer.keep_last": 0,
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
NAME_RULE = "must be a letter, then letters, digits, '-' and '_' (A to Z, without accents)"
SPLITS = ("train", "dev", "test")


def check(config: ExperimentConfig) -> None:
    """Refuse values that cannot be right; all of them in one error.

    Raises:
        InputError: one line per problem, each with the field's full name and the way out.
    """
    problems = list(_problems(config))
    if problems:
        raise InputError("\n".join(problems))


def settings_without_effect(config: ExperimentConfig) -> Iterator[str]:
    """One line per setting that was made and yet changes nothing, because another one decides; or that stops learning.

    They are told, not refused: a sweep over `batching.batch_size` may pass below a `micro_batch_size` set once.
    """
    if config.action != "predict":
        for name in ("input", "output"):
            if (value := getattr(config, name)) is not None:
                yield f"{name}={value} has no effect with action={config.action}: it belongs to action=predict"
    if config.action != "train":
        if config.verify:
            yield f"verify=true has no effect with action={config.action}: it belongs to action=train"
        return
    if config.run_dir is not None and not config.resume:
        yield f"run_dir={config.run_dir} has no effect with action=train: the new run's folder is hydra.run.dir"
    model, mixing, batching, trainer = config.model, config.mixing, config.batching, config.trainer
    if model.pretrained is not None and model.architecture:
        yield "model.architecture has no effect: model.pretrained brings its own; set model.pretrained=null to use it"
    if model.pretrained is None and model.sha256 is not None:
        yield "model.sha256 has no effect: with model.pretrained=null there are no weights to check"
    if mixing.rule != "temperature" and mixing.temperature != MixingConfig.temperature:
        yield f"mixing.temperature={mixing.temperature:g} has no effect with mixing.rule={mixing.rule}"
    if mixing.rule == "round_robin" and mixing.steps_per_epoch is not None:
        yield f"mixing.steps_per_epoch={mixing.steps_per_epoch} has no effect with mixing.rule=round_robin"
    if mixing.rule != "round_robin" and mixing.when_exhausted != MixingConfig.when_exhausted:
        yield f"mixing.when_exhausted={mixing.when_exhausted} has no effect with mixing.rule={mixing.rule}"
    if (micro := batching.micro_batch_size) is not None and micro > batching.batch_size:
        yield f"batching.micro_batch_size={micro} has no effect: batching.batch_size={batching.batch_size} is smaller"
    if None not in (trainer.eval_every, trainer.max_steps) and trainer.eval_every >= trainer.max_steps:  # type: ignore[operator]
        yield f"trainer.eval_every={trainer.eval_every} has no effect: training ends after {trainer.max_steps} steps"
    if trainer.eval_every is not None and trainer.eval_shares:
        yield f"trainer.eval_every={trainer.eval_every} has no effect: trainer.eval_shares says when to evaluate"
    is_by_epoch = trainer.eval_every is None and not trainer.eval_shares
    if trainer.patience is not None and is_by_epoch and trainer.patience + 1 >= trainer.num_epochs:
        yield (
            f"trainer.patience={trainer.patience} has no effect: with one evaluation in each of {trainer.num_epochs} "
            f"epochs it cannot run out before the last; set trainer.eval_every or more epochs"
        )
    averaging = config.averaging
    if averaging.kind != "ema" and averaging.decay != AveragingConfig.decay:
        yield f"averaging.decay={averaging.decay:g} has no effect with averaging.kind={averaging.kind}"
    if averaging.kind == "none" and averaging.start != AveragingConfig.start:
        yield f"averaging.start={averaging.start:g} has no effect with averaging.kind=none"
    for name, task in config.tasks.items():
        if task.num_epochs is not None and (mixing.rule, mixing.when_exhausted) != ("round_robin", "spread"):
            how = f"mixing.when_exhausted={mixing.when_exhausted}" if mixing.rule == "round_robin" else ""
            how = how or f"mixing.rule={mixing.rule}"
            yield f"tasks.{name}.num_epochs={task.num_epochs:g} has no effect with {how}"
        yield from _source_settings_without_effect(f"tasks.{name}.source", task.source)
    yield from _nothing_to_learn(config)


def _problems(config: ExperimentConfig) -> Iterator[str]:
    for name, choices in CHOICES.items():
        value = _lookup(config, name)
        if name in OWN_CODE and "." in value:
            if not is_allowed(value):
                yield f"{name}={value}: {NOT_OPENED}{opened(value)}"
        elif value not in choices:
            yield f"{name}={value}: choose one of {', '.join(choices)}"
    for name, least in AT_LEAST.items():
        if (value := _lookup(config, name)) is not None and not least <= value < math.inf:
            yield f"{name}={value}: must be at least {least:g}" + (" and finite" if value == math.inf else "")
    if not 0 <= config.scheduler.warmup_ratio <= 1:
        yield f"scheduler.warmup_ratio={config.scheduler.warmup_ratio}: must be a share of the steps, between 0 and 1"
    for name in ("model.dropout", "model.attention_dropout"):
        if (rate := _lookup(config, name)) is not None and not 0 <= rate < 1:
            yield f"{name}={rate}: must be at least 0 and less than 1"
    yield from _rate_problems(config)
    for name in ("optimizer", "balancing", "trainer"):
        yield from target_problems(name, {"_target_": _lookup(config, name)._target_})
    for name, logger in config.logger.items():
        if not NAME.fullmatch(name):
            yield f"logger.{name}: a logger's name must be a letter, then letters, digits, '-' and '_'"
        elif not isinstance(logger, dict) or "_target_" not in logger:
            yield f"logger.{name}: must be a dict that names its class in _target_"
        elif not is_inside(str(logger.get("log_dir", ""))):
            yield f"logger.{name}.log_dir={logger['log_dir']}: must name a folder inside of the run's"
    for name, free in (
        ("logger", config.logger),
        ("optimizer.options", config.optimizer.options),
        ("model.architecture", config.model.architecture),
    ):
        yield from target_problems(name, free)
    if not config.tasks and config.action in ("train", "inspect"):
        yield "tasks: none is chosen; name one or several, as in tasks=ner+sentiment"
    for name, task in config.tasks.items():
        yield from _task_problems(f"tasks.{name}", name, task)
    yield from _clashing_metric_keys(config)
    yield from _study_problems(config.study)
    if config.verify and config.action == "train" and not config.study.expected:
        yield (
            "verify: nothing is expected of this run; choose a study, as in experiment=swahili, or write one "
            "(docs/papers.md)"
        )
    if config.action in ("evaluate", "predict", "reproduce", "report", "upload") and config.run_dir is None:
        yield f"run_dir: action={config.action} needs the folder of an earlier run, as in run_dir=outputs/…"
    if config.action == "predict":
        if config.input is None:
            yield "input: action=predict needs a file (text, .csv, .tsv or .jsonl), or input=- for standard input"
        elif config.output is not None and Path(config.input).resolve() == Path(config.output).resolve():
            yield f"output={config.output}: this is the input; name another file"
    if config.model.pretrained is None and not config.model.architecture and config.model.tokenizer is None:
        yield "model.pretrained: null needs model.architecture (model_type and sizes) and model.tokenizer"


def _rate_problems(config: ExperimentConfig) -> Iterator[str]:
    """Rates by part, freezing, averages and the number of steps."""
    optimizer, trainer = config.optimizer, config.trainer
    if not 0 < optimizer.head_lr_factor < math.inf:
        yield f"optimizer.head_lr_factor={optimizer.head_lr_factor}: must be more than 0 and finite"
    if not 0 < optimizer.layer_decay <= 1:
        yield f"optimizer.layer_decay={optimizer.layer_decay}: must be more than 0 and at most 1"
    plan = optimizer.unfreezing
    if any(number < 0 for number in plan) or plan != sorted(plan):
        yield f"optimizer.unfreezing={plan}: must be numbers of layers, none below 0, none below the one before it"
    if len(plan) > trainer.num_epochs:
        yield (
            f"optimizer.unfreezing={plan}: has {len(plan)} entries, one per epoch, and trainer.num_epochs is "
            f"{trainer.num_epochs}"
        )
    for name in ("averaging.decay", "averaging.start"):
        if not 0 <= (share := _lookup(config, name)) < 1:
            yield f"{name}={share}: must be a share, at least 0 and less than 1"
    if any(not 0 < share <= 1 for share in trainer.eval_shares):
        yield f"trainer.eval_shares={trainer.eval_shares}: must be shares of the steps, above 0 and at most 1"
    if None not in (trainer.min_steps, trainer.max_steps) and trainer.min_steps > trainer.max_steps:  # type: ignore[operator]
        yield f"trainer.min_steps={trainer.min_steps}: must be at most trainer.max_steps={trainer.max_steps}"


def _task_problems(where: str, name: str, task: TaskConfig) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield f"{where}: a task's name {NAME_RULE}"
    if not task.heads:
        yield f"{where}.heads: a task needs a head at least, as in heads: {{mood: {{type: classification, column: …}}}}"
    for head_name, head in task.heads.items():
        if not NAME.fullmatch(head_name):
            yield f"{where}.heads.{head_name}: a head's name {NAME_RULE}"
        if not 0 <= head.weight < math.inf:
            yield f"{where}.heads.{head_name}.weight={head.weight}: must be at least 0"
        if head.pooling is not None and head.pooling not in (choices := CHOICES["model.pooling"]):
            yield f"{where}.heads.{head_name}.pooling={head.pooling}: choose one of {', '.join(choices)}"
    if task.num_epochs is not None and not 0 < task.num_epochs < math.inf:
        yield f"{where}.num_epochs={task.num_epochs:g}: must be more than 0 and finite"
    source = task.source
    if not 0 <= source.dev_fraction < 1 or not 0 <= source.test_fraction < 1:
        yield f"{where}.source: dev_fraction and test_fraction must be at least 0 and less than 1"
    elif source.dev_fraction + source.test_fraction >= 1:
        yield f"{where}.source: dev_fraction and test_fraction together leave nothing to train on"
    for field, choices in SOURCE_CHOICES.items():
        if (value := getattr(source, field)) not in choices:
            yield f"{where}.source.{field}={value}: choose one of {', '.join(choices)}"
    if len(source.delimiter) != 1 or source.delimiter in '"\r\n':
        yield f"{where}.source.delimiter={source.delimiter!r}: must be one character, no quote or line end"
    if source.comments is not None and not source.comments.strip():
        yield f"{where}.source.comments={source.comments!r}: must say how comment lines begin, as '# '; null: none"
    for split, download in source.downloads.items():
        if not download.url.lower().startswith(("http://", "https://")):
            yield f"{where}.source.downloads.{split}.url={download.url}: must begin with http:// or https://"
        if split.partition("/")[0] not in SPLITS:
            yield f"{where}.source.downloads.{split}: a split is one of {', '.join(SPLITS)} (of several files: train/…)"


def _study_problems(study: StudyConfig) -> Iterator[str]:
    if study.expected and not study.seeds:
        yield "study.seeds: none is named; write one or several, as in study.seeds=[1,2,3]"
    if len(set(study.seeds)) < len(study.seeds) or min(study.seeds, default=0) < 0:
        yield f"study.seeds={study.seeds}: must be different seeds, and none below 0"
    for key, expected in study.expected.items():
        where = f"study.expected.{key}"
        if not math.isfinite(expected.score):
            yield f"{where}.score={expected.score}: must be a number"
        if not is_lower_better(key) and not -1 <= expected.score <= 1:
            yield f"{where}.score={expected.score:g}: scores are shares of 1, as 0.925 for 92.5 percent"
        if not 0 < expected.tolerance < math.inf:
            yield f"{where}.tolerance={expected.tolerance}: must be more than 0 and finite"
        if expected.split not in ("eval", "test"):
            yield f"{where}.split={expected.split}: choose one of eval, test"


def _clashing_metric_keys(config: ExperimentConfig) -> Iterator[str]:
    """Metrics are keyed eval_<task>_<head>_<metric>: head b_c of task a and head c of task a_b would share a key."""
    owner: dict[str, str] = {}
    for task_name, task in config.tasks.items():
        for head_name in task.heads:
            here = f"tasks.{task_name}.heads.{head_name}"
            there = owner.setdefault(f"{task_name}_{head_name}", here)
            if there != here:
                yield f"{here}: its metrics would have the same names as those of {there}; rename one of them"


def _source_settings_without_effect(where: str, source: SourceConfig) -> Iterator[str]:
    for field, formats in OF_FORMATS.items():
        if (value := getattr(source, field)) != getattr(SourceConfig, field) and source.format not in formats:
            yield f"{where}.{field}={value} has no effect: it is for format {' and '.join(formats)}"
    for split in ("dev", "test"):
        file, fraction = getattr(source, split), getattr(source, f"{split}_fraction")
        if file is not None and fraction != getattr(SourceConfig, f"{split}_fraction"):
            yield f"{where}.{split}_fraction={fraction:g} has no effect: {where}.{split} names a file"
        for key in source.downloads:
            if file is None and key.partition("/")[0] == split:
                yield f"{where}.downloads.{key} has no effect: {where}.{split} names no file"


def _nothing_to_learn(config: ExperimentConfig) -> Iterator[str]:
    """Factors of 0 that leave no loss."""
    heads = {
        f"tasks.{task_name}.heads.{head_name}": head
        for task_name, task in config.tasks.items()
        for head_name, head in task.heads.items()
    }
    if heads and all(head.weight == 0 for head in heads.values()):
        yield f"nothing is learnt: {', '.join(f'{name}.weight' for name in heads)} is 0, and no head has another weight"
    for name, head in heads.items():
        factors = head.class_weights
        if isinstance(factors, dict) and factors and not any(factors.values()):
            yield f"{name}.class_weights: every label named there has 0; only others, which have 1, are learnt, if any"


def _lookup(config: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        config = getattr(config, part)
    return config

"""Settings that have no effect beside others: warnings, where checks.py refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from multitask_bert.config.schema import (
    RESTART_WARMUPS,
    AveragingConfig,
    ExperimentConfig,
    MixingConfig,
    SourceConfig,
)
from multitask_bert.config.setting import setting_of


def settings_without_effect(config: ExperimentConfig) -> Iterator[str]:
    """One line per setting that has no effect because of another one, or that leaves nothing to learn.

    These are warnings, not errors: a sweep over `batching.batch_size` may pass below a fixed `micro_batch_size`.
    """
    for item in fields(ExperimentConfig):
        value, actions = getattr(config, item.name), setting_of(item).only_for
        if actions and config.action not in actions and value != item.default:
            shown = str(value).lower() if isinstance(value, bool) else value
            yield (
                f"{item.name}={shown} has no effect with action={config.action}: it belongs to action="
                f"{' and '.join(actions)}"
            )
    if config.action != "train":
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
    if batching.stride is not None and not batching.windows and not any(t.windows for t in config.tasks.values()):
        yield f"batching.stride={batching.stride} has no effect: with batching.windows=false long texts are truncated"
    if (micro := batching.micro_batch_size) is not None and micro > batching.batch_size:
        yield f"batching.micro_batch_size={micro} has no effect: batching.batch_size={batching.batch_size} is smaller"
    if None not in (trainer.eval_every, trainer.max_steps) and trainer.eval_every >= trainer.max_steps:  # type: ignore[operator]
        yield f"trainer.eval_every={trainer.eval_every} has no effect: training ends after {trainer.max_steps} steps"
    if trainer.eval_every is not None and trainer.eval_shares:
        yield f"trainer.eval_every={trainer.eval_every} has no effect: trainer.eval_shares says when to evaluate"
    is_by_epoch = trainer.eval_every is None and not trainer.eval_shares
    may_be_longer = trainer.min_steps is not None
    if (
        trainer.patience is not None and is_by_epoch and not may_be_longer
        and trainer.patience + 1 >= trainer.num_epochs
    ):  # fmt: skip
        yield (
            f"trainer.patience={trainer.patience} has no effect: with one evaluation in each of {trainer.num_epochs} "
            f"epochs it cannot run out before the last; set trainer.eval_every or more epochs"
        )
    if trainer.restart_collapsed and config.scheduler.warmup_ratio >= RESTART_WARMUPS[1]:
        yield (
            f"trainer.restart_collapsed=true has no effect: it makes the warmup longer, up to {RESTART_WARMUPS[1]:g}, "
            f"and scheduler.warmup_ratio is {config.scheduler.warmup_ratio:g}"
        )
    for name in ("cosines_every", "lookahead_every"):
        every = getattr(trainer, name)
        if every is not None and sum(task.source.has_train for task in config.tasks.values()) < 2:
            yield f"trainer.{name}={every} has no effect: it needs two tasks that have train"
    averaging = config.averaging
    if averaging.kind != "ema" and averaging.decay != AveragingConfig.decay:
        yield f"averaging.decay={averaging.decay:g} has no effect with averaging.kind={averaging.kind}"
    if averaging.kind == "none" and averaging.start != AveragingConfig.start:
        yield f"averaging.start={averaging.start:g} has no effect with averaging.kind=none"
    for name, task in config.tasks.items():
        if task.num_epochs is not None and not task.source.has_train:
            yield f"tasks.{name}.num_epochs={task.num_epochs:g} has no effect: the task has no train"
        elif task.num_epochs is not None and (mixing.rule, mixing.when_exhausted) != ("round_robin", "spread"):
            how = f"mixing.when_exhausted={mixing.when_exhausted}" if mixing.rule == "round_robin" else ""
            how = how or f"mixing.rule={mixing.rule}"
            yield f"tasks.{name}.num_epochs={task.num_epochs:g} has no effect with {how}"
        yield from _source_settings_without_effect(f"tasks.{name}.source", task.source)
    yield from _weights_of_zero(config)
    if config.optimizer.lr == 0:
        yield "nothing is learned: optimizer.lr=0, and every rate is a multiple of it (optimizer.frozen_layers freezes)"


def _source_settings_without_effect(where: str, source: SourceConfig) -> Iterator[str]:
    for item in fields(SourceConfig):
        value, formats = getattr(source, item.name), setting_of(item).only_for
        if formats and source.format not in formats and value != item.default:
            yield f"{where}.{item.name}={value} has no effect: it is for format {' and '.join(formats)}"
    for split in ("dev", "test"):
        file, fraction = getattr(source, split), getattr(source, f"{split}_fraction")
        if fraction != getattr(SourceConfig, f"{split}_fraction"):
            unused = f"{where}.{split}_fraction={fraction:g} has no effect"
            if file is not None:
                yield f"{unused}: {where}.{split} names a file"
            elif not source.has_train:
                yield f"{unused}: there is no train to split it off from"
            elif split == "test" and source.tests:
                yield f"{unused}: {where}.tests names files"
        for key in source.downloads:
            if file is None and key.partition("/")[0] == split:
                yield f"{where}.downloads.{key} has no effect: {where}.{split} names no file"


def _weights_of_zero(config: ExperimentConfig) -> Iterator[str]:
    """Weights of 0 that leave no loss to learn from."""
    heads = {
        f"tasks.{task_name}.heads.{head_name}": head
        for task_name, task in config.tasks.items()
        for head_name, head in task.heads.items()
    }
    if heads and all(head.weight == 0 for head in heads.values()):
        names = ", ".join(f"{name}.weight" for name in heads)
        yield f"nothing is learned: {names} is 0, and no head has another weight"
    for name, head in heads.items():
        factors = head.class_weights
        if isinstance(factors, dict) and factors and not any(factors.values()):
            yield f"{name}.class_weights: every label named there has 0; only others, which have 1, are learned, if any"

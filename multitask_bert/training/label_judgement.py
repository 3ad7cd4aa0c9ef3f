"""How probable models find the labels of train: models that have not seen them, and one model after each epoch.

The first ranks suspected label errors (Northcutt et al. 2021, "Confident Learning", self-confidence), the second draws
a data map (Swayamdipta et al. 2020, "Dataset Cartography"). Both train as the run did, and write nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.data.batching import plan_evaluation
from multitask_bert.data.loading import Loader
from multitask_bert.data.splits import EncodedSplit, SplitSubset, as_split, group_windows
from multitask_bert.data.splitting import deal_into_folds
from multitask_bert.errors import InputError
from multitask_bert.heads import Head
from multitask_bert.model.multitask import evaluating, logits_by_example
from multitask_bert.records import EncodedExample, Example
from multitask_bert.saving.run_folder import config_to_evaluate
from multitask_bert.training.output import RunOutput
from multitask_bert.training.restart import read_restart, restarted
from multitask_bert.training.trainer import Trainer
from multitask_bert.trust.classes import named_class

Say = Callable[[str], None]


@dataclass(frozen=True)
class JudgedLabel:
    """What a model makes of one label of train."""

    example: Example
    gold: Any  # as `Head.spelled` gives it
    probability: float  # of the label; of one with several values (words, labels), the lowest of theirs
    lowest: int | str | None  # that value: index of the word, name of the label; None where there is only one
    predicted: Any  # as in `Prediction.value`


Judged = dict[tuple[str, str], list[JudgedLabel]]  # by task and head, in the order of train; none for missing labels


def config_to_retrain(run_dir: Path, now: ExperimentConfig) -> ExperimentConfig:
    """The config of a finished run, to train as it did, on the device of `now` and without a folder.

    Raises:
        InputError: `run_dir` is no run that has trained, such as the folder of an evaluation.
    """
    config = config_to_evaluate(run_dir, now)
    if config.action != "train":
        raise InputError(
            f"run_dir={run_dir}: this is the folder of an action={config.action}, which has trained nothing; "
            f"diagnose.folds and diagnose.data_map need that of a run"
        )
    if (restart := read_restart(run_dir)) is not None:
        config = restarted(config, restart)
    batching = replace(config.batching, encoding_processes=now.batching.encoding_processes)
    trainer = replace(
        config.trainer, restart_collapsed=False, cosines_every=None, lookahead_every=None, keep_best_per_head=False
    )
    return replace(config, resume=False, batching=batching, trainer=trainer)


def judge_out_of_sample(config: ExperimentConfig, num_folds: int, say: Say, *, cost: str | None = None) -> Judged:
    """Train `num_folds` models, each without one fold of every task's train, which it then judges.

    `cost`: of the training, said before it begins; None: it is not said.

    Raises:
        InputError: a task has fewer texts than folds.
    """
    found: dict[tuple[str, str], dict[int, JudgedLabel]] = {}
    for fold in range(num_folds):
        trainer = _make_trainer(config)
        splits = {task: as_split(dataset) for task, dataset in trainer.train_datasets.items()}
        in_fold: dict[str, list[int]] = {}  # by task, the indices of the left-out entries
        for task, split in splits.items():
            folds = _folds_of(split, num_folds, seed=config.seed, task=task)
            in_fold[task] = [index for index, other in enumerate(folds) if other == fold]
            rest = [index for index, other in enumerate(folds) if other != fold]
            trainer.train_datasets[task] = SplitSubset(split, rest)
        if fold == 0 and cost is not None:  # the folds have not been refused
            say(cost)
        say(f"fold {fold + 1} of {num_folds}: training on the others")
        trainer.train()
        for task, indices in in_fold.items():
            for head, judged in judge(trainer, task, SplitSubset(splits[task], indices)).items():
                found.setdefault((task, head), {}).update((indices[n], one) for n, one in judged.items())
    return {key: [one for _, one in sorted(by_index.items())] for key, by_index in found.items()}


def judge_after_each_epoch(config: ExperimentConfig, say: Say) -> list[Judged]:
    """Train once more on all of train, and judge its labels after each epoch."""
    by_epoch = replace(config.trainer, eval_every=None, eval_shares=[], patience=None)
    trainer = _make_trainer(replace(config, trainer=by_epoch))
    epochs: list[Judged] = []

    def record(step: int, num_steps: int, scores: Mapping[str, float]) -> bool:
        say(f"data map: step {step} of {num_steps}")
        judged: Judged = {}
        for task, dataset in trainer.train_datasets.items():
            for head, by_index in judge(trainer, task, as_split(dataset)).items():
                judged[task, head] = [one for _, one in sorted(by_index.items())]
        epochs.append(judged)
        return False

    trainer.watcher = record
    trainer.train()
    return epochs


@torch.inference_mode()
def judge(trainer: Trainer, task: str, split: EncodedSplit) -> dict[str, dict[int, JudgedLabel]]:
    """What the model as it is makes of the labels of a split: by head with probabilities, and by index in the split."""
    heads, batching = trainer.model.heads[task], trainer.config.batching
    found: dict[str, dict[int, JudgedLabel]] = {}
    batches = plan_evaluation(split.lengths(), batching.eval_batch_size, batching.eval_max_tokens)
    loaded = Loader({task: split}, pad_id=trainer.pad_id).load([{task: batch} for batch in batches])
    with evaluating(trainer.model):
        for indices, (batch,) in zip(batches, loaded, strict=True):
            outputs = trainer.model(batch.to(trainer.device), max_tokens=batching.eval_max_tokens)
            for name, head in heads.items():
                logits_of = logits_by_example(outputs[task, name], batch.targets[task, name], batch.num_examples)
                for index, logits_ML in zip(indices, logits_of, strict=True):
                    encoded = split[index]
                    probabilities = head.label_probabilities(logits_ML, encoded.targets[name])
                    if probabilities is None or np.isnan(probabilities).all():
                        continue
                    index_of_lowest = int(np.nanargmin(probabilities))
                    found.setdefault(name, {})[index] = JudgedLabel(
                        encoded.example,
                        head.spelled(encoded.example.labels[name]),
                        float(probabilities[index_of_lowest]),
                        _named(head, encoded, index_of_lowest) if len(probabilities) > 1 else None,
                        head.decode(logits_ML, encoded).value,
                    )
    return found


def _make_trainer(config: ExperimentConfig) -> Trainer:
    target = config.trainer._target_.removesuffix(".from_config")
    trainer: Trainer = named_class("trainer._target_", target, Trainer).from_config(config, RunOutput())
    return trainer


def _folds_of(split: EncodedSplit, num_folds: int, *, seed: int, task: str) -> Sequence[int]:
    """The fold of each entry: that of its example."""
    windows = [(group[0].example, len(group)) for group in group_windows(split)]
    folds = deal_into_folds((example for example, _ in windows), num_folds, seed=seed, purpose=task)
    return np.repeat(folds, [number for _, number in windows]).tolist()


def _named(head: Head, encoded: EncodedExample, index: int) -> int | str:
    """The word or label that a value of a target belongs to; words without tokens have no value."""
    if not head.reads_words:
        return head.labels.names[index]
    return [word for word, start in enumerate(encoded.word_starts) if start >= 0][index]

"""The inspection of a run's data: statistics, leaks, and what the config would train on.

files -> DataProcessor, as for training -> statistics (splits.py), leaks (leaks.py), training (training_plan.py)
-> tables (inspection_tables.py) and a page (inspection_page.py)
"""

from __future__ import annotations

from dataclasses import dataclass

from multitask_bert.config.schema import SPLITS, ExperimentConfig
from multitask_bert.data.caching import Cache
from multitask_bert.data.processor import DataProcessor, ProcessedData
from multitask_bert.data.splits import EncodedSplit
from multitask_bert.data.vocabulary_fit import fit_warnings
from multitask_bert.heads import window_strides
from multitask_bert.model.encoder import check_length, load_encoder_config, load_tokenizer
from multitask_bert.reports.leaks import Leak, find_leaks
from multitask_bert.reports.splits import SplitFigures, count_split
from multitask_bert.reports.training_plan import TrainingPlan, plan_training


@dataclass(frozen=True)
class Inspection:
    """Everything that `action=inspect` shows; `inspect.json` has the same fields."""

    tokenizer: str  # its directory, hub name or package path
    max_length: int  # tokens per text, as in batching.max_length
    splits: list[SplitFigures]
    warnings: list[str]  # where the tokenizer does not fit a task's texts
    leaks: list[Leak]
    plan: TrainingPlan


def inspect_data(config: ExperimentConfig) -> Inspection:
    """Read and encode all data, as a run with this config would; no weights are loaded.

    Raises:
        InputError: the config or the data is invalid.
    """
    max_length = config.batching.max_length
    check_length(max_length, load_encoder_config(config.model))
    tokenizer = load_tokenizer(config.model)
    cache = Cache.from_environment()
    processor = DataProcessor(
        config.tasks, data_root=config.data_root, seed=config.seed_of_splits, cache=cache,
        num_processes=config.batching.encoding_processes,
    )  # fmt: skip
    data = processor.process(tokenizer, max_length=max_length, window_strides=window_strides(config))
    vocabulary = str(config.model.tokenizer or config.model.pretrained)
    by_split = _by_split(data)
    are_split_off = {(report.task, report.split): report.was_cut_from_train for report in data.reports}
    return Inspection(
        tokenizer=vocabulary,
        max_length=max_length,
        splits=[
            count_split(
                task, split, by_split[split][task], tokenizer,
                max_length=max_length, was_cut_from_train=are_split_off[task, split], heads=data.heads[task],
            )
            for task, task_config in config.tasks.items()
            for split in (*SPLITS, *task_config.source.named_test_splits)
            if task in by_split.get(split, ())
        ],
        warnings=fit_warnings((data.train, data.dev, data.test), tokenizer, vocabulary),
        leaks=find_leaks(data.train, {split: by_split[split] for split in by_split if split != "train"}),
        plan=plan_training(config, dict(data.train), pad_id=int(tokenizer.pad_token_id or 0)),
    )  # fmt: skip


def _by_split(data: ProcessedData) -> dict[str, dict[str, EncodedSplit]]:
    """The encoded data by split, which is test.<name> for a named test set, and by task."""
    by_split: dict[str, dict[str, EncodedSplit]] = {split: {} for split in SPLITS}
    for report in data.reports:
        plain, dot, set_name = report.split.partition(".")
        by_split.setdefault(report.split, {})[report.task] = getattr(data, plain)[report.task + dot + set_name]
    return by_split

"""What is in the data of a run, and what the config makes of it, before anything is trained.

files -> DataProcessor, as for training -> figures per task and split (splits.py), leaks (leaks.py), the plan (plan.py)
"""

from __future__ import annotations

from dataclasses import dataclass

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.data.caching import Cache
from multitask_bert.data.processor import DataProcessor
from multitask_bert.data.reading import SPLITS
from multitask_bert.model.encoder import check_length, load_encoder_config, load_tokenizer
from multitask_bert.reports.leaks import Leak, find_leaks
from multitask_bert.reports.plan import TrainingPlan, plan_training
from multitask_bert.reports.splits import SplitFigures, count_split


@dataclass(frozen=True)
class Inspection:
    """Everything that `action=inspect` shows; `inspect.json` has the same fields."""

    tokenizer: str  # where it comes from
    max_length: int  # pieces per text, as in batching.max_length
    splits: list[SplitFigures]
    leaks: list[Leak]
    plan: TrainingPlan


def inspect_data(config: ExperimentConfig) -> Inspection:
    """Reads and encodes all data, as a run with this config would; no weights are loaded.

    Raises:
        InputError: bad config or data.
    """
    max_length = config.batching.max_length
    check_length(max_length, load_encoder_config(config.model))
    tokenizer = load_tokenizer(config.model)
    cache = Cache.from_environment()
    processor = DataProcessor(
        config.tasks, data_root=config.data_root, seed=config.seed, cache=cache,
        num_processes=config.batching.encoding_processes,
    )  # fmt: skip
    data = processor.process(tokenizer, max_length=max_length)
    datasets = {split: getattr(data, split) for split in SPLITS}
    are_cut = {(report.task, report.split): report.was_cut_from_train for report in data.reports}
    return Inspection(
        tokenizer=str(config.model.tokenizer or config.model.pretrained),
        max_length=max_length,
        splits=[
            count_split(
                task, split, datasets[split][task], tokenizer,
                max_length=max_length, was_cut_from_train=are_cut[task, split], heads=data.heads[task],
            )
            for task in config.tasks
            for split in SPLITS
            if task in datasets[split]
        ],
        leaks=find_leaks(data.train, {"dev": data.dev, "test": data.test}),
        plan=plan_training(config, dict(data.train), pad_id=int(tokenizer.pad_token_id or 0)),
    )  # fmt: skip

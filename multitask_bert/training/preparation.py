"""What a run needs before it trains: tokenizer, encoded data, heads and encoder. Trials of a sweep share them.

Heads are made anew for every run, since they hold what it finds out, such as thresholds.
"""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from multitask_bert.config.schema import AUTO_PRECISION, ExperimentConfig
from multitask_bert.data.caching import WITHOUT_EFFECT, Cache
from multitask_bert.data.processor import DataProcessor, ProcessedData
from multitask_bert.data.text_keys import leak_warnings
from multitask_bert.data.vocabulary_fit import fit_warnings
from multitask_bert.heads import Head, make_head, truncating_tasks, window_strides
from multitask_bert.model.acceleration import accelerate, be_deterministic, precision_here
from multitask_bert.model.devices import pick_device
from multitask_bert.model.encoder import Encoder, check_length, load_encoder, load_encoder_config, load_tokenizer
from multitask_bert.model.location import check_layers
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.saving.run_folder import with_precision
from multitask_bert.utils.sharing import shared

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preparation:
    """Tokenizer, data and heads of a run; its encoder on demand."""

    config: ExperimentConfig
    tokenizer: Any
    data: ProcessedData
    heads: dict[str, dict[str, Head]]  # by task and name

    def load_encoder(self) -> Encoder:
        """The encoder with its weights before training."""
        model = self.config.model
        key = json.dumps({**asdict(model), "pooling": None, "head_init": None, "keep_heads": None, "recipe": None})
        return shared("encoder", key, lambda: load_encoder(model, load_encoder_config(model)), copy=copy.deepcopy)


def prepare(config: ExperimentConfig) -> Preparation:
    """Read and encode the data of all tasks.

    Raises:
        InputError: bad config or data.
    """
    encoder_config = load_encoder_config(config.model)
    check_length(config.batching.max_length, encoder_config)
    num_layers, model_type = int(encoder_config.num_hidden_layers), encoder_config.model_type
    check_layers(config.optimizer, num_layers=num_layers, model_type=model_type)
    model = config.model
    of_tokenizer = json.dumps([model.tokenizer or model.pretrained, model.revision])
    tokenizer = shared("tokenizer", of_tokenizer, lambda: load_tokenizer(model))
    data = shared("data", f"{of_tokenizer} {_key_of_data(config)}", lambda: _process(config, tokenizer))
    heads = {
        task: {name: make_head(config.tasks[task].heads[name], head.labels) for name, head in of_task.items()}
        for task, of_task in data.heads.items()
    }
    return Preparation(config, tokenizer, data, heads)


def resolve_precision(config: ExperimentConfig, say: Callable[[str], None] = log.info) -> ExperimentConfig:
    """The config with the precision that `trainer.precision=auto` stands for here; `say` is told which, and why."""
    if config.trainer.precision != AUTO_PRECISION:
        return config
    precision, reason = precision_here(pick_device(config.trainer.device), tf32=config.trainer.tf32)
    say(f"trainer.precision=auto: {precision}; {reason}")
    return with_precision(config, precision)


def to_device(model: MultiTaskModel, config: ExperimentConfig) -> torch.device:
    """Move a model to the device of `config.trainer`, with the precision and determinism that the config asks for."""
    config = resolve_precision(config)
    device = pick_device(config.trainer.device)
    model.to(device)
    accelerate(model, config.trainer)
    be_deterministic(config.deterministic, device)
    return device


def _process(config: ExperimentConfig, tokenizer: Any) -> ProcessedData:
    processor = DataProcessor(
        config.tasks, data_root=config.data_root, seed=config.seed_of_splits, cache=Cache.from_environment(),
        num_processes=config.batching.encoding_processes,
    )  # fmt: skip
    strides = window_strides(config)
    data = processor.process(tokenizer, max_length=config.batching.max_length, window_strides=strides)
    tasks = truncating_tasks(config)
    if num_truncated := sum(report.num_cut for report in data.reports if report.task in tasks):
        log.warning(
            "%s texts were truncated to batching.max_length=%d tokens: batching.windows=true reads them whole",
            f"{num_truncated:,}", config.batching.max_length,
        )  # fmt: skip
    others = {split: data.text_hashes[split] for split in ("dev", "test")}
    for warning in leak_warnings(data.text_hashes["train"], others):
        log.warning("%s", warning)
    vocabulary = str(config.model.tokenizer or config.model.pretrained)
    for warning in fit_warnings((data.train, data.dev, data.test), tokenizer, vocabulary):
        log.warning("%s", warning)
    return data


def _key_of_data(config: ExperimentConfig) -> str:
    """All that encoded data depends on except the files, which are assumed not to change while the process lives."""
    tasks = {name: asdict(task) for name, task in config.tasks.items()}
    for task in tasks.values():
        for head in task["heads"].values():
            for field in WITHOUT_EFFECT:
                del head[field]
    options = [config.data_root, config.seed_of_splits, config.batching.max_length, window_strides(config)]
    return json.dumps([tasks, *options], sort_keys=True)

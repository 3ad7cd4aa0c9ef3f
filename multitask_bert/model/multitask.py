"""MultiTaskModel: one encoder and the heads of each task. Training, evaluating and predicting all use its forward pass.

A batch goes through the encoder once, however many heads read it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from multitask_bert.config.schema import HeadConfig, TaskConfig
from multitask_bert.config.sharing import MAY_DIFFER, OF_EACH_TASK
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.model.encoder import WEIGHTS_FILE, Encoder
from multitask_bert.model.families import head_dropout
from multitask_bert.model.location import ENCODER_CONFIG
from multitask_bert.records import Batch, HeadOutput, TargetBatch
from multitask_bert.trust import models
from multitask_bert.utils.files import CHECKSUMS, checksums_of, compare_checksums, partial_of, write_json

WEIGHTS, DESCRIPTION = WEIGHTS_FILE, "multitask.json"
FORMAT_VERSION = 1
POOLINGS_OF_ALL = ("mean", "max")  # those that read all tokens of a text


class MultiTaskModel(nn.Module):
    """`heads`: by task, then by name; one whose config has a `share` uses the module of the head named there.

    `pooling`, `head_init`: how texts are pooled and heads drawn where a head does not say (see ModelConfig).

    `max_length` (in tokens) and `input_types` (by task: `Example.input_type`) say what the model was trained on, as
    predicting needs to know; None, or no entry: not known. `window_strides`, by task that reads long texts in windows:
    the tokens that two of them share.
    """

    def __init__(
        self,
        encoder: Encoder,
        heads: Mapping[str, Mapping[str, Head]],
        *,
        pooling: str = "pooler",
        head_init: str = "normal",
        max_length: int | None = None,
        input_types: Mapping[str, str] | None = None,
        window_strides: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        # Sorted, so that the order in which tasks are named changes nothing that is drawn.
        self.heads = {task: dict(sorted(by_name.items())) for task, by_name in sorted(heads.items())}
        self.pooling = pooling
        self.max_length, self.input_types = max_length, dict(input_types or {})
        self.window_strides = dict(window_strides or {})
        self.autocast: torch.dtype | None = None  # of products; None: that of the weights
        rate = head_dropout(encoder.config)
        self.head_modules = nn.ModuleDict(
            {
                task: nn.ModuleDict(
                    {
                        name: head.build(
                            encoder.hidden_size, rate if head.config.dropout is None else head.config.dropout
                        )
                        for name, head in by_name.items()
                        if head.config.share is None
                    }
                )
                for task, by_name in self.heads.items()
            }
        )
        for task, by_name in self.heads.items():
            for name, head in by_name.items():
                if (owner := self.owner_of(task, name)) != (task, name):
                    head.share(self.heads[owner[0]][owner[1]])
                    continue
                if (head.config.init or head_init) == "uniform":
                    _init_uniformly(self.head_modules[task][name])  # type: ignore[index]

    def owner_of(self, task: str, name: str) -> tuple[str, str]:
        """Task and name of the head that has the weights of this one: itself, or the one that it shares."""
        owner, _, head = (self.heads[task][name].config.share or f"{task}.{name}").partition(".")
        return owner, head

    @property
    def owners(self) -> list[tuple[str, str]]:
        """Task and name of each head that has weights of its own."""
        return [
            (task, name)
            for task, by_name in self.heads.items()
            for name in by_name
            if self.owner_of(task, name) == (task, name)
        ]

    def add_tasks(self, tasks: Mapping[str, TaskConfig]) -> None:
        """Add tasks that are scored with the heads that are there: those of their own names, or those they share.

        Raises:
            InputError: the model has neither a head of that name nor one that is shared.
        """
        for task, config in tasks.items():
            heads = {}
            for name, own in config.heads.items():
                owner, _, owned = (own.share or f"{task}.{name}").partition(".")
                if owned not in self.heads.get(owner, {}):
                    known = ", ".join(f"{other}.{head}" for other, by_name in self.heads.items() for head in by_name)
                    raise InputError(
                        f"tasks.{task}.heads.{name}: the model has no such head, and it shares none; set "
                        f"tasks.{task}.share=TASK, or tasks.{task}.heads.{name}.share to one of {known}"
                    )
                head = self.heads[owner][owned]
                fixed = replace(head.config, **{field: getattr(own, field) for field in (*OF_EACH_TASK, *MAY_DIFFER)})
                heads[name] = make_head(fixed, head.labels)
                heads[name].share(head)
            self.heads[task] = heads

    def forward(self, batch: Batch, *, max_tokens: int | None = None) -> dict[tuple[str, str], HeadOutput]:
        """Logits and losses of every head that has targets in the batch.

        `max_tokens`: in a padded batch with a text in windows, as many windows as that run at once (for evaluation,
        where a text may be longer than any batch); None: all.
        """
        device = batch.input_ids_BS.device.type
        with torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None):
            return self._forward(batch, max_tokens if batch.first_N is not None else None)

    def _forward(self, batch: Batch, max_tokens: int | None) -> dict[tuple[str, str], HeadOutput]:
        reads_all = any(self.pooling_of(*key) in POOLINGS_OF_ALL for key in batch.targets)
        if reads_all:
            hidden = self.encoder(batch, max_tokens=max_tokens)
        else:
            hidden = self.encoder.read(batch, batch.token_R, max_tokens=max_tokens)
        outputs = {}
        for (task, name), target in batch.targets.items():
            head, pooling = self.heads[task][name], self.pooling_of(task, name)
            first_N = batch.first_N if head.pools_text and not head.reads_choices else None
            if pooling in POOLINGS_OF_ALL:
                features_NH = pool_texts(hidden, batch, pooling)
                features_MH = features_NH[target.sequence_M] if first_N is None else features_NH
            else:
                token_M = target.token_M if first_N is None else first_N
                features_MH = states_of_tokens(hidden, batch, token_M, is_whole=reads_all)
            if pooling == "pooler":
                features_MH = self.encoder.pool(features_MH)
            if first_N is not None:
                features_MH = mean_of_windows(features_MH, batch)[target.example_M]
            owner, owned = self.owner_of(task, name)
            module: nn.ModuleDict = self.head_modules[owner]  # type: ignore[assignment]
            outputs[task, name] = head.loss(module[owned](features_MH), target)
        return outputs

    def pooling_of(self, task: str, name: str) -> str:
        """How a head's texts are pooled; `token`: it reads the token of each target."""
        head = self.heads[task][name]
        return (head.config.pooling or self.pooling) if head.pools_text else "token"

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Weights, shapes, labels, tokenizer and checksums in one folder; an older one there is replaced whole."""
        partial = partial_of(folder)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        save_file({name: weight.contiguous() for name, weight in self.state_dict().items()}, partial / WEIGHTS)
        write_json(partial / ENCODER_CONFIG, self.encoder.config.to_dict())
        write_json(partial / DESCRIPTION, self._description())
        tokenizer.save_pretrained(partial)
        write_json(partial / CHECKSUMS, checksums_of(partial))
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)

    @classmethod
    def load(cls, folder: str | Path) -> tuple[MultiTaskModel, Any]:
        """The model and its tokenizer, as `save` wrote them; nothing is downloaded.

        Raises:
            InputError: a file is missing in the folder, or is not as it was saved.
        """
        folder = Path(folder)
        try:
            if (folder / CHECKSUMS).is_file():  # older ones have none
                compare_checksums(folder)
            description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
            shape = json.loads((folder / ENCODER_CONFIG).read_text(encoding="utf-8"))
            encoder_config = AutoConfig.for_model(shape.pop("model_type"), **shape)
            models.refuse_kernels(encoder_config, ENCODER_CONFIG)
            models.refuse_sizes(encoder_config, ENCODER_CONFIG)
            encoder = Encoder(AutoModel.from_config(encoder_config, trust_remote_code=False))
            model = cls(
                encoder, heads_of(description), pooling=description["pooling"],
                max_length=description.get("max_length"), input_types=description.get("kinds"),
                window_strides={task: int(n) for task, n in description.get("window_strides", {}).items()},
            )  # fmt: skip
            model.load_weights(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
        except Exception as error:
            raise InputError(
                f"{folder}: no complete model of a run can be read there ({type(error).__name__}: {error})"
            ) from error
        return model, tokenizer

    def load_weights(self, folder: Path) -> None:
        """Load the weights that `save` wrote for a model of the same shape."""
        self.load_state_dict(load_file(folder / WEIGHTS))

    def _description(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "pooling": self.pooling,
            "max_length": self.max_length,
            "kinds": self.input_types,
            "window_strides": self.window_strides,
            "heads": {
                task: {
                    name: {"config": asdict(head.config), "labels": list(head.labels.names)}
                    for name, head in by_name.items()
                }
                for task, by_name in self.heads.items()
            },
        }


def heads_of(description: Mapping[str, Any]) -> dict[str, dict[str, Head]]:
    """The heads, by task and name, that a saved model's description (`DESCRIPTION`) names; without weights."""
    return {
        task: {
            name: make_head(HeadConfig(**saved["config"]), LabelSet(tuple(saved["labels"])))
            for name, saved in by_name.items()
        }
        for task, by_name in description["heads"].items()
    }


def _init_uniformly(module: nn.Module) -> None:
    """Weights and biases of linear layers between -1/sqrt(width) and 1/sqrt(width), as torch draws them."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()


def states_of_tokens(hidden: Tensor, batch: Batch, token_M: Tensor, *, is_whole: bool) -> Tensor:
    """hidden_MH of some tokens, from hidden_BSH (`is_whole`) or from hidden_RH of `batch.token_R`."""
    if is_whole:
        return hidden.flatten(0, 1).index_select(0, token_M)
    return hidden.index_select(0, torch.searchsorted(batch.token_R, token_M))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to eval mode; restore the mode on exit, also after an error."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def logits_by_example(output: HeadOutput, target: TargetBatch, num_examples: int) -> list[np.ndarray]:
    """The logits of each of a batch's examples, on the CPU; `target` as it was collated, before it went to a device."""
    counts = np.bincount(target.example_M.numpy(), minlength=num_examples)
    return np.split(output.logits_ML.float().cpu().numpy(), np.cumsum(counts)[:-1])


def mean_of_windows(pooled_NH: Tensor, batch: Batch) -> Tensor:
    """The mean of the vectors of each example's windows (Sun et al. 2019, 1905.05583, "hierarchical mean"), in fp32.

    Of one window it is that window's vector, to the bit.
    """
    assert batch.example_N is not None
    sums_EH = pooled_NH.new_zeros(batch.num_examples, pooled_NH.shape[1], dtype=torch.float32)
    sums_EH = sums_EH.index_add(0, batch.example_N, pooled_NH.float())
    sizes_E = sums_EH.new_zeros(batch.num_examples).index_add(0, batch.example_N, sums_EH.new_ones(batch.num_sequences))
    return (sums_EH / sizes_E[:, None]).to(pooled_NH.dtype)


def pool_texts(hidden_BSH: Tensor, batch: Batch, pooling: str) -> Tensor:
    """mean or max over the tokens of each sequence -> pooled_NH; padding has no owner and does not count."""
    owner_T = batch.sequence_BS.flatten()
    is_padding_T = owner_T < 0
    # Padding gets a row of its own: to select the other tokens, the host would have to wait for their number.
    hidden_TH = hidden_BSH.flatten(0, 1).masked_fill(is_padding_T[:, None], 0.0)
    owner_TH = owner_T.masked_fill(is_padding_T, batch.num_sequences)[:, None].expand_as(hidden_TH)
    pooled_NH = hidden_TH.new_zeros(batch.num_sequences + 1, hidden_TH.shape[1])
    reduce = "mean" if pooling == "mean" else "amax"
    return pooled_NH.scatter_reduce(0, owner_TH, hidden_TH, reduce=reduce, include_self=False)[:-1]

"""The shared encoder: any BERT-like model that `AutoModel` loads, from a directory, the hub or an installed package.

Where encoder families differ: families.py.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.utils import logging as hub_logging
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast
from transformers.utils import cached_file
from transformers.utils import logging as transformers_logging

from multitask_bert.config.schema import ModelConfig
from multitask_bert.errors import InputError
from multitask_bert.model import last_layer
from multitask_bert.model.attention import ATTENTION_NAME, Layout
from multitask_bert.model.dropout import use_cpu_dropout
from multitask_bert.model.families import first_position, num_positions, set_dropout
from multitask_bert.model.location import ENCODER_CONFIG, resolve
from multitask_bert.records import Batch
from multitask_bert.trust import models
from multitask_bert.utils.files import expand_user_path, sha256_of

log = logging.getLogger(__name__)

WEIGHTS_FILE = "model.safetensors"
BACKBONE = "encoder.backbone."  # prefix of the names of its weights there


class Encoder(nn.Module):
    """A Hugging Face encoder that maps a `Batch` to hidden states."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        use_cpu_dropout(backbone)
        config: Any = backbone.config
        if config._attn_implementation == "sdpa":
            config._attn_implementation = ATTENTION_NAME
        self.backbone = backbone
        arguments = inspect.signature(backbone.forward).parameters
        self.takes_token_types = "token_type_ids" in arguments
        # A packed batch needs our attention function, explicit positions, and keywords that are passed on.
        self.can_pack = config._attn_implementation == ATTENTION_NAME and {"position_ids", "kwargs"} <= arguments.keys()
        self.skips_unread = last_layer.prepare(backbone)  # the last layer is computed only for tokens that heads read
        self._first_position = first_position(config)

    @property
    def config(self) -> Any:
        return self.backbone.config

    @property
    def hidden_size(self) -> int:
        return int(self.config.hidden_size)

    def forward(self, batch: Batch, *, max_tokens: int | None = None) -> Tensor:
        """hidden_BSH; undefined on padding. `max_tokens`: rows of a padded batch run at once (None: all)."""
        if max_tokens is not None and batch.input_ids_BS.numel() > max_tokens:
            return torch.cat([self._run(part) for part in _parts(batch, max_tokens)])
        return self._run(batch)

    def read(self, batch: Batch, token_R: Tensor, *, max_tokens: int | None = None) -> Tensor:
        """hidden_RH of some tokens, by index into the B*S grid, sorted; where possible, the others skip the last layer.

        `max_tokens`: see `forward`.
        """
        if max_tokens is not None and batch.input_ids_BS.numel() > max_tokens:
            parts = list(_parts(batch, max_tokens))
            size = parts[0].input_ids_BS.numel()
            return torch.cat(
                [self.read(part, token_R[token_R // size == n] - n * size) for n, part in enumerate(parts)]
            )
        if self.skips_unread and token_R.numel():
            with last_layer.computing_only(token_R):
                return self._run(batch)[0]
        return self._run(batch).flatten(0, 1).index_select(0, token_R)

    def _run(self, batch: Batch) -> Tensor:
        inputs: dict[str, Any] = {"input_ids": batch.input_ids_BS}
        if self.takes_token_types:
            inputs["token_type_ids"] = batch.token_type_BS
        if not batch.blocks:
            if batch.num_tokens < batch.input_ids_BS.numel():
                inputs["attention_mask"] = (batch.sequence_BS >= 0).long()
            padded_BSH: Tensor = self.backbone(**inputs).last_hidden_state
            return padded_BSH
        layout = Layout(batch)
        inputs["position_ids"] = batch.position_BS + self._first_position
        # With four dimensions a mask is used as it is; without one, families with local attention make an S x S mask.
        inputs["attention_mask"] = batch.input_ids_BS.new_ones((1, 1, 1, 1), dtype=torch.bool)
        packed_BSH: Tensor = self.backbone(**inputs, layout=layout).last_hidden_state
        if not layout.num_uses:
            raise InputError(
                f"batching.layout=packed: {self.config.model_type} does not pass the layout to its attention, so texts "
                f"would see each other; set batching=padded"
            )
        return packed_BSH

    def pool(self, first_MH: Tensor) -> Tensor:
        """Apply the encoder's own pooler to each text's first token; without a pooler, return the token's state."""
        pooler = getattr(self.backbone, "pooler", None)
        if pooler is None:
            return first_MH
        if isinstance(pooler, nn.Linear):  # ALBERT has the activation beside it
            activated_MH: Tensor = self.backbone.get_submodule("pooler_activation")(pooler(first_MH))
            return activated_MH
        pooled_MH: Tensor = pooler(first_MH[:, None])
        return pooled_MH


def _parts(batch: Batch, max_tokens: int) -> Iterator[Batch]:
    """A padded batch in parts of as many rows as have `max_tokens` tokens, one at least."""
    size = max(1, max_tokens // batch.input_ids_BS.shape[1])
    for start in range(0, len(batch.input_ids_BS), size):
        names = ("input_ids_BS", "position_BS", "token_type_BS", "sequence_BS")
        rows = {name: getattr(batch, name)[start : start + size] for name in names}
        yield replace(batch, **rows, num_tokens=int((rows["sequence_BS"] >= 0).sum()))


def load_tokenizer(config: ModelConfig) -> PreTrainedTokenizerFast:
    """The fast tokenizer, without truncation or padding of its own.

    Raises:
        InputError: there is none, or only a slow one.
    """
    _quiet_libraries()
    name = config.tokenizer or config.pretrained
    if name is None:
        raise InputError("model.tokenizer: missing; name a directory, a hub model or pkg://package/path")
    location = resolve(name, "model.tokenizer" if config.tokenizer else "model.pretrained")
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, revision=config.revision, trust_remote_code=False)
    except Exception as error:  # files of somebody else: dozens of exception types
        raise InputError(f"model.tokenizer: no tokenizer can be read from {name} ({_first_line(error)})") from error
    if not tokenizer.is_fast:
        raise InputError(f"model.tokenizer: {name} has no fast tokenizer, which is needed to align words with tokens")
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.model_max_length = int(1e9)  # we check lengths ourselves (batching.max_length); no second warning
    return tokenizer


def load_encoder_config(config: ModelConfig) -> PretrainedConfig:
    """The Hugging Face config of the encoder, with the rates of dropout that the config sets."""
    _quiet_libraries()
    name = config.pretrained or config.tokenizer
    try:
        if config.pretrained is None and config.architecture:
            shape = {str(key): value for key, value in config.architecture.items()}
            encoder_config = AutoConfig.for_model(shape.pop("model_type", "bert"), **shape)
            models.refuse_kernels(encoder_config, "model.architecture")
        else:
            assert name is not None
            location = resolve(name, "model.pretrained")
            if (saved := Path(location) / ENCODER_CONFIG).is_file():
                shape = json.loads(saved.read_text(encoding="utf-8"))
                encoder_config = AutoConfig.for_model(shape.pop("model_type"), **shape)
            else:
                encoder_config = AutoConfig.from_pretrained(location, revision=config.revision, trust_remote_code=False)
            models.refuse_kernels(encoder_config, f"model.pretrained={name}")
        models.refuse_sizes(encoder_config, f"model.pretrained={name}")
    except InputError:
        raise
    except Exception as error:  # the same
        raise InputError(
            f"model.pretrained: no encoder can be read from {name} ({_first_line(error)}); without a network, name a "
            f"folder that holds one: model.pretrained=FOLDER"
        ) from error
    set_dropout(encoder_config, hidden=config.dropout, attention=config.attention_dropout)
    return encoder_config


def load_encoder(config: ModelConfig, encoder_config: PretrainedConfig) -> Encoder:
    """The encoder with its pretrained weights, or with random ones where `model.pretrained` is null.

    Raises:
        InputError: the weights cannot be read, or their sha256 is not the expected one.
    """
    if config.pretrained is None:
        return Encoder(AutoModel.from_config(encoder_config, trust_remote_code=False))
    location = resolve(config.pretrained, "model.pretrained")
    _refuse_foreign_weights(location, config)
    if config.sha256 is not None:
        _check_weights(location, config)
    try:
        if (Path(location) / ENCODER_CONFIG).is_file():
            return Encoder(_backbone_of_run(Path(location), encoder_config))
        backbone = AutoModel.from_pretrained(
            location,
            config=encoder_config,
            revision=config.revision,
            trust_remote_code=False,
            use_safetensors=True,  # nothing is unpickled
            dtype=torch.float32,
        )
    except Exception as error:  # damaged safetensors raise an exception type of their own
        raise InputError(
            f"model.pretrained: the weights in {config.pretrained} cannot be read ({_first_line(error)}); "
            f"a whole {WEIGHTS_FILE} is needed"
        ) from error
    return Encoder(backbone)


def describe_earlier_model(config: ModelConfig) -> str | None:
    """A sentence on what a run takes over from an earlier run's model; None where it does not begin with one."""
    if config.pretrained is None or not (Path(expand_user_path(config.pretrained)) / ENCODER_CONFIG).is_file():
        return None
    kept = "the encoder" if config.tokenizer else "the encoder and the tokenizer"
    heads = (
        "" if config.keep_heads else "; its heads are not used (model.keep_heads=true keeps those of the same names)"
    )
    return f"model.pretrained={config.pretrained}: {kept} of an earlier run{heads}"


def check_length(max_length: int, encoder_config: PretrainedConfig) -> None:
    """Refuse texts longer than the encoder's positions."""
    positions = num_positions(encoder_config)
    if positions is not None and max_length > positions:
        raise InputError(
            f"batching.max_length={max_length}: this encoder has {positions} positions; set it to at most that"
        )


def _backbone_of_run(folder: Path, encoder_config: PretrainedConfig) -> nn.Module:
    """The encoder of a model that a run saved, without its heads."""
    backbone: nn.Module = AutoModel.from_config(encoder_config, trust_remote_code=False, dtype=torch.float32)
    weights = load_file(folder / WEIGHTS_FILE).items()
    backbone.load_state_dict({name.removeprefix(BACKBONE): own for name, own in weights if name.startswith(BACKBONE)})
    return backbone


def _quiet_libraries() -> None:
    """Silence the libraries: reports of unused weights, and two lines for each attempt to download."""
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    hub_logging.set_verbosity_error()  # type: ignore[no-untyped-call]


def _refuse_foreign_weights(location: str, config: ModelConfig) -> None:
    """Check what the index of a model's weights and its adapter name, where it has them, in a folder or on the hub."""
    files = (models.WEIGHTS_INDEX, models.ADAPTER)
    options: dict[str, Any] = {"revision": config.revision}  # a missing file or network is no error here
    options |= {f"_raise_exceptions_for_{what}": False for what in ("missing_entries", "connection_errors")}
    found = {name: path for name in files if (path := cached_file(location, name, **options)) is not None}
    field = f"model.pretrained={config.pretrained}"
    models.refuse_foreign_weights({name: Path(path) for name, path in found.items()}, field)


def _check_weights(location: str, config: ModelConfig) -> None:
    try:
        path = cached_file(location, WEIGHTS_FILE, revision=config.revision)
    except OSError as error:
        raise InputError(
            f"model.pretrained: {config.pretrained} has no {WEIGHTS_FILE} ({_first_line(error)})"
        ) from error
    assert path is not None
    if (found := sha256_of(Path(path))) != config.sha256:
        raise InputError(
            f"model.sha256: the weights in {config.pretrained} have sha256 {found}, expected {config.sha256}; "
            f"they are damaged or another version; install them anew, or set model.sha256=null to use them as they are"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

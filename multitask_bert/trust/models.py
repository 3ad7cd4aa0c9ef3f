"""What the folder of somebody else's model, or its config, may not contain: other models, code, absurd sizes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from multitask_bert.errors import InputError
from multitask_bert.utils.files import read_json

WEIGHTS_INDEX, ADAPTER = "model.safetensors.index.json", "adapter_config.json"
MAX_LAYERS = 1000


def refuse_foreign_weights(files: Mapping[str, Path], field: str) -> None:
    """Refuse a model's folder with files that lead to other models, other folders or pickles; `files`: by name.

    Raises:
        InputError: names the file.
    """
    if ADAPTER in files:
        raise InputError(f"{field}: its {ADAPTER} leads to another model; merge the adapter into one, and name that")
    if WEIGHTS_INDEX not in files:
        return
    try:
        listed = set(read_json(files[WEIGHTS_INDEX])["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(f"{field}: its {WEIGHTS_INDEX} is damaged ({error!r})") from error
    for name in map(str, listed):
        if PurePath(name).name != name or not name.endswith(".safetensors"):
            raise InputError(f"{field}: its {WEIGHTS_INDEX} names {name}, which is no .safetensors file beside it")


def refuse_kernels(encoder_config: Any, field: str) -> None:
    """Refuse a model whose config names a repository, the code of which would be run as its attention.

    Raises:
        InputError: names the repository.
    """
    parts = [
        encoder_config,
        *(getattr(encoder_config, part, None) for part in getattr(encoder_config, "sub_configs", ())),
    ]
    for part in parts:
        for name in ("_attn_implementation", "_experts_implementation"):
            if "/" in str(value := getattr(part, name, None)):
                raise InputError(f"{field}: {name}={value} is code from a repository, which is not run; remove it")


def refuse_sizes(encoder_config: Any, field: str) -> None:
    """Refuse a model with so many layers that building them would take forever, before weights turn out to be missing.

    Raises:
        InputError: there are more than `MAX_LAYERS`.
    """
    num_layers = getattr(encoder_config, "num_hidden_layers", 0)
    if not isinstance(num_layers, int) or not 0 <= num_layers <= MAX_LAYERS:
        raise InputError(f"{field}: num_hidden_layers={num_layers}: must be a number from 0 to {MAX_LAYERS}")

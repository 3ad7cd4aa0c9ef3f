"""Where an encoder is and how many layers it has, found out before anything is loaded."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multitask_bert.config.schema import ExperimentConfig, ModelConfig, OptimizerConfig
from multitask_bert.errors import InputError
from multitask_bert.model.families import family_of_type
from multitask_bert.utils.files import expand_user_path

PACKAGE_PREFIX = "pkg://"
ENCODER_CONFIG = "encoder_config.json"  # the encoder's shape in the folder of a model that a run saved
NUM_LAYERS = ("num_hidden_layers", "n_layers")  # the second one: DistilBERT


def resolve(name: str, field: str) -> str:
    """A directory or a hub name; `pkg://package/path` becomes the directory inside the installed package.

    Raises:
        InputError: there is no such package or directory, or it is the folder of a run and not of its model.
    """
    if name.startswith(PACKAGE_PREFIX):
        package, _, inside = name.removeprefix(PACKAGE_PREFIX).partition("/")
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
        if spec is None or not spec.submodule_search_locations:
            distribution = package.replace("_", "-")
            raise InputError(f"{field}={name}: the package {package} is not installed; pip install {distribution}")
        folder = Path(spec.submodule_search_locations[0]) / inside
        if not folder.is_dir():
            raise InputError(f"{field}={name}: the package {package} has no folder {inside}")
        return str(folder)
    path = Path(expand_user_path(name))
    if (path / "model" / ENCODER_CONFIG).is_file():
        raise InputError(f"{field}={name}: this is the folder of a run; its model is {field}={path / 'model'}")
    if path.is_dir():
        return str(path)
    if path.is_absolute() or name.startswith((".", "~", "$")) or name.count("/") > 1:
        raise InputError(
            f"{field}={name}: no such directory (a hub name looks like owner/name, a package like pkg://package/path)"
        )
    return name


def check_encoder(config: ExperimentConfig) -> None:
    """Refuse an encoder that is not there, and layers that it does not have; of one on the hub, nothing is known yet.

    Raises:
        InputError: by the field's full name, with what would be right.
    """
    shape = _shape_here(config.model)
    num_layers = next((int(shape[key]) for key in NUM_LAYERS if isinstance(shape.get(key), int)), None)
    if num_layers is not None:
        check_layers(config.optimizer, num_layers=num_layers, model_type=str(shape.get("model_type")))


def check_layers(config: OptimizerConfig, *, num_layers: int, model_type: str) -> None:
    """Refuse layers that an encoder of this type and so many layers does not have.

    Raises:
        InputError: by the field's full name, with what would be right.
    """
    if config.frozen_layers > num_layers:
        raise InputError(
            f"optimizer.frozen_layers={config.frozen_layers}: this encoder has {num_layers} layers; {num_layers} "
            f"freezes all of them, and optimizer.frozen_embeddings=true the embeddings"
        )
    if too_many := [number for number in config.unfreezing if number > num_layers]:
        raise InputError(
            f"optimizer.unfreezing={config.unfreezing}: {too_many[0]} top layers are asked for, and this encoder has "
            f"{num_layers}; after the last entry all are trained"
        )
    has_plan = config.layer_decay != 1.0 or 0 < config.frozen_layers < num_layers or any(config.unfreezing)
    if has_plan and family_of_type(model_type).shares_layers:
        raise InputError(
            f"optimizer: the layers of {model_type} share their weights; leave layer_decay, frozen_layers and "
            f"unfreezing as they are by default"
        )


def _shape_here(model: ModelConfig) -> Mapping[str, Any]:
    """The encoder's config.json, where it is on this machine; else empty.

    Raises:
        InputError: it should be on this machine, and is not.
    """
    if model.pretrained is None:
        return model.architecture
    folder = Path(resolve(model.pretrained, "model.pretrained"))
    for name in (ENCODER_CONFIG, "config.json"):
        try:
            shape = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # on the hub; a damaged file is told where it is needed
            continue
        return shape if isinstance(shape, dict) else {}
    return {}

"""What is refused of an encoder before anything is loaded: that it is missing, and layers that it does not have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from multitask_bert.config.schema import ExperimentConfig, ModelConfig, OptimizerConfig
from multitask_bert.errors import InputError
from multitask_bert.model.location import ENCODER_CONFIG, check_encoder
from tests.conftest import PACKAGED, TINY


def config_of(model: ModelConfig, *, frozen_layers: int) -> ExperimentConfig:
    return ExperimentConfig(model=model, optimizer=OptimizerConfig(frozen_layers=frozen_layers))


def folder_with(name: str, shape: dict[str, object], folder: Path) -> str:
    (folder / name).write_text(json.dumps(shape), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("kind", ["package", "architecture", "run", "distilbert"])
def test_layers_that_an_encoder_on_this_machine_does_not_have_are_refused(kind: str, tmp_path: Path) -> None:
    model, num_layers = {
        "package": lambda: (ModelConfig(PACKAGED), 6),
        "architecture": lambda: (ModelConfig(architecture=TINY), TINY["num_hidden_layers"]),
        "run": lambda: (ModelConfig(folder_with(ENCODER_CONFIG, {"num_hidden_layers": 3}, tmp_path)), 3),
        "distilbert": lambda: (ModelConfig(folder_with("config.json", {"n_layers": 4}, tmp_path)), 4),
    }[kind]()
    check_encoder(config_of(model, frozen_layers=num_layers))
    with pytest.raises(
        InputError, match=rf"optimizer\.frozen_layers={num_layers + 1}: this encoder has {num_layers} layers"
    ):
        check_encoder(config_of(model, frozen_layers=num_layers + 1))


def test_nothing_is_known_of_an_encoder_on_the_hub_but_of_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = config_of(ModelConfig("owner/name"), frozen_layers=99)
    check_encoder(config)
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    folder_with("config.json", {"num_hidden_layers": 3}, folder)
    with pytest.raises(InputError, match=r"optimizer\.frozen_layers=99: this encoder has 3 layers"):
        check_encoder(config)


def test_an_encoder_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"model\.pretrained=/nowhere: no such directory"):
        check_encoder(config_of(ModelConfig("/nowhere"), frozen_layers=0))

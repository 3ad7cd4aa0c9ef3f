"""Which keys a command may change of a run that is resumed, and which not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from multitask_bert.config.overrides import keys_of
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import to_dict
from multitask_bert.errors import InputError
from multitask_bert.saving.resume import config_to_resume, refuse_changed_config
from tests.composing import config_of

MakeConfig = Callable[..., ExperimentConfig]


def begun(folder: Path, config: ExperimentConfig) -> Path:
    (folder / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(to_dict(config)), folder / ".hydra" / "config.yaml")
    return folder


def test_a_run_is_resumed_with_its_own_config_except_for_given_changeable_keys(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    earlier = make_config(num_workers=2, patience=4)
    given = ("batching.num_workers=0", "logger=none", "trainer.patience=1", "trainer.on_non_finite=skip", "seed=9")
    now = config_of(*given)
    config = config_to_resume(begun(tmp_path, earlier), now, keys_of(given))
    assert (config.resume, config.batching.num_workers, config.trainer.on_non_finite) == (True, 0, "skip")
    assert (config.seed, config.trainer.patience, config.tasks) == (earlier.seed, 4, earlier.tasks)
    assert config.logger == {}
    refuse_changed_config(to_dict(earlier), config)


def test_a_key_that_is_not_given_keeps_the_value_of_the_run(make_config: MakeConfig, tmp_path: Path) -> None:
    earlier = make_config(num_workers=2)
    config = config_to_resume(begun(tmp_path, earlier), config_of(), ["logger"])
    assert (config.batching.num_workers, config.trainer.device) == (2, "cpu")


def test_a_key_that_is_newer_than_the_run_may_have_its_default(make_config: MakeConfig) -> None:
    config = make_config()
    older: dict[str, Any] = to_dict(config)
    del older["trainer"]["on_non_finite"], older["deterministic"]
    refuse_changed_config(older, config)
    with pytest.raises(InputError, match=r"deterministic was None, now False"):
        refuse_changed_config(older, replace(config, deterministic=False))

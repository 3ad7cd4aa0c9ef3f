"""Our model around the encoder of a tiny Hugging Face BERT with a head of its own, so that both can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, BertConfig

from multitask_bert.data.collation import collate
from multitask_bert.heads import Head
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import Batch, EncodedExample

SIZES = {
    "vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip


def same_model(theirs: Any, head: Head, classifier: torch.nn.Linear) -> MultiTaskModel:
    """Ours with the weights of `theirs`, as task "t" with the one head "h"; `classifier`: their last layer."""
    torch.manual_seed(0)
    backbone = AutoModel.from_config(BertConfig(**SIZES))
    backbone.load_state_dict(theirs.bert.state_dict(), strict=False)  # some of theirs have no pooler
    ours = MultiTaskModel(Encoder(backbone), {"t": {"h": head}}).eval()
    theirs.eval()
    ours.head_modules["t"]["h"][-1].load_state_dict(classifier.state_dict())  # type: ignore[index]
    return ours


def batch_of(examples: Sequence[EncodedExample]) -> Batch:
    return collate([("t", example) for example in examples], pad_id=0)


def inputs_of(batch: Batch) -> dict[str, Tensor]:
    """What a Hugging Face model takes."""
    return {
        "input_ids": batch.input_ids_BS,
        "attention_mask": (batch.sequence_BS >= 0).long(),
        "token_type_ids": batch.token_type_BS,
    }


def assert_same_loss_and_gradients(ours: MultiTaskModel, batch: Batch, theirs: Any, loss: Tensor) -> None:
    """Our sum divided by our count is their mean, and the encoders learn the same from both."""
    output = ours(batch)["t", "h"]
    torch.testing.assert_close(output.loss_sum / output.count, loss)
    (output.loss_sum / output.count).backward()
    loss.backward()
    found = {name: weight.grad for name, weight in ours.encoder.backbone.named_parameters()}
    for name, weight in theirs.bert.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, atol=1e-6, rtol=1e-4, msg=name)

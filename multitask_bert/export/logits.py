"""The whole model as a plain function of padded ids, as ONNX graphs and comparisons with other programs need it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multitask_bert.heads import Head
from multitask_bert.heads.calibration import SoftmaxHead
from multitask_bert.model.families import num_positions
from multitask_bert.model.multitask import MultiTaskModel

TOLERANCE = 1e-4  # within which logits are equal


class Logits(nn.Module):
    """The logits of every head that has weights of its own: logits_BSL of heads over tokens, logits_BL of others, at
    the head's temperature.
    """

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model = model
        self.takes_token_types = model.encoder.takes_token_types
        self.temperatures = {owner: temperature_of(model.heads[owner[0]][owner[1]]) for owner in model.owners}

    def forward(
        self, input_ids_BS: Tensor, attention_mask_BS: Tensor, token_type_BS: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        inputs = {"input_ids": input_ids_BS, "attention_mask": attention_mask_BS}
        if token_type_BS is not None:
            inputs["token_type_ids"] = token_type_BS
        hidden_BSH = self.model.encoder.backbone(**inputs).last_hidden_state
        return tuple(self._logits(task, name, hidden_BSH, attention_mask_BS) for task, name in self.model.owners)

    def _logits(self, task: str, name: str, hidden_BSH: Tensor, mask_BS: Tensor) -> Tensor:
        pooling = self.model.pooling_of(task, name)
        module: nn.Module = self.model.head_modules[task][name]  # type: ignore[index]
        if pooling == "token":
            logits_BSL: Tensor = module(hidden_BSH)
            return logits_BSL
        is_token_BS1 = mask_BS[:, :, None].bool()
        if pooling == "mean":
            weight_BS1 = is_token_BS1.to(hidden_BSH.dtype)
            pooled_BH = (hidden_BSH * weight_BS1).sum(1) / weight_BS1.sum(1)
        elif pooling == "max":
            pooled_BH = hidden_BSH.masked_fill(~is_token_BS1, torch.finfo(hidden_BSH.dtype).min).amax(1)
        else:
            pooled_BH = hidden_BSH[:, 0]
        if pooling == "pooler":
            pooled_BH = self.model.encoder.pool(pooled_BH)
        logits_BL: Tensor = module(pooled_BH)
        return logits_BL / self.temperatures[task, name]


def temperature_of(head: Head) -> float:
    """By what a head divides its logits before the softmax (`calibrate: true`); what is exported has them divided."""
    return head.temperature if isinstance(head, SoftmaxHead) else 1.0


def random_inputs(model: MultiTaskModel) -> dict[str, Tensor]:
    """Four sequences of random ids, as the encoder takes them: two whole, one of them a pair; and two with padding."""
    config = model.encoder.config
    num_tokens = min(16, num_positions(config) or 16)
    ids_BS = torch.randint(5, config.vocab_size, (4, num_tokens), generator=torch.Generator().manual_seed(1))
    mask_BS = torch.ones_like(ids_BS)
    mask_BS[1, num_tokens // 2 :] = mask_BS[2, num_tokens - 1 :] = 0
    inputs = {"input_ids": ids_BS.masked_fill(mask_BS == 0, config.pad_token_id or 0), "attention_mask": mask_BS}
    if model.encoder.takes_token_types:
        inputs["token_type_ids"] = torch.zeros_like(ids_BS)
        if config.type_vocab_size > 1:
            inputs["token_type_ids"][3, num_tokens // 2 :] = 1
    return inputs


def are_equal(ours: Tensor, theirs: Tensor, mask_BS: Tensor) -> bool:
    """Whether logits_BSL are equal at all tokens but padding, or logits_BL at all."""
    is_read = mask_BS.bool() if ours.dim() == 3 else torch.ones(len(ours), dtype=torch.bool)
    return torch.allclose(ours[is_read], theirs[is_read], atol=TOLERANCE, rtol=0.0)

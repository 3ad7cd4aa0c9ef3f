"""A text classifier that pools the encoder's states as it was trained to: load it with `trust_remote_code=True`."""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class PooledTextConfig(PretrainedConfig):  # type: ignore[misc]
    """A model type of its own, so that no stock class takes the folder for its own and answers wrongly."""

    model_type = "pooled_text"

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        text_pooling: str = "mean",
        head_hidden_size: int | None = None,
        head_activation: str = "tanh",
        **fields: Any,
    ) -> None:
        self.encoder, self.text_pooling = dict(encoder or {}), text_pooling
        self.head_hidden_size, self.head_activation = head_hidden_size, head_activation
        super().__init__(**fields)


class PooledTextClassifier(PreTrainedModel):  # type: ignore[misc]
    """Any encoder, a pooling (`mean`, `max`, `cls` or `pooler`) and one or two layers."""

    config_class = PooledTextConfig

    def __init__(self, config: PooledTextConfig) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(AutoConfig.for_model(**config.encoder), trust_remote_code=False)
        width, layers = self.encoder.config.hidden_size, []
        if config.head_hidden_size is not None:
            activation = {"tanh": nn.Tanh, "gelu": nn.GELU}[config.head_activation]()
            layers += [nn.Linear(width, config.head_hidden_size), activation]
            width = config.head_hidden_size
        self.head = nn.Sequential(*layers, nn.Linear(width, config.num_labels))
        self.post_init()

    def forward(self, input_ids: Any, attention_mask: Any = None, token_type_ids: Any = None, **_: Any) -> Any:
        """Logits of shape (texts, labels)."""
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        inputs = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.encoder(input_ids=input_ids, attention_mask=mask, **inputs).last_hidden_state
        return SequenceClassifierOutput(logits=self.head(self.pool(hidden, mask[:, :, None].bool())))

    def pool(self, hidden: Any, is_token: Any) -> Any:
        """One vector per text, from the states of its tokens."""
        if self.config.text_pooling == "mean":
            return (hidden * is_token).sum(1) / is_token.sum(1)
        if self.config.text_pooling == "max":
            return hidden.masked_fill(~is_token, torch.finfo(hidden.dtype).min).amax(1)
        pooler = getattr(self.encoder, "pooler", None) if self.config.text_pooling == "pooler" else None
        return hidden[:, 0] if pooler is None else pooler(hidden)

"""What differs between encoder families: a row each. A family without a row is treated as `OTHER`.

What can be read off an encoder itself is not in the table: whether it has a pooler, takes token types, or can be packed
(`Encoder.can_pack`: it hands positions and keywords on to transformers' attention interface; DeBERTa does not).
The names of weights are alike in all: `embeddings…`, and a number after `layer` or `layers` (parts.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Fields of encoder configs with a rate of dropout, by what it is applied to; an encoder has some of them.
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")
HIDDEN_DROPOUTS = (
    "hidden_dropout_prob",  # BERT, RoBERTa, ELECTRA
    "dropout",  # DistilBERT
    "embedding_dropout", "mlp_dropout", "classifier_dropout",  # ModernBERT
)  # fmt: skip
HEAD_DROPOUTS = ("classifier_dropout", "hidden_dropout_prob", "dropout")  # before a head; the first that is set


@dataclass(frozen=True)
class Family:
    """How an encoder family differs from others."""

    counts_from_padding_id: bool = False  # positions begin at pad_id + 1, not at 0
    shares_layers: bool = False  # one set of weights is every layer
    # The last layer's module that takes what attention gives and the layer's input, and after which all is token by
    # token ({last}: index of the last layer); None: there is none. See last_layer.py.
    after_attention: str | None = None


BERT_LAYER = "encoder.layer.{last}.attention.output"
OTHER = Family()
FAMILIES = {  # by `model_type`
    "bert": Family(after_attention=BERT_LAYER),
    "electra": Family(after_attention=BERT_LAYER),
    "roberta": Family(after_attention=BERT_LAYER, counts_from_padding_id=True),
    "xlm-roberta": Family(after_attention=BERT_LAYER, counts_from_padding_id=True),
    "camembert": Family(after_attention=BERT_LAYER, counts_from_padding_id=True),
    "xlm-roberta-xl": Family(counts_from_padding_id=True),
    "xmod": Family(counts_from_padding_id=True),
    "albert": Family(shares_layers=True),
    "distilbert": OTHER,
    "modernbert": OTHER,
    "deberta-v2": OTHER,
}


def family_of(encoder_config: Any) -> Family:
    """The row of a Hugging Face encoder's family."""
    return family_of_type(encoder_config.model_type)


def family_of_type(model_type: str) -> Family:
    """The row of a `model_type`."""
    return FAMILIES.get(model_type, OTHER)


def first_position(encoder_config: Any) -> int:
    """The position id of a sequence's first token."""
    return int(encoder_config.pad_token_id) + 1 if family_of(encoder_config).counts_from_padding_id else 0


def num_positions(encoder_config: Any) -> int | None:
    """The number of tokens that the encoder has positions for; None: no limit."""
    positions: int | None = getattr(encoder_config, "max_position_embeddings", None)
    return None if positions is None else int(positions) - first_position(encoder_config)


def set_dropout(encoder_config: Any, *, hidden: float | None, attention: float | None) -> None:
    """Set the rates of dropout; `hidden` is for attention, too, where `attention` is None; None: as they are."""
    fields = ((HIDDEN_DROPOUTS, hidden), (ATTENTION_DROPOUTS, hidden if attention is None else attention))
    for names, rate in fields:
        for name in names:
            if rate is not None and getattr(encoder_config, name, None) is not None:
                setattr(encoder_config, name, rate)


def head_dropout(encoder_config: Any) -> float:
    """The rate of dropout before a head's linear layer where the config names none."""
    rates = (getattr(encoder_config, name, None) for name in HEAD_DROPOUTS)
    return float(next((rate for rate in rates if rate is not None), 0.1))

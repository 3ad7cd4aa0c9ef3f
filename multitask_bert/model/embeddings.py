"""Word embeddings of which training touches the rows that its data uses, and no others.

Half of MiniLM's weights, and two thirds of XLM-R's, are word embeddings, and most of their rows stand for pieces that
a small training set never holds. A row without a gradient stays as it is, but for weight decay; yet a plain embedding
pays for it at every step: its gradient is filled with zeros, its norm taken, its moments updated. Here the rows in use
are a parameter of their own. What comes out is what training all rows gives (a test), in less time and memory.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from multitask_bert.config.schema import OptimizerConfig
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.parts import EMBEDDINGS, weight_decay_of

MOST_USED = 0.9  # share of rows in use above which nothing is gained


class UsedRows(nn.Module):
    """In the place of an `nn.Embedding` while a model is trained. In a state dict, it is that embedding.

    `used`: ids that occur in training, sorted. In training mode no other may be looked up.
    """

    def __init__(self, embedding: nn.Embedding, used: Tensor) -> None:
        super().__init__()
        table = embedding.weight.detach()
        used = used.to(table.device)
        place_of = torch.full((len(table),), -1, dtype=torch.long, device=table.device)
        place_of[used] = torch.arange(len(used), device=table.device)
        self.rows = nn.Parameter(table[used].clone())
        self.register_buffer("table", table, persistent=False)  # all rows, those in use as of the last evaluation
        self.register_buffer("used", used, persistent=False)
        self.register_buffer("place_of", place_of, persistent=False)
        self.table: Tensor
        self.used: Tensor
        self.place_of: Tensor
        self.decay = 1.0  # by what training has multiplied the other rows; the table has them as they were
        self.padding_id = embedding.padding_idx
        place = -1 if self.padding_id is None else int(place_of[self.padding_id])
        self.padding_place = place if place >= 0 else None

    def forward(self, ids: Tensor) -> Tensor:
        places = self.place_of[ids]
        if self.training:
            return nn.functional.embedding(places, self.rows, self.padding_place)
        found = nn.functional.embedding(ids, self.table, self.padding_id)
        return found if self.decay == 1.0 else found * torch.where(places < 0, self.decay, 1.0)[..., None]

    def train(self, mode: bool = True) -> UsedRows:
        if not mode:
            self._write_back()
        return super().train(mode)

    @torch.no_grad()
    def whole(self) -> Tensor:
        """The weight of the embedding as it stands, of its full size."""
        weight = self.table * self.decay
        weight[self.used] = self.rows
        return weight

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of the rows that are not in use."""
        others = self.table.detach().cpu().clone()
        others[self.used.cpu()] = 0.0
        return hashlib.sha256(others.numpy().tobytes()).hexdigest()

    @torch.no_grad()
    def _write_back(self) -> None:
        """Bring the rows in use up to date in the table."""
        self.table[self.used] = self.rows

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.whole()

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str],
        *_: Any,
    ) -> None:  # fmt: skip
        if prefix + "weight" not in state_dict:
            missing_keys.append(prefix + "weight")
            return
        with torch.no_grad():
            self.table.copy_(state_dict[prefix + "weight"])
            self.rows.copy_(self.table[self.used])
        self.decay = 1.0


@contextlib.contextmanager
def training_used_rows(encoder: Encoder, used: Tensor, optimizer: OptimizerConfig) -> Iterator[UsedRows | None]:
    """Exchange the encoder's word embedding for its rows in use; give it back in the end, with what was learnt.

    Gives None, and changes nothing, where all rows have to be trained: most are in use, or the optimizer's weight decay
    is part of the gradient (of torch's, only AdamW's is known not to be).
    """
    backbone: Any = encoder.backbone
    embedding = backbone.get_input_embeddings()
    is_plain = type(embedding) is nn.Embedding and embedding.weight.requires_grad
    keeps_the_rest = optimizer._target_ == "torch.optim.AdamW" or weight_decay_of(EMBEDDINGS, optimizer) == 0
    if not is_plain or not keeps_the_rest or len(used) > MOST_USED * embedding.num_embeddings:
        yield None
        return
    rows = UsedRows(embedding, used).train(encoder.training)
    backbone.set_input_embeddings(rows)
    try:
        yield rows
    finally:
        with torch.no_grad():
            embedding.weight.copy_(rows.whole())
        backbone.set_input_embeddings(embedding)

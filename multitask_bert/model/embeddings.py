"""Word embeddings of which only the rows that the training data uses are trained.

Half of MiniLM's weights, and two thirds of XLM-R's, are word embeddings, and most of their rows stand for tokens that
a small training set never holds. A row without a gradient stays as it is, apart from weight decay; yet with a plain
embedding it costs time at every step: its gradient is filled with zeros, its norm taken, its moments updated. Here the
used rows are a parameter of their own. The result equals that of training all rows (a test), in less time and memory.
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

MOST_USED = 0.9  # share of used rows above which nothing is gained


class UsedRows(nn.Module):
    """Replaces an `nn.Embedding` while a model is trained; its state dict is that of the embedding.

    `used`: ids that occur in training, sorted. In training mode no other may be looked up.
    """

    def __init__(self, embedding: nn.Embedding, used: Tensor) -> None:
        super().__init__()
        table = embedding.weight.detach()
        used = used.to(table.device)
        row_of = torch.full((len(table),), -1, dtype=torch.long, device=table.device)
        row_of[used] = torch.arange(len(used), device=table.device)
        self.rows = nn.Parameter(table[used].clone())
        self.register_buffer("table", table, persistent=False)  # all rows; used ones as of the last evaluation
        self.register_buffer("used", used, persistent=False)
        self.register_buffer("row_of", row_of, persistent=False)
        self.table: Tensor
        self.used: Tensor
        self.row_of: Tensor
        self.decay = 1.0  # factor that weight decay amounts to for unused rows, which the table has as they were
        self.padding_id = embedding.padding_idx
        row = -1 if self.padding_id is None else int(row_of[self.padding_id])
        self.padding_row = row if row >= 0 else None

    def forward(self, ids: Tensor) -> Tensor:
        rows = self.row_of[ids]
        if self.training:
            return nn.functional.embedding(rows, self.rows, self.padding_row)
        found = nn.functional.embedding(ids, self.table, self.padding_id)
        return found if self.decay == 1.0 else found * torch.where(rows < 0, self.decay, 1.0)[..., None]

    def train(self, mode: bool = True) -> UsedRows:
        if not mode:
            self._write_back()
        return super().train(mode)

    @torch.no_grad()
    def whole(self) -> Tensor:
        """The current weight of the whole embedding."""
        weight = self.table * self.decay
        weight[self.used] = self.rows
        return weight

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of the unused rows."""
        others = self.table.detach().cpu().clone()
        others[self.used.cpu()] = 0.0
        return hashlib.sha256(others.numpy().tobytes()).hexdigest()

    @torch.no_grad()
    def _write_back(self) -> None:
        """Copy the used rows into the table."""
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
    """Replace the encoder's word embedding by its used rows; on exit, restore it with what was learned.

    Yields None, and changes nothing, where all rows have to be trained: most are used, or the optimizer's weight decay
    is part of the gradient (of torch's optimizers, only AdamW's is known not to be).
    """
    backbone: Any = encoder.backbone
    embedding = backbone.get_input_embeddings()
    is_plain = type(embedding) is nn.Embedding and embedding.weight.requires_grad
    decay_is_separate = optimizer._target_ == "torch.optim.AdamW" or weight_decay_of(EMBEDDINGS, optimizer) == 0
    if not is_plain or not decay_is_separate or len(used) > MOST_USED * embedding.num_embeddings:
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

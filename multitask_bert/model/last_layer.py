"""The last layer of an encoder, finished only for the tokens that heads read.

A sentence's label is read from one token of it, tags from the first piece of each word. To the other tokens nobody
looks once the last attention has seen them, yet three quarters of a layer's work comes after attention. Leaving that
out changes no number that is read, and saves up to an eighth of the work of a 6-layer encoder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from torch import Tensor, nn

# Their layers end alike: a module takes what attention gives and what came in, and all that follows is token by token.
FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra")

_places: ContextVar[Tensor | None] = ContextVar("places", default=None)  # of a thread's own, as servers have several


def prepare(backbone: nn.Module) -> bool:
    """Let the last layer of a Hugging Face encoder heed `finishing`; False where it cannot."""
    config: Any = backbone.config
    if config.model_type not in FAMILIES:
        return False
    backbone.encoder.layer[-1].attention.output.register_forward_pre_hook(_choose)  # type: ignore
    return True


@contextlib.contextmanager
def finishing(place_R: Tensor) -> Iterator[None]:
    """Meanwhile the encoder gives hidden_1RH: of the tokens at these places of its B*S grid, in this order."""
    token = _places.set(place_R)
    try:
        yield
    finally:
        _places.reset(token)


def _choose(module: nn.Module, states: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    place_R = _places.get()
    if place_R is None:
        return None
    return tuple(states_BSH.flatten(0, 1).index_select(0, place_R)[None] for states_BSH in states)

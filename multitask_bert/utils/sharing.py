"""A cache of objects within one process, for the trials of a sweep; used only within `sharing()`.

Only objects whose making draws no random numbers are kept, so that a run's random numbers and scores stay the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Value = TypeVar("Value")
NUM_KEPT = 4  # per category; the least recently used is dropped first

_kept: dict[str, dict[Hashable, Any]] = {}
_is_sharing = False


@contextmanager
def sharing() -> Iterator[None]:
    """Within this context, objects made through `shared` are kept for later."""
    global _is_sharing
    before, _is_sharing = _is_sharing, True
    try:
        yield
    finally:
        _is_sharing = before


def forget() -> None:
    """Drop all kept objects."""
    _kept.clear()


def shared(
    category: str, key: Hashable, make: Callable[[], Value], *, copy: Callable[[Value], Value] | None = None
) -> Value:
    """The result of `make`, or the one that is kept under `key`, which must contain all that it depends on.

    `copy`: for an object that its user changes; None: it is never changed.
    """
    if not _is_sharing:
        return make()
    by_key = _kept.setdefault(category, {})
    if key in by_key:
        value: Value = by_key.pop(key)
        by_key[key] = value
        return copy(value) if copy else value
    before = _random_states()
    value = make()
    if _random_states() == before:
        by_key[key] = copy(value) if copy else value
        while len(by_key) > NUM_KEPT:
            del by_key[next(iter(by_key))]
    return value


def _random_states() -> tuple[Any, ...]:
    import numpy as np
    import torch

    of_numpy: Any = np.random.get_state(legacy=False)
    numbers = of_numpy["state"]["key"].tobytes(), of_numpy["state"]["pos"]
    return random.getstate(), numbers, torch.get_rng_state().numpy().tobytes()

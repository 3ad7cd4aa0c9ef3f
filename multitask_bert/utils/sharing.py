"""What one process makes once and uses again, as the trials of a sweep do. Without `sharing()` everything is made anew.

Only what draws no random numbers is kept: using it again then leaves the random numbers of a run as they would be
without, and the scores the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Value = TypeVar("Value")
NUM_KEPT = 4  # of each kind; the least used goes first

_kept: dict[str, dict[Hashable, Any]] = {}
_is_sharing = False


@contextmanager
def sharing() -> Iterator[None]:
    """What is made meanwhile through `shared` stays for the next time."""
    global _is_sharing
    before, _is_sharing = _is_sharing, True
    try:
        yield
    finally:
        _is_sharing = before


def forget() -> None:
    """Free all that is kept."""
    _kept.clear()


def shared(
    kind: str, key: Hashable, make: Callable[[], Value], *, copy: Callable[[Value], Value] | None = None
) -> Value:
    """What `make` gives, or gave under the same `key` before. `key` has all that it depends on.

    `copy`: for what its user changes; None: it stays as it is.
    """
    if not _is_sharing:
        return make()
    of_kind = _kept.setdefault(kind, {})
    if key in of_kind:
        value: Value = of_kind.pop(key)
        of_kind[key] = value
        return copy(value) if copy else value
    before = _random_states()
    value = make()
    if _random_states() == before:
        of_kind[key] = copy(value) if copy else value
        while len(of_kind) > NUM_KEPT:
            del of_kind[next(iter(of_kind))]
    return value


def _random_states() -> tuple[Any, ...]:
    import numpy as np
    import torch

    of_numpy: Any = np.random.get_state(legacy=False)
    numbers = of_numpy["state"]["key"].tobytes(), of_numpy["state"]["pos"]
    return random.getstate(), numbers, torch.get_rng_state().numpy().tobytes()

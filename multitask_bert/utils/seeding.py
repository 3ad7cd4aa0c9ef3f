"""Random generators that depend on their purpose, not on what was drawn before."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch, from which weights and dropout are drawn."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def seed_rank(seed: int, rank: int, step: int = 0) -> None:
    """Seed torch's generators, from which dropout is drawn, for one of several processes; rank 0 keeps its own."""
    if rank:
        torch.manual_seed(int(generator_for(seed, "rank", rank, step).integers(2**63)))


def generator_for(seed: int, *purpose: str | int) -> np.random.Generator:
    """A separate generator for one purpose: `generator_for(1, "shuffle", "ner", 0)` is the same in every process."""
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))

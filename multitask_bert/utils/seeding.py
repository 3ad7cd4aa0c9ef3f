"""Random states that depend on what they are for, not on what was drawn before."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch; for the draws that are made in order: weights and dropout."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def generator_for(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator of its own for one purpose: `generator_for(1, "shuffle", "ner", 0)` is the same in every process."""
    digest = hashlib.sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))

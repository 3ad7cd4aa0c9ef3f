"""Where a model runs."""

from __future__ import annotations

import torch

from multitask_bert.config import InputError


def pick_device(name: str) -> torch.device:
    """`auto`: a CUDA device if there is one, else the CPU.

    Raises:
        InputError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"trainer.device={name}: not usable here ({str(error).splitlines()[0]}); try auto or cpu"
        ) from error
    return device

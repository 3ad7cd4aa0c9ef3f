"""What makes the host wait for a GPU, counted on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

READS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)  # `.item()` is the first of them
TAKES_PLACES = (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default)


class CountReads(TorchDispatchMode):
    """How often the host asks for a value of a tensor, or how many of it are True."""

    def __init__(self) -> None:
        super().__init__()
        self.num_reads = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num_reads += func in READS
        if func in TAKES_PLACES:
            self.num_reads += any(places is not None and places.dtype == torch.bool for places in args[1])
        return func(*args, **(kwargs or {}))

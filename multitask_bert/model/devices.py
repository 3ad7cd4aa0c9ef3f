"""The device a model runs on, its memory errors, and numbers that are copied from it."""

from __future__ import annotations

import torch
from torch import Tensor

from multitask_bert.errors import InputError
from multitask_bert.utils.ranks import this_run

# In errors that are not torch's own type: those of cuBLAS, of the driver, of the CPU's allocator
OUT_OF_MEMORY = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory", "can't allocate memory")


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto`: a CUDA device if there is one, else the CPU. Each process of a machine has a
    CUDA device of its own.

    Raises:
        InputError: there is no such device.
    """
    ranks = this_run()
    if ranks.size > 1 and name in ("auto", "cuda") and torch.cuda.is_available():
        if ranks.local_size > (num_devices := torch.cuda.device_count()):
            raise InputError(
                f"{ranks.local_size} processes on a machine with {num_devices} CUDA devices: start one process per "
                f"device, or set trainer.device=cpu"
            )
        torch.cuda.set_device(ranks.local_rank)
        return torch.device("cuda", ranks.local_rank)
    if ranks.local_size > 1 and name.startswith("cuda:"):
        raise InputError(f"trainer.device={name}: one device for {ranks.local_size} processes; set auto, or cuda")
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


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that the device's memory was too small."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


class AsyncScalar:
    """A scalar that is copied from the device in the background; `get` waits for it.

    On CUDA the copy is queued here, so that reading it does not wait for what is queued later.
    """

    def __init__(self, value: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._value = value.detach()
        if value.is_cuda:
            self._value = torch.empty((), dtype=value.dtype, pin_memory=True)
            self._value.copy_(value.detach(), non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record(torch.cuda.current_stream(value.device))  # which need not be the current device

    def get(self) -> float:
        if self._event is not None:
            self._event.synchronize()
        return float(self._value.cpu().numpy())

"""The processes of one run, as torchrun or Slurm starts them: each has a rank; rank 0 writes, logs and prints.

A run of one process is rank 0 of 1. For it, everything here returns its argument at once, and torch.distributed is not
imported. Small values travel between the processes over gloo; gradients on GPUs over NCCL (docs/scaling.md).
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from multitask_bert.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")

LONGEST_WAIT = timedelta(hours=2)  # for another process, which may be reading data; one that dies is noticed at once
LONGEST_SUM = timedelta(seconds=120)  # of gradients over NCCL, which all processes begin together
SECONDS_TO_TELL = 3.0  # for a process that has met an error to say so, before another says that it is lost
VARIABLES = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
PREFIX = "multitask_bert"  # of keys in the store


class PeerLostError(InputError):
    """Another process of this run has ended, or cannot be reached."""


@dataclass(frozen=True)
class Ranks:
    """The processes of this run, as seen from one of them.

    Methods that take part in an exchange are called by all processes in the same order, and raise `PeerLostError` if
    one of them has ended.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes of this machine
    local_size: int = 1
    restart: int = 0  # how often torchrun has started the processes anew
    store: Any = None  # torch's key-value store, which all processes share

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def sums(self, numbers: Sequence[int]) -> list[int]:
        """The sum over all processes of each number."""
        return self._reduced(numbers, "SUM")

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers."""
        return self._reduced([number], "MAX")[0]

    def smallest(self, number: int) -> int:
        """The smallest of the processes' numbers."""
        return -self.largest(-number)

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        with _noticing_loss():
            dist.all_gather_object(values, value)
        return values

    def of_first(self, value: Value) -> Value:
        """The value of rank 0."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        values = [value]
        with _noticing_loss():
            dist.broadcast_object_list(values, src=0)
        return values[0]

    def gather_on_first(self, value: Value) -> list[Value]:
        """The values of all processes, by rank, on rank 0; nothing on the others."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] | None = [None] * self.size if self.is_first else None
        with _noticing_loss():
            dist.gather_object(value, values)
        return values or []

    def scatter_from_first(self, values: Sequence[Value]) -> Value:
        """The value that rank 0 has for this process in `values`, by rank; the others' `values` are not looked at."""
        if self.size == 1:
            return values[0]
        import torch.distributed as dist

        received: list[Any] = [None]
        with _noticing_loss():
            dist.scatter_object_list(received, list(values) if self.is_first else None)
        return cast(Value, received[0])

    def sum_in_place(self, tensor: Tensor) -> None:
        """Replace a tensor, which may be on a GPU, by its sum over all processes."""
        if self.size > 1:
            import torch.distributed as dist

            with _noticing_loss():
                dist.all_reduce(tensor, group=_nccl_group() if tensor.is_cuda else None)

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of rank 0."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        with _noticing_loss(), torch.no_grad():
            for tensor in tensors:
                on_cpu = tensor.detach().cpu().contiguous()
                dist.broadcast(on_cpu, src=0)
                tensor.copy_(on_cpu)

    @contextlib.contextmanager
    def one_per_machine_first(self) -> Iterator[None]:
        """Let one process of each machine through, and the others once it has left: they find what it has cached."""
        if self.local_rank > 0:
            self.sums([0])
        yield
        if self.local_rank == 0:
            self.sums([0])

    def remember(self, name: str, value: str) -> None:
        """Leave a value for the processes that torchrun starts when it starts all anew."""
        self.store.set(f"{PREFIX}/{name}", value)

    def recall(self, name: str) -> str | None:
        """What `remember` has left; None if there is nothing."""
        key = f"{PREFIX}/{name}"
        return self.store.get(key).decode() if self.store.check([key]) else None

    def may_tell(self, error: BaseException | None = None, text: str = "") -> bool:
        """Whether this process is the one that tells the user why the run ends (`text`): the first that asks.

        Others than rank 0, and longer one that has only lost another, wait for a moment: rank 0 knows the files, and
        the one that is lost may have more to say.
        """
        if self.size == 1:
            return True
        try:
            seconds = SECONDS_TO_TELL if isinstance(error, PeerLostError) else 0.0 if self.is_first else 1.0
            if self.told(seconds) is not None:
                return False
            mine = f"rank {self.rank}: {text}"
            return bool(self.store.compare_set(self._told, "", mine).decode() == mine)
        except RuntimeError:  # the process that held the store has ended
            return self.is_first or isinstance(error, PeerLostError)

    def told(self, seconds: float = SECONDS_TO_TELL) -> str | None:
        """What the process that tells has told, with its rank; None if none does within so many seconds. For a process
        that ends."""
        _ignore_sigterm()
        end = time.monotonic() + seconds
        while not self.store.check([self._told]):
            if time.monotonic() >= end:
                return None
            time.sleep(0.2)
        return str(self.store.get(self._told).decode())

    @property
    def _told(self) -> str:
        return f"{PREFIX}/told/{self.restart}"

    def _reduced(self, numbers: Sequence[int], how: str) -> list[int]:
        if self.size == 1:
            return list(numbers)
        import torch
        import torch.distributed as dist

        reduced = torch.tensor(numbers, dtype=torch.int64)
        with _noticing_loss():
            dist.all_reduce(reduced, getattr(dist.ReduceOp, how))
        return [int(number) for number in reduced.tolist()]


def are_several() -> bool:
    """Whether this is one of several processes of a run. Slurm's variables are not looked at: its tasks may be runs of
    their own."""
    size = os.environ.get("WORLD_SIZE", "")
    return size.isdecimal() and int(size) > 1


def num_processes_of_job(launcher: Mapping[str, Any]) -> int:
    """The number of processes in which a launcher of Hydra, with these settings, starts each job."""
    return int(launcher.get("tasks_per_node") or 1) * int(launcher.get("nodes") or 1)


def join_job() -> Ranks:
    """Make this process, which submitit has started for a job, one of the processes of a run.

    Raises:
        InputError: as `this_run`.
    """
    from submitit.helpers import TorchDistributedEnvironment

    TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    return this_run()


@functools.cache
def this_run() -> Ranks:
    """The processes of this run; the first call waits until all of them are there.

    Raises:
        InputError: the environment is not complete, or a process does not come.
    """
    if not are_several():
        return Ranks()
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise InputError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: several processes, but {', '.join(missing)} is not set; start "
            f"them with torchrun, or as docs/scaling.md says, or unset WORLD_SIZE"
        )
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    size, rank = int(os.environ["WORLD_SIZE"]), int(os.environ["RANK"])
    restart = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    try:
        store, _, _ = next(iter(rendezvous("env://", timeout=timedelta(minutes=5))))
        own = PrefixStore(f"{PREFIX}/{restart}", store)
        dist.init_process_group("gloo", store=own, rank=rank, world_size=size, timeout=LONGEST_WAIT)
        atexit.register(dist.destroy_process_group)  # without it, threads of gloo may abort a process that ends
    except (RuntimeError, ValueError) as error:
        address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise InputError(f"rank {rank} of {size}: the processes cannot meet at {address} ({error})") from error
    local_rank, local_size = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    return Ranks(rank, size, local_rank, local_size, restart, store)


@functools.cache
def _nccl_group() -> Any:
    import torch.distributed as dist

    return dist.new_group(backend="nccl", timeout=LONGEST_SUM)


@contextlib.contextmanager
def _noticing_loss() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        _ignore_sigterm()
        raise PeerLostError(
            "another process of this run has ended without a word (killed, or its machine is out of memory?), so all "
            f"of them end; resume a training from its last checkpoint, and start anything else again "
            f"({str(error).splitlines()[0]})"
        ) from error


def _ignore_sigterm() -> None:
    """Ignore SIGTERM in a process that ends anyway: torchrun sends it once another has ended, and kills later."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

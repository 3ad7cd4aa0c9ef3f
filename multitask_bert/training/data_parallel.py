"""A step that several processes make together: each runs its share of the examples, and all sum what they found.

The sums are those that a single process forms over its micro-batches, so the update is the same (docs/decisions/0013).
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from multitask_bert.data.streaming import TrainingStream
from multitask_bert.errors import InputError
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.utils.ranks import Ranks

log = logging.getLogger(__name__)

HeadKey = tuple[str, str]  # task and head

NUMBERS_PER_SUM = 2**24  # of gradients that are summed at once: 64 MB


def sum_counts(
    ranks: Ranks, model: MultiTaskModel, counts: Mapping[HeadKey, int], *others: int
) -> tuple[dict[HeadKey, int], list[int]]:
    """The counts of known targets over all processes, by the heads that any of them has examples of; and the sums of
    other numbers."""
    keys = [(task, name) for task, heads in model.heads.items() for name in heads]
    sums = ranks.sums([*(int(key in counts) for key in keys), *(counts.get(key, 0) for key in keys), *others])
    return {key: sums[len(keys) + n] for n, key in enumerate(keys) if sums[n]}, sums[2 * len(keys) :]


def sum_losses(ranks: Ranks, total: Tensor, by_head: Mapping[HeadKey, Tensor], keys: Sequence[HeadKey]) -> Tensor:
    """The losses of a step over all processes: first the total, then those of the heads `keys`."""
    zero = torch.zeros_like(total)
    losses = torch.stack([total, *(by_head.get(key, zero) for key in keys)])
    ranks.sum_in_place(losses)
    return losses


def sum_gradients(ranks: Ranks, weights: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by its sum over all processes.

    A weight without a gradient on any process stays without one, so that the optimizer leaves it alone.
    """
    numbers_with = ranks.sums([int(weight.grad is not None) for weight in weights])
    shared = [weight for weight, number in zip(weights, numbers_with, strict=True) if number]
    for bucket in _buckets(shared):
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in bucket]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        ranks.sum_in_place(flat)
        parts = torch.split_with_sizes(flat, [weight.numel() for weight in bucket])
        for weight, part in zip(bucket, parts, strict=True):
            weight.grad = part.view_as(weight)


def _buckets(weights: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    bucket: list[nn.Parameter] = []
    for weight in weights:
        if bucket and sum(other.numel() for other in bucket) + weight.numel() > NUMBERS_PER_SUM:
            yield bucket
            bucket = []
        bucket.append(weight)
    if bucket:
        yield bucket


def check_processes_agree(ranks: Ranks, model: MultiTaskModel, stream: TrainingStream) -> None:
    """Check that all processes begin with the same weights and examples, and that there is work for each.

    Raises:
        InputError: they do not, or no step has as many examples as there are processes.
    """
    if ranks.size == 1:
        return
    num_workers, num_cores = stream.num_workers * ranks.local_size, os.cpu_count() or 1
    if num_workers + ranks.local_size > num_cores and stream.num_workers:
        log.warning(
            "batching.num_workers=%d: %d processes on this machine have %d workers, on %d cores; set it to 0, or start "
            "fewer processes", stream.num_workers, ranks.local_size, num_workers, num_cores,
        )  # fmt: skip
    most = max(sum(map(len, step.values())) for step in stream.plan(0))
    if most < ranks.size:
        raise InputError(
            f"{ranks.size} processes, but no step has more than {most} examples; set a larger batching.batch_size, or "
            f"start fewer processes"
        )
    sums = [float(weight.detach().double().sum()) for weight in model.parameters()]
    weights = hashlib.sha256(repr(sums).encode()).hexdigest()
    found = ranks.gather({"data": stream.fingerprint(), "initial weights": weights})
    for rank, of_rank in enumerate(found):
        for what, value in of_rank.items():
            if value != found[0][what]:
                raise InputError(
                    f"rank {rank} has other {what} than rank 0; all processes need the same files (data_root, "
                    f"model.pretrained) and the same version of each package"
                )

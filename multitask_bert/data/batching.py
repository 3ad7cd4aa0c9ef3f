"""Step 4 of the flow: which encoded examples share a batch, a pure function of seed, task and epoch.

How a batch becomes tensors: collation.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from multitask_bert.config.schema import BatchingConfig
from multitask_bert.utils.seeding import generator_for


def plan_batches(
    lengths: Sequence[int], batching: BatchingConfig, *, purpose: tuple[str | int, ...], seed: int
) -> list[list[int]]:
    """Indices of every training batch of one pass: each example once, in a fresh random order.

    Within each `sort_window` batches of examples, those of similar length share a batch, so that there is little
    padding; the batches are then shuffled. `sort_window=1` is a plain shuffle. With `max_tokens`, a batch ends where
    the next example would make it larger than that, padding included.
    """
    generator = generator_for(seed, "batches", *purpose)
    order = generator.permutation(len(lengths))
    size = batching.batch_size
    batches: list[list[int]] = []
    for start in range(0, len(order), size * batching.sort_window):
        sorted_together = order[start : start + size * batching.sort_window]
        if batching.sort_window > 1:
            sorted_together = sorted_together[np.argsort(np.asarray(lengths)[sorted_together], kind="stable")]
        batches += _batches_in_order(sorted_together.tolist(), lengths, size, batching.max_tokens)
    return [batches[index] for index in generator.permutation(len(batches))]


def split_step(
    step: Mapping[str, Sequence[int]], lengths: Mapping[str, Sequence[int]], num_parts: int
) -> list[dict[str, list[int]]]:
    """Split a step, indices by task, into parts of about as many tokens each, for as many processes.

    The longest example goes first, each to the part with the fewest tokens so far. A part keeps the order of the step;
    it may have no example of a task, or none at all.
    """
    examples = [(task, index) for task, indices in step.items() for index in indices]
    num_tokens = [0] * num_parts
    parts: list[list[int]] = [[] for _ in range(num_parts)]  # offsets into `examples`
    for offset in sorted(range(len(examples)), key=lambda one: -lengths[examples[one][0]][examples[one][1]]):
        task, index = examples[offset]
        part = num_tokens.index(min(num_tokens))
        num_tokens[part] += lengths[task][index]
        parts[part].append(offset)
    found: list[dict[str, list[int]]] = [{} for _ in range(num_parts)]
    for part, offsets in enumerate(parts):
        for offset in sorted(offsets):
            task, index = examples[offset]
            found[part].setdefault(task, []).append(index)
    return found


def plan_evaluation(lengths: Sequence[int], batch_size: int, max_tokens: int | None = None) -> list[list[int]]:
    """Indices of every evaluation batch, longest first, so that running out of memory shows at once.

    `max_tokens`: of a batch, padding included, unless a single example is longer.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable").tolist()
    return list(_batches_in_order(order, lengths, batch_size, max_tokens))


def _batches_in_order(
    order: Sequence[int], lengths: Sequence[int], size: int, max_tokens: int | None
) -> Iterator[list[int]]:
    """Batches of `size`, or of fewer (but one at least) where they would exceed `max_tokens` with padding."""
    batch: list[int] = []
    longest = 0
    for index in order:
        longest = max(longest, lengths[index])
        is_full = max_tokens is not None and longest * (len(batch) + 1) > max_tokens
        if batch and (is_full or len(batch) == size):
            yield batch
            batch, longest = [], lengths[index]
        batch.append(index)
    if batch:
        yield batch

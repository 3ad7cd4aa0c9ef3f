"""Predictions that several processes make together: rank 0 reads and writes, and each round gives each a buffer.

The buffers, and so the batches, are those of a single process, which predicts the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator
from typing import Any

from multitask_bert.inference.inputs import Input
from multitask_bert.inference.predictor import Predictor
from multitask_bert.utils.ranks import Ranks


def predict_on_first(
    predictor: Predictor, inputs: Iterator[Input], ranks: Ranks
) -> Generator[dict[str, Any], None, None]:
    """As `Predictor.predict`, on rank 0, while the others are in `predict_for_first`.

    Closing the iterator ends the others, too.
    """
    tasks = predictor.tasks
    buffers = predictor.read_ahead(inputs, tasks)
    failure: Exception | None = None
    try:
        while read := list(itertools.islice(buffers, ranks.size)):
            _, failure = read[-1]
            own = ranks.scatter_from_first([buffer for buffer, _ in read] + [[]] * (ranks.size - len(read)))
            for share in ranks.gather_on_first(predictor.predict_buffer(own, tasks)):
                yield from share
    except GeneratorExit:
        _end_others(ranks)
        raise
    _end_others(ranks)
    if failure is not None:
        raise failure


def predict_for_first(predictor: Predictor, ranks: Ranks) -> None:
    """Predict for the buffers that rank 0 gives to this process, until it has no more."""
    buffer: list[Input] | None
    while (buffer := ranks.scatter_from_first([])) is not None:
        ranks.gather_on_first(predictor.predict_buffer(buffer, predictor.tasks))


def _end_others(ranks: Ranks) -> None:
    ranks.scatter_from_first([None] * ranks.size)

"""Step 2 of the flow, with `batching.windows`: a text of more than `max_length` tokens in overlapping windows.

The windows are the sequences of one encoded example, as the texts of an example with choices are. So a long text stays
one example for batches, losses and scores: each of its words has one target, and the text's labels are learned once.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

from multitask_bert.records import Tokens

LEAST_NEW = 8  # beside a second text, a window has at least this part of its room for tokens not in the one before


class _Windows(NamedTuple):
    """Which tokens of a text are in which window: `size` of them from each of `starts` on."""

    starts: Sequence[int]
    size: int

    def best_for(self) -> Callable[[int], int]:
        """A function that gives the window in which a token has the most context; of equals, the first.

        The context of a token is the smaller of the numbers of tokens before and after it in the window, as in
        `_check_is_max_context` of BERT's `run_squad.py` (Devlin et al. 2019). All windows are of one size, so that is
        the window whose middle is nearest.
        """
        borders = [start + next_start + self.size - 1 for start, next_start in itertools.pairwise(self.starts)]
        return lambda index: bisect_left(borders, 2 * index)


def in_windows(tokens: Tokens, max_length: int, stride: int) -> tuple[Tokens, bool]:
    """A text's tokens, special ones included, as windows of `max_length` tokens of which two neighbours share `stride`
    or more, and whether the text was truncated all the same.

    Each word's start is in the window where it has the most context. Of two texts, the longer one is in windows, each
    with the whole other text beside it; only where that leaves too little room is the other one truncated.
    """
    first, second = _range_of(tokens, is_second=False), _range_of(tokens, is_second=True)
    longer, other = (first, second) if len(first) >= len(second) else (second, first)
    room = max_length - (len(tokens.input_ids) - len(first) - len(second))
    kept = other[: max(0, room - stride - max(1, room // LEAST_NEW))]
    dropped = other[len(kept) :]
    before = [index for index in range(longer.start) if index not in dropped]
    after = [index for index in range(longer.stop, len(tokens.input_ids)) if index not in dropped]
    windows = _plan(len(longer), room - len(kept), stride)
    by_window = [[*before, *longer[start : start + windows.size], *after] for start in windows.starts]
    sequence_starts = tuple(itertools.accumulate(map(len, by_window[:-1]), initial=0))
    beside = {index: new for new, index in enumerate(by_window[0]) if index not in longer}
    best_for = windows.best_for()

    def moved(start: int) -> int:
        if start not in longer:
            return beside.get(start, -1) if start >= 0 else start
        window = best_for(start - longer.start)
        return sequence_starts[window] + len(before) + start - longer.start - windows.starts[window]

    in_order = list(itertools.chain.from_iterable(by_window))
    joined = Tokens(
        input_ids=tuple(tokens.input_ids[index] for index in in_order),
        token_type_ids=tuple(tokens.token_type_ids[index] for index in in_order),
        offsets=tuple(tokens.offsets[index] for index in in_order),
        is_second_text=tuple(tokens.is_second_text[index] for index in in_order),
        word_starts=tuple(map(moved, tokens.word_starts)),
        sequence_starts=sequence_starts,
    )
    return joined, bool(dropped)


def _range_of(tokens: Tokens, *, is_second: bool) -> range:
    """The indices of one text's tokens; special ones are around it."""
    own = [
        index
        for index, (offset, second) in enumerate(zip(tokens.offsets, tokens.is_second_text, strict=True))
        if offset != (-1, -1) and second == is_second
    ]
    return range(own[0], own[-1] + 1) if own else range(0)


def _plan(num_tokens: int, size: int, stride: int) -> _Windows:
    """As few windows as cover the text, spread evenly: all are full, so that none is padded or has little context."""
    if num_tokens <= size:
        return _Windows([0], num_tokens)
    last = num_tokens - size
    number = math.ceil(last / (size - stride))
    return _Windows([last * window // number for window in range(number + 1)], size)

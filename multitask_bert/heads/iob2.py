"""Tags that mark entities: the schemes of files are checked and converted to IOB2; decoding can be bound to IOB2.

IOB1: I-X is an entity's word, B-X only where it touches an entity of the same type before it. IOB2: B-X begins every
entity. BIOES: E-X ends it, and S-X is an entity of one word (also read: BILOU's L-X and U-X, BMES's M-X). A tag
without a type (B, I) is of the type ENTITY.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OUTSIDE = "O"
UNTYPED = "ENTITY"  # the type of entities whose tags name none
TAGS = {
    "iob2": (re.compile(r"O|[BI](-.+)?"), "O, B-X or I-X"),
    "iob1": (re.compile(r"O|[BI](-.+)?"), "O, B-X or I-X"),
    "bioes": (re.compile(r"O|[BIMELSU](-.+)?"), "O, B-X, I-X, E-X or S-X"),
}
SPELLINGS = {"L": "E", "U": "S", "M": "I"}


class TagError(ValueError):
    """A tag that its scheme does not allow, or not after the one before; `index` is that of the word."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


def to_iob2(tags: Sequence[str], scheme: str) -> tuple[str, ...]:
    """The same entities in IOB2. An orphan I-X of an IOB2 file stays: data sets have them, and scores name their mode.

    Raises:
        TagError: a tag is not of the scheme, or (BIOES) an entity is not begun or not ended.
    """
    pattern, expected = TAGS[scheme]
    for index, tag in enumerate(tags):
        if not pattern.fullmatch(tag):
            raise TagError(index, f"tag '{tag}' is not {scheme.upper()} (expected {expected})")
    tags = [f"{tag}-{UNTYPED}" if len(tag) == 1 and tag != OUTSIDE else tag for tag in tags]
    if scheme == "iob1":
        return _from_iob1(tags)
    return _from_bioes(tags) if scheme == "bioes" else tuple(tags)


def may_follow(before: str | None, tag: str) -> bool:
    """Whether IOB2 allows `tag` after `before` (None: at the start): I-X only after B-X or I-X."""
    return not tag.startswith("I-") or (before is not None and before != OUTSIDE and before[2:] == tag[2:])


def best_valid_sequence(scores_WL: NDArray[np.float64], names: Sequence[str]) -> list[int]:
    """The valid IOB2 sequence with the highest sum of scores, as ids of `names` (Viterbi 1967)."""
    import numpy as np

    forbidden = -np.inf
    starts_L = np.array([0.0 if may_follow(None, tag) else forbidden for tag in names])
    step_LL = np.array([[0.0 if may_follow(before, tag) else forbidden for tag in names] for before in names])
    if not len(scores_WL):
        return []
    best_L = starts_L + scores_WL[0]
    came_from = []
    for scores_L in scores_WL[1:]:
        through_LL = best_L[:, None] + step_LL
        came_from.append(through_LL.argmax(axis=0))
        best_L = through_LL.max(axis=0) + scores_L
    path = [int(best_L.argmax())]
    for previous_L in reversed(came_from):
        path.append(int(previous_L[path[-1]]))
    return path[::-1]


def _from_iob1(tags: Sequence[str]) -> tuple[str, ...]:
    before = [OUTSIDE, *tags]
    return tuple(
        f"B-{tag[2:]}" if tag.startswith("I-") and previous[1:] != tag[1:] else tag
        for previous, tag in zip(before, tags, strict=False)
    )


def _from_bioes(tags: Sequence[str]) -> tuple[str, ...]:
    converted = []
    open_type: str | None = None  # of the entity that has begun and not ended
    for index, tag in enumerate(tags):
        prefix, name = SPELLINGS.get(tag[0], tag[0]), tag[2:]
        if prefix in "IE" and name != open_type:
            raise TagError(index, f"tag '{tag}' continues an entity that no B-{name} began")
        if prefix in "OBS" and open_type is not None:
            raise TagError(
                index, f"tag '{tag}' stands where an entity of type {open_type} has not ended (E-{open_type})"
            )
        open_type = name if prefix in "BI" else None
        converted.append(OUTSIDE if prefix == "O" else f"{'B' if prefix in 'BS' else 'I'}-{name}")
    if open_type is not None:
        raise TagError(len(tags) - 1, f"tag '{tags[-1]}' leaves an entity of type {open_type} without its end")
    return tuple(converted)

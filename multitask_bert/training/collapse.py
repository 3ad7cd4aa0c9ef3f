"""Heads that have learned nothing: they give every example the same answer, or know only the label frequencies.

Fine-tuning on a small data set sometimes fails like that, from a bad start or too high a rate early on; another seed, a
longer warmup or more steps help (Mosbach et al. 2021, "On the Stability of Fine-tuning BERT", arXiv 2006.04884).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from multitask_bert.heads import Head
from multitask_bert.records import Prediction

FEWEST_EXAMPLES = 10  # with a label; with fewer, one answer for all may be right
WAY_OUT = "a longer scheduler.warmup_ratio, a lower optimizer.lr, more epochs or another seed may help"


def collapse_of(
    head: Head,
    golds: Sequence[Any],
    predictions: Sequence[Prediction],
    *,
    score: float,
    loss: float,
    frequency_loss: float | None,
) -> str | None:
    """In what way a head has learned nothing, as the predicate of a sentence; None if it has learned something.

    `score`: the head's headline. `loss`, `frequency_loss`: mean per target, of the head and of its label frequencies
    in train. A loss above the latter is no sign by itself, since confident heads that score well have it too: the
    score, too, must be no better than that of one answer for all.
    """
    known = [(gold, found) for gold, found in zip(golds, predictions, strict=True) if gold is not None]
    if len(known) < FEWEST_EXAMPLES:
        return None
    answers = {answer for _, found in known for answer in head.answers_in(found)}
    if len(answers) == 1:
        (answer,) = answers
        is_right_to = all(head.is_right(gold, head.always(answer, gold)) for gold, _ in known)
        return None if is_right_to else f"answers {_shown(answer)} to everything"
    logits = head.frequency_logits()
    if logits is None or frequency_loss is None or not loss >= frequency_loss:
        return None
    frequent = head.labels.names[max(range(len(logits)), key=logits.__getitem__)]
    metric, of_one_answer = next(iter(head.score(golds, [head.always(frequent, gold or ()) for gold in golds]).items()))
    if score > of_one_answer:
        return None
    return (
        f"knows no more than the label frequencies (loss {loss:.3f}, theirs {frequency_loss:.3f}; {metric} not above "
        f"{of_one_answer:.3f}, that of always answering {_shown(frequent)})"
    )


def _shown(answer: Hashable) -> str:
    return repr(answer) if answer not in ("", ()) else "nothing"

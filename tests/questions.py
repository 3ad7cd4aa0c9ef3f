"""Questions about contexts, as the tests of `span` ask them."""

from __future__ import annotations

from typing import Any

import numpy as np

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.heads.span import SpanHead
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample, Example

ALWAYS, SOMETIMES = LabelSet(("answer",)), LabelSet(("answer", "no answer"))
CONTEXT = "Amina was born in Arusha in 1990. Juma was born in Dar-es-Salaam."
QUESTION = "Where was Amina born?"
LONG = " ".join(f"Siku ya {number} ilikuwa njema." for number in range(40)) + " Amina alizaliwa Arusha mjini."
ONE = (("Arusha", 18),)


def head_with(labels: LabelSet = ALWAYS, **options: Any) -> SpanHead:
    return SpanHead(HeadConfig("span", **options), labels)


def windows_of(tokenizer: Any, value: Any, context: str = CONTEXT, **options: Any) -> list[EncodedExample]:
    """A question about a context, in windows of `max_length` pieces."""
    max_length = options.pop("max_length", 64)
    example = Example("squad.json:1", QUESTION, {"h": value}, text_pair=context)
    return encode_examples([example], {"h": head_with(**{"stride": 16, **options})}, tokenizer, max_length=max_length)


def marked_text(window: EncodedExample) -> str | None:
    """The text that the target marks: empty for "no answer here", None if it is unknown."""
    target = window.targets["h"]
    values = np.array(target.values)
    if np.isnan(values).all():
        assert target.num_known == 0
        return None
    assert target.num_known == 1
    assert values.sum(axis=0).tolist() == [1.0, 1.0]
    first, last = (target.token_indices[int(place)] for place in values.argmax(axis=0))
    if (first, last) == (0, 0):
        return ""
    assert window.example.text_pair is not None
    return window.example.text_pair[window.offsets[first][0] : window.offsets[last][1]]

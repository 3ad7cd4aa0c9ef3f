"""The label set of a shared head is the one that its type collects from all its training sets together."""

from __future__ import annotations

from typing import Any

import pytest

from multitask_bert.config.schema import HeadConfig
from multitask_bert.heads import head_type

ANSWER = (("Asha", 0),)


@pytest.mark.parametrize(
    ("config", "one", "other"),
    [
        (HeadConfig("classification"), ["good", "bad", "good"], ["so-so", "bad", None]),
        (HeadConfig("classification"), ["1.0", "2.0"], ["1", "3"]),
        (HeadConfig("classification", labels=["so-so", "good", "bad"]), ["good"], ["bad", "so-so"]),
        (HeadConfig("tagging"), [("B-PER", "O")], [("B-DATE", "I-DATE"), ("I-PER",)]),
        (HeadConfig("tagging", labels=["PER", "DATE"]), [("B-PER", "O")], [("B-DATE", "I-DATE")]),
        (HeadConfig("tagging", scheme="plain"), [("VERB", "NOUN")], [("ADP", "NOUN")]),
        (HeadConfig("multilabel"), [{"joy": True, "fear": True}], [{"anger": True, "joy": True}, None]),
        (HeadConfig("multilabel", columns=["joy", "anger"]), [{"joy": True, "anger": False}], [{"joy": None}]),
        (HeadConfig("span"), [ANSWER], [(), ANSWER]),
        (HeadConfig("regression"), [1.0], [2.0]),
        (HeadConfig("choice"), ["0"], ["1"]),
    ],
)
@pytest.mark.parametrize("is_turned", [False, True])
def test_joined_labels_are_those_of_all_examples_together(
    config: HeadConfig, one: list[Any], other: list[Any], is_turned: bool
) -> None:
    found = head_type(config.type)
    sets = [found.collect(config, values) for values in ((other, one) if is_turned else (one, other))]
    joined, together = found.join_labels(sets), found.collect(config, [*one, *other])
    assert joined.names == together.names
    assert joined.counts == together.counts

"""Labels that are accepted, but look as if something else was meant: told, once, with the way out."""

from __future__ import annotations

import logging

import pytest

from multitask_bert.config import HeadConfig
from multitask_bert.heads import parse_label
from multitask_bert.heads.multilabel import MultilabelHead
from multitask_bert.heads.tagging import TaggingHead


@pytest.mark.parametrize("labels", [{}, {"labels": ["joy|fear", "joy"]}, {"separator": "|"}])
def test_another_separator_in_labels_is_told(labels: dict[str, object], caplog: pytest.LogCaptureFixture) -> None:
    config = HeadConfig("multilabel", column="felt", **labels)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        MultilabelHead.collect(config, [MultilabelHead.parse(config, raw, "f:1") for raw in ("joy|fear", "joy")])
    assert ("the label 'joy|fear' holds a '|'" in caplog.text and "set `separator: '|'`" in caplog.text) == (not labels)


@pytest.mark.parametrize(("tags", "is_told"), [
    (("I-PER", "O", "I-LOC", "I-LOC", "O", "I-PER"), True),
    (("B-PER", "O", "B-LOC", "I-LOC", "O", "I-PER"), False),
    (("O",), False),
])  # fmt: skip
def test_a_file_that_looks_like_iob1_is_told(
    tags: tuple[str, ...], is_told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        TaggingHead.collect(HeadConfig("tagging"), [tags])
    assert ("3 of 3 entities in train begin with I-: if the file is IOB1, set `scheme: iob1`" in caplog.text) == is_told


@pytest.mark.parametrize("raw", ["ma\u0301s", ("ma\u0301s", "no")])
def test_labels_that_look_the_same_are_the_same(raw: object) -> None:
    kind = "tagging" if isinstance(raw, tuple) else "classification"
    config = HeadConfig(kind, scheme="plain") if kind == "tagging" else HeadConfig(kind)
    assert parse_label(config, raw, "f:1") == ("m\u00e1s" if kind == "classification" else ("m\u00e1s", "no"))

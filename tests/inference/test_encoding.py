"""Inputs beside training data: the same pieces, words at their places in the text that was given."""

from __future__ import annotations

from typing import Any

import pytest

from multitask_bert.config import HeadConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.heads import Head, make_head
from multitask_bert.inference.encoding import encode_inputs
from multitask_bert.inference.inputs import read_input
from multitask_bert.labels import LabelSet
from multitask_bert.records import Example

MOOD = make_head(HeadConfig("classification"), LabelSet(("bad", "good")))
TAGS = make_head(HeadConfig("tagging"), LabelSet(("O", "B-PER", "I-PER")))


@pytest.mark.parametrize("heads", [{"a/b": MOOD}, {"a/b": MOOD, "c/d": TAGS}])
@pytest.mark.parametrize("text", ["Amina, Juma", "  Amina, Juma \n", "Zoe\u0301  (na) 😀"])
def test_pieces_are_those_of_a_training_text(tokenizer: Any, text: str, heads: dict[str, Head]) -> None:
    item = read_input(text, "here")
    ((found,),) = encode_inputs("text", [item], heads, tokenizer, max_length=32)
    (expected,) = encode_examples([Example("here", text.strip(), {})], {"b": MOOD}, tokenizer, max_length=32)
    assert found.input_ids == expected.input_ids
    assert found.targets.keys() == heads.keys()
    assert found.example.text == text


def test_words_cut_from_a_text_are_where_their_places_say(tokenizer: Any) -> None:
    item = read_input("  Amina,  Juma ", "here")
    ((found,),) = encode_inputs("text", [item], {"c/d": TAGS}, tokenizer, max_length=32)
    example = found.example
    assert example.words == ("Amina", ",", "Juma")
    assert example.word_offsets is not None
    assert [example.text[begin:end] for begin, end in example.word_offsets] == ["Amina", ",", "Juma"]
    pieces = tokenizer.convert_ids_to_tokens(found.input_ids)
    assert [pieces[start] for start in found.word_starts] == ["amin", ",", "ju"]

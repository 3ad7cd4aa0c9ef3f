"""Inputs beside training data: the same tokens, words at their places in the text that was given."""

from __future__ import annotations

from typing import Any

import pytest

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.heads import Head, make_head
from multitask_bert.inference.encoding import encode_as_trained, encode_inputs
from multitask_bert.inference.inputs import read_input
from multitask_bert.labels import LabelSet
from multitask_bert.records import Example

MOOD = make_head(HeadConfig("classification"), LabelSet(("bad", "good")))
TAGS = make_head(HeadConfig("tagging"), LabelSet(("O", "B-PER", "I-PER")))


@pytest.mark.parametrize("heads", [{"a/b": MOOD}, {"a/b": MOOD, "c/d": TAGS}])
@pytest.mark.parametrize("text", ["Amina, Juma", "  Amina, Juma \n", "Zoe\u0301  (na) 😀"])
def test_inputs_have_the_tokens_of_a_training_text(tokenizer: Any, text: str, heads: dict[str, Head]) -> None:
    item = read_input(text, "here")
    ((found,),) = encode_inputs("text", [item], heads, tokenizer, max_length=32)
    (expected,) = encode_examples([Example("here", text.strip(), {})], {"b": MOOD}, tokenizer, max_length=32)
    assert found.input_ids == expected.input_ids
    assert found.targets.keys() == heads.keys()
    assert found.example.text == text


def test_words_split_from_a_text_have_their_offsets(tokenizer: Any) -> None:
    item = read_input("  Amina,  Juma ", "here")
    ((found,),) = encode_inputs("text", [item], {"c/d": TAGS}, tokenizer, max_length=32)
    example = found.example
    assert example.words == ("Amina", ",", "Juma")
    assert example.word_offsets is not None
    assert [example.text[begin:end] for begin, end in example.word_offsets] == ["Amina", ",", "Juma"]
    tokens = tokenizer.convert_ids_to_tokens(found.input_ids)
    assert [tokens[start] for start in found.word_starts] == ["amin", ",", "ju"]


@pytest.mark.parametrize(("text", "num_groups"), [("Amina, Juma", 1), ("Amina \u200b Juma", 2), ("Amina [UNK]", 1)])
def test_a_word_without_tokens_is_replaced_for_tasks_with_heads_over_words_only(
    tokenizer: Any, text: str, num_groups: int
) -> None:
    heads = {"moods/mood": MOOD, "slots/tags": TAGS, "slots/intent": MOOD}
    (groups,) = encode_as_trained("text", [read_input(text, "here")], heads, tokenizer, max_length=32)
    found = {name: window.input_ids for (window,) in groups for name in window.targets}
    plain, words = (
        encode_inputs("text", [read_input(text, "here")], some, tokenizer, max_length=32)[0][0].input_ids
        for some in ({"moods/mood": MOOD}, {"slots/tags": TAGS})
    )
    assert len(groups) == num_groups
    assert found == {"moods/mood": plain, "slots/tags": words, "slots/intent": words}


def test_a_context_is_read_in_windows_of_the_stride_of_each_task(tokenizer: Any) -> None:
    heads = {f"t{n}/h": make_head(HeadConfig("span", stride=n), LabelSet(("answer",))) for n in (2, 5)}
    item = read_input({"question": "nani?", "context": "Amina na Juma " * 9}, "here")
    (groups,) = encode_as_trained("question", [item], heads, tokenizer, max_length=16)
    for windows, (name, head) in zip(groups, heads.items(), strict=True):
        ((*alone,),) = encode_inputs("question", [item], {name: head}, tokenizer, max_length=16)
        assert [window.input_ids for window in windows] == [window.input_ids for window in alone]
    assert len(groups[0]) < len(groups[1])

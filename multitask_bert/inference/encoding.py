"""Inputs become word pieces, once for all heads of all tasks that read them, on the way that training data takes.

Names of heads are `task/head` here: a name may not hold a `/`, so the two come apart again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from multitask_bert.data.batching import group_windows
from multitask_bert.data.encoding import encode_examples
from multitask_bert.data.words import cut_words
from multitask_bert.heads import Head
from multitask_bert.inference.inputs import Input
from multitask_bert.records import EncodedExample, Example


def encode_inputs(
    kind: str, inputs: Sequence[Input], heads: Mapping[str, Head], tokenizer: Any, *, max_length: int
) -> list[list[EncodedExample]]:
    """For every input, all of one kind, its windows (one, but for long contexts of a question)."""
    need_words = any(head.reads_words for head in heads.values())
    given = [replace(item.example) for item in inputs]  # copies, so that one given twice is two
    if kind == "text":
        given = [_with_words(example) if need_words else example for example in given]
    if kind == "text":
        read = [one if item.is_exact else _stripped(one) for item, one in zip(inputs, given, strict=True)]
    else:
        read = given
    encoded = encode_examples(read, heads, tokenizer, max_length=max_length)
    return [
        [replace(window, example=example) for window in windows]
        for example, windows in zip(given, group_windows(encoded), strict=True)
    ]


def _with_words(example: Example) -> Example:
    places = tuple(cut_words(example.text))
    return replace(example, words=tuple(example.text[begin:end] for begin, end in places), word_offsets=places)


def _stripped(example: Example) -> Example:
    """Without white space at both ends, as readers of tables leave texts; RoBERTa's pieces depend on it."""
    margin = len(example.text) - len(example.text.lstrip())
    places = example.word_offsets
    moved = None if places is None else tuple((begin - margin, end - margin) for begin, end in places)
    return replace(example, text=example.text.strip(), word_offsets=moved)

"""Inputs become word pieces, once for all heads of all tasks that read them, on the way that training data takes.

Names of heads are `task/head` here: a name may not hold a `/`, so the two come apart again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from multitask_bert.data.batching import group_windows
from multitask_bert.data.encoding import encode_examples, stride_of
from multitask_bert.data.words import cut_words
from multitask_bert.heads import Head
from multitask_bert.inference.inputs import Input
from multitask_bert.records import EncodedExample, Example


def encode_as_trained(
    kind: str, inputs: Sequence[Input], heads: Mapping[str, Head], tokenizer: Any, *, max_length: int
) -> list[list[list[EncodedExample]]]:
    """For every input, its windows in groups: one for the heads of all tasks that read it alike, which is nearly always
    all of them, so that it goes through the encoder once.

    Contexts are read in windows of each task's own stride. A text with a word for which the tokenizer has no piece (a
    lone accent, a zero-width space) has the unknown piece there for tasks with heads over words, and none for others.
    """
    by_stride: dict[int | None, dict[str, Head]] = {}
    for name, head in heads.items():
        by_stride.setdefault(stride_of(_of_task(name, heads)), {})[name] = head
    groups: list[list[list[EncodedExample]]] = [[] for _ in inputs]
    for alike in by_stride.values():
        encoded = encode_inputs(kind, inputs, alike, tokenizer, max_length=max_length)
        for place, parts in enumerate(_apart(kind, inputs, encoded, alike, tokenizer, max_length)):
            groups[place] += parts
    return groups


def _apart(
    kind: str,
    inputs: Sequence[Input],
    encoded: Sequence[list[EncodedExample]],
    heads: Mapping[str, Head],
    tokenizer: Any,
    max_length: int,
) -> list[list[list[EncodedExample]]]:
    """The windows of each input; apart for tasks without heads over words, where those had words replaced."""
    groups = [[windows] for windows in encoded]
    plain = {
        name: head for name, head in heads.items() if not any(h.reads_words for h in _of_task(name, heads).values())
    }
    if kind != "text" or not plain or len(plain) == len(heads):
        return groups
    unknown = tokenizer.unk_token_id
    doubtful = [place for place, (window, *_) in enumerate(encoded) if unknown in window.input_ids]
    again = encode_inputs(kind, [inputs[place] for place in doubtful], plain, tokenizer, max_length=max_length)
    for place, (without,) in zip(doubtful, again, strict=True):
        (window,) = encoded[place]
        if without.input_ids != window.input_ids:
            of_words = {name: target for name, target in window.targets.items() if name not in plain}
            groups[place] = [[replace(window, targets=of_words)], [without]]
    return groups


def _of_task(name: str, heads: Mapping[str, Head]) -> dict[str, Head]:
    """The heads of the same task as `name`."""
    task = name.partition("/")[0]
    return {other: head for other, head in heads.items() if other.partition("/")[0] == task}


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

"""Inputs are encoded like training data, once for all heads of all tasks that read them.

Names of heads are `task/head` here: a name may not contain a `/`, so the two can be separated again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from multitask_bert.data.encoding import encode_examples, stride_of
from multitask_bert.data.splits import group_windows
from multitask_bert.data.words import split_words
from multitask_bert.heads import Head
from multitask_bert.inference.inputs import Input
from multitask_bert.records import EncodedExample, Example


def encode_as_trained(
    input_type: str,
    inputs: Sequence[Input],
    heads: Mapping[str, Head],
    tokenizer: Any,
    *,
    max_length: int,
    window_strides: Mapping[str, int] | None = None,
) -> list[list[list[EncodedExample]]]:
    """For every input, groups of windows: one for the heads of all tasks that read it alike, nearly always all, so that
    it goes through the encoder once.

    Contexts are read in windows with each task's own stride, and so are the long texts of tasks in `window_strides`. A
    text with a word for which the tokenizer has no token (a lone accent, a zero-width space) has the unknown token
    there for tasks with heads over words, and none for others.
    """
    by_strides: dict[tuple[int | None, int | None], dict[str, Head]] = {}
    for name, head in heads.items():
        window_stride = (window_strides or {}).get(name.partition("/")[0])
        by_strides.setdefault((stride_of(_of_task(name, heads)), window_stride), {})[name] = head
    groups: list[list[list[EncodedExample]]] = [[] for _ in inputs]
    for (_, window_stride), alike in by_strides.items():
        lengths: dict[str, Any] = {"max_length": max_length, "window_stride": window_stride}
        encoded = encode_inputs(input_type, inputs, alike, tokenizer, **lengths)
        for index, parts in enumerate(_separated(input_type, inputs, encoded, alike, tokenizer, **lengths)):
            groups[index] += parts
    return groups


def _separated(
    input_type: str,
    inputs: Sequence[Input],
    encoded: Sequence[list[EncodedExample]],
    heads: Mapping[str, Head],
    tokenizer: Any,
    **lengths: Any,
) -> list[list[list[EncodedExample]]]:
    """The windows of each input; separate ones for tasks without heads over words, where words were replaced.

    `lengths`: see `encode_inputs`.
    """
    groups = [[windows] for windows in encoded]
    plain = {
        name: head for name, head in heads.items() if not any(h.reads_words for h in _of_task(name, heads).values())
    }
    if input_type != "text" or not plain or len(plain) == len(heads):
        return groups
    unknown = tokenizer.unk_token_id
    doubtful = [index for index, (window, *_) in enumerate(encoded) if unknown in window.input_ids]
    again = encode_inputs(input_type, [inputs[index] for index in doubtful], plain, tokenizer, **lengths)
    for index, (without,) in zip(doubtful, again, strict=True):
        (window,) = encoded[index]
        if without.input_ids != window.input_ids:
            of_words = {name: target for name, target in window.targets.items() if name not in plain}
            groups[index] = [[replace(window, targets=of_words)], [without]]
    return groups


def _of_task(name: str, heads: Mapping[str, Head]) -> dict[str, Head]:
    """The heads of the same task as `name`."""
    task = name.partition("/")[0]
    return {other: head for other, head in heads.items() if other.partition("/")[0] == task}


def encode_inputs(
    input_type: str,
    inputs: Sequence[Input],
    heads: Mapping[str, Head],
    tokenizer: Any,
    *,
    max_length: int,
    window_stride: int | None = None,
) -> list[list[EncodedExample]]:
    """For every input, all of one type, its windows (one, except for long contexts of a question)."""
    need_words = any(head.reads_words for head in heads.values())
    given = [replace(item.example) for item in inputs]  # copies, so that an input given twice is two examples
    if input_type == "text":
        given = [_with_words(example) if need_words else example for example in given]
    if input_type == "text":
        read = [one if item.is_exact else _stripped(one) for item, one in zip(inputs, given, strict=True)]
    else:
        read = given
    encoded = encode_examples(read, heads, tokenizer, max_length=max_length, window_stride=window_stride)
    return [
        [replace(window, example=example) for window in windows]
        for example, windows in zip(given, group_windows(encoded), strict=True)
    ]


def _with_words(example: Example) -> Example:
    offsets = tuple(split_words(example.text))
    return replace(example, words=tuple(example.text[begin:end] for begin, end in offsets), word_offsets=offsets)


def _stripped(example: Example) -> Example:
    """Strip white space at both ends, as from texts in tables; RoBERTa's tokens depend on it."""
    margin = len(example.text) - len(example.text.lstrip())
    offsets = example.word_offsets
    moved = None if offsets is None else tuple((begin - margin, end - margin) for begin, end in offsets)
    return replace(example, text=example.text.strip(), word_offsets=moved)

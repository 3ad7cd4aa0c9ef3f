"""The figures of one split of one task: sizes, lengths, labels, and what is wrong with them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from multitask_bert.data.batching import TaskDataset
from multitask_bert.data.splitting import text_key
from multitask_bert.records import EncodedExample, Example

PERCENTILES = (50, 90, 95, 99)
NUM_BINS = 40  # of the histogram of lengths
NUM_RANGES = 10  # into which numbers are counted, where they are more than that


@dataclass(frozen=True)
class Lengths:
    """How long the texts are, in pieces with special tokens, before any is cut."""

    percentiles: Mapping[str, int]  # min, p50, p90, p95, p99, max: so many pieces or fewer have 90% of the examples
    bin_width: int  # pieces; the last bin holds all longer ones too
    bins: Sequence[int]  # examples with 0 to bin_width - 1 pieces, and so on


@dataclass(frozen=True)
class SplitFigures:
    """What one split of one task holds. Shares are from 0 to 1."""

    task: str
    split: str
    was_cut_from_train: bool
    num_examples: int
    num_words: int  # as the file has them; of texts: what white space separates
    num_pieces: int  # special tokens included, before any text is cut
    lengths: Lengths
    num_truncated: int  # examples longer than max_length, of which only the beginning is read
    share_truncated: float
    num_in_windows: int  # examples longer than max_length that are read whole, in several windows
    num_duplicates: int  # examples whose text stands further up in the same split
    share_unknown: float  # pieces that are the tokenizer's unknown one, of those that are read and not special
    num_missing: Mapping[str, int]  # labels that are missing, by head
    labels: Mapping[str, Mapping[str, int]]  # by head: labels (or ranges of numbers), the commonest first


def count_split(
    task: str, split: str, dataset: TaskDataset, tokenizer: Any, *, max_length: int, was_cut_from_train: bool
) -> SplitFigures:
    """Every figure of a split; `dataset` as it would be trained on."""
    windows = list(_windows(dataset))
    examples = [first.example for first, *_ in windows]
    lengths = [_length(several, tokenizer) for several in windows]
    num_truncated = sum(several[0].is_cut for several in windows)
    heads = list(examples[0].labels) if examples else []
    return SplitFigures(
        task=task,
        split=split,
        was_cut_from_train=was_cut_from_train,
        num_examples=len(examples),
        num_words=sum(map(count_words, examples)),
        num_pieces=sum(lengths),
        lengths=describe_lengths(lengths, max_length),
        num_truncated=num_truncated,
        share_truncated=num_truncated / max(1, len(examples)),
        num_in_windows=sum(len(several) > 1 for several in windows),
        num_duplicates=len(examples) - len({text_key(example) for example in examples}),
        share_unknown=_share_unknown((one for several in windows for one in several), tokenizer),
        num_missing={head: sum(example.labels[head] is None for example in examples) for head in heads},
        labels={head: count_labels(example.labels[head] for example in examples) for head in heads},
    )


def describe_lengths(lengths: Sequence[int], max_length: int) -> Lengths:
    """Percentiles that occur, and a histogram that reaches to `max_length` at least, and to 99% of the texts."""
    values = np.asarray(lengths or [0])
    found = {f"p{q}": int(np.percentile(values, q, method="inverted_cdf")) for q in PERCENTILES}
    width = math.ceil((max(max_length, found["p99"]) + 1) / NUM_BINS)
    bins = np.bincount(np.minimum(values // width, NUM_BINS - 1), minlength=NUM_BINS) if lengths else [0] * NUM_BINS
    percentiles = {"min": int(values.min()), **found, "max": int(values.max())}
    return Lengths(percentiles, width, [int(count) for count in bins])


def count_words(example: Example) -> int:
    """The file's words, else what white space separates."""
    if example.words is not None:
        return len(example.words)
    return sum(len(text.split()) for text in (example.text, example.text_pair or "", *(example.choices or ())))


def count_labels(values: Iterable[Any]) -> dict[str, int]:
    """How often each label occurs, the commonest first; each tag of a sentence counts. Many numbers become ranges."""
    names: Counter[str] = Counter()
    numbers: list[float] = []
    for value in values:
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers.append(float(value))
        elif value is not None:
            names.update(_names_in(value))
    if not numbers:
        return dict(sorted(names.items(), key=lambda item: (-item[1], item[0])))
    distinct = sorted(set(numbers))
    if len(distinct) <= NUM_RANGES:
        return {f"{number:g}": numbers.count(number) for number in distinct}
    counts, edges = np.histogram(numbers, bins=NUM_RANGES)
    return {f"{low:.4g} to {high:.4g}": int(count) for low, high, count in zip(edges, edges[1:], counts, strict=False)}


def _names_in(value: Any) -> Iterator[str]:
    """A label; the tags of a sentence; those of several labels that hold; whether a question has an answer."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (str(name) for name, holds in value.items() if holds is True)
    elif isinstance(value, tuple) and value and all(isinstance(name, str) for name in value):
        yield from value
    else:
        yield "answer" if value else "no answer"


def _windows(dataset: TaskDataset) -> Iterator[list[EncodedExample]]:
    """The windows of each example: one, but for the long contexts of questions."""
    several: list[EncodedExample] = []
    for index in range(len(dataset)):
        one = dataset[index]
        if several and one.example is not several[0].example:
            yield several
            several = []
        several.append(one)
    if several:
        yield several


def _length(windows: Sequence[EncodedExample], tokenizer: Any) -> int:
    """Pieces of an example, before it was cut."""
    first = windows[0]
    if len(windows) == 1 and not first.is_cut:
        return len(first.input_ids)
    example = first.example
    seconds = example.choices or (example.text_pair,)
    return sum(len(tokenizer(example.text, second)["input_ids"]) for second in seconds)


def _share_unknown(encoded: Iterable[EncodedExample], tokenizer: Any) -> float:
    unknown = tokenizer.unk_token_id
    special = set(tokenizer.all_special_ids) - {unknown}
    pieces = Counter(piece for one in encoded for piece in one.input_ids)
    num_read = sum(count for piece, count in pieces.items() if piece not in special)
    return pieces[unknown] / max(1, num_read)

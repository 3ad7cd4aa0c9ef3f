"""Statistics of one split of one task: sizes, lengths, labels, duplicates, missing labels."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from multitask_bert.data.splits import EncodedSplit, group_windows
from multitask_bert.data.text_keys import text_key
from multitask_bert.data.vocabulary_fit import VocabularyFit, count_words
from multitask_bert.heads import Head
from multitask_bert.records import EncodedExample

PERCENTILES = (50, 90, 95, 99)
NUM_BINS = 40  # of the histogram of lengths
NUM_RANGES = 10  # of numeric labels, where there are more different ones than that


@dataclass(frozen=True)
class Lengths:
    """Lengths of the texts in tokens, special ones included, before truncation."""

    percentiles: Mapping[str, int]  # min, p50, p90, p95, p99, max; 90% of the examples have at most p90 tokens
    bin_width: int  # tokens
    bins: Sequence[int]  # examples with 0 to bin_width - 1 tokens, and so on; the last bin has all longer ones, too


@dataclass(frozen=True)
class SplitFigures:
    """Statistics of one split of one task. Shares are from 0 to 1."""

    task: str
    split: str  # train, dev, test, or test.<name>
    was_cut_from_train: bool
    num_examples: int
    num_words: int  # as the file has them; of texts: separated by white space
    num_pieces: int  # tokens, special ones included, before truncation
    lengths: Lengths
    num_truncated: int  # examples longer than max_length, of which the encoder reads the beginning only
    share_truncated: float
    num_in_windows: int  # examples longer than max_length that the encoder reads whole, in several windows
    num_duplicates: int  # examples whose text an earlier example of the split has, too
    tokens_per_word: float  # special tokens left out; of texts that are not truncated and not in windows
    share_unknown: float  # of the tokens that the encoder reads, special ones left out: those that are unknown
    num_missing: Mapping[str, int]  # missing labels, by head
    labels: Mapping[str, Mapping[str, int]]  # count by head and label, commonest first; numbers in ranges, lowest first


def count_split(
    task: str,
    split: str,
    dataset: EncodedSplit,
    tokenizer: Any,
    *,
    max_length: int,
    was_cut_from_train: bool,
    heads: Mapping[str, Head] | None = None,
) -> SplitFigures:
    """Statistics of a split, in one pass over it.

    `dataset`: encoded as for training; `heads`: spell the labels, which are counted as they are where None.
    """
    lengths: list[int] = []
    texts: set[int] = set()  # hashes, which take less memory than the texts
    tokens: Counter[int] = Counter()
    missing: Counter[str] = Counter()
    labels: dict[str, LabelCounter] = {}
    num_words = num_truncated = num_in_windows = 0
    fit = VocabularyFit(tokenizer)
    for windows in group_windows(dataset):
        example = windows[0].example
        lengths.append(_length(windows, tokenizer))
        texts.add(hash(text_key(example)))
        tokens.update(token for window in windows for token in window.input_ids)
        num_words += count_words(example)
        fit.add(windows)
        num_truncated += windows[0].is_truncated
        num_in_windows += len(windows) > 1 or windows[0].is_in_windows
        for head, value in example.labels.items():
            labels.setdefault(head, LabelCounter()).add(value if heads is None else heads[head].spelled(value))
            missing[head] += value is None
    return SplitFigures(
        task=task,
        split=split,
        was_cut_from_train=was_cut_from_train,
        num_examples=len(lengths),
        num_words=num_words,
        num_pieces=sum(lengths),
        lengths=describe_lengths(lengths, max_length),
        num_truncated=num_truncated,
        share_truncated=num_truncated / max(1, len(lengths)),
        num_in_windows=num_in_windows,
        num_duplicates=len(lengths) - len(texts),
        tokens_per_word=fit.tokens_per_word,
        share_unknown=_share_unknown(tokens, tokenizer),
        num_missing=dict(missing),
        labels={head: counter.counts() for head, counter in labels.items()},
    )


def describe_lengths(lengths: Sequence[int], max_length: int) -> Lengths:
    """Percentiles (each the length of an example), and a histogram that covers `max_length` and 99% of the texts."""
    values = np.asarray(lengths or [0])
    found = {f"p{q}": int(np.percentile(values, q, method="inverted_cdf")) for q in PERCENTILES}
    width = math.ceil((max(max_length, found["p99"]) + 1) / NUM_BINS)
    bins = np.bincount(np.minimum(values // width, NUM_BINS - 1), minlength=NUM_BINS) if lengths else [0] * NUM_BINS
    percentiles = {"min": int(values.min()), **found, "max": int(values.max())}
    return Lengths(percentiles, width, [int(count) for count in bins])


class LabelCounter:
    """Counts labels; each tag of a sentence counts as one. Numbers with many different values are counted in ranges."""

    def __init__(self) -> None:
        self._names: Counter[str] = Counter()
        self._numbers: Counter[float] = Counter()

    def add(self, value: Any) -> None:
        """Count the label of one example; None is a missing label, which is not counted."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._numbers[float(value)] += 1
        elif value is not None:
            self._names.update(_names_in(value))

    def counts(self) -> dict[str, int]:
        """Count by label, commonest first; by number or range, lowest first."""
        if not self._numbers:
            return dict(sorted(self._names.items(), key=lambda item: (-item[1], item[0])))
        numbers = sorted(self._numbers)
        if len(numbers) <= NUM_RANGES:
            return {f"{number:g}": self._numbers[number] for number in numbers}
        counts, edges = np.histogram(numbers, NUM_RANGES, weights=[self._numbers[number] for number in numbers])
        names = (f"{low:.4g} to {high:.4g}" for low, high in itertools.pairwise(edges))
        return {name: int(count) for name, count in zip(names, counts, strict=True)}


def _names_in(value: Any) -> Iterator[str]:
    """The names to count: the label itself, each tag, each label that applies, or whether there is an answer."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (str(name) for name, holds in value.items() if holds is True)
    elif isinstance(value, tuple) and value and all(isinstance(name, str) for name in value):
        yield from value
    else:
        yield "answer" if value else "no answer"


def _length(windows: Sequence[EncodedExample], tokenizer: Any) -> int:
    """Number of tokens of an example before truncation."""
    first = windows[0]
    if len(windows) == 1 and not first.is_truncated and not first.is_in_windows:
        return len(first.input_ids)
    example = first.example
    seconds = example.choices or (example.text_pair,)
    return sum(len(tokenizer(example.text, second)["input_ids"]) for second in seconds)


def _share_unknown(tokens: Mapping[int, int], tokenizer: Any) -> float:
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    num_read = sum(count for token, count in tokens.items() if token not in special)
    return tokens.get(tokenizer.unk_token_id, 0) / max(1, num_read)

"""Step 2 of the flow: `Example`s become word pieces, and each head's labels become targets at positions.

Words are joined by single spaces and tokenised as text, in batches, by the fast tokenizer; character offsets lead back
from pieces to words. So words and texts take one path, and every tokenizer family sees text as it was trained on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from multitask_bert.data.words import cut_words, set_apart, starts_of_parts
from multitask_bert.errors import InputError
from multitask_bert.heads import Head
from multitask_bert.records import EncodedExample, Example, Offset, Pieces

CHUNK = 1000  # examples per call of the tokenizer


class Window(NamedTuple):
    """An example, or a part of it, as word pieces."""

    example: Example
    pieces: Pieces
    is_cut: bool


def encode_examples(
    examples: Sequence[Example],
    heads: Mapping[str, Head],
    tokenizer: Any,
    *,
    max_length: int,
    as_predicted: bool = False,
) -> list[EncodedExample]:
    """Pieces, word positions and targets of every example.

    A text longer than `max_length` pieces is cut and marked; where a head reads windows, it becomes several encoded
    examples instead, one after the other, which share one `Example`. `as_predicted`: see `Cutter`.
    """
    stride = stride_of(heads)
    cut = Cutter(tokenizer, max_length, stride, as_predicted=as_predicted)
    return [
        with_targets(window, heads, keeps_offsets=stride is not None)
        for start in range(0, len(examples), CHUNK)
        for window in cut(examples[start : start + CHUNK])
    ]


def stride_of(heads: Mapping[str, Head]) -> int | None:
    """Pieces that two windows of a second text share; None where no head reads windows: texts are cut."""
    return max((head.config.stride for head in heads.values() if head.reads_windows), default=None)


def with_targets(window: Window, heads: Mapping[str, Head], *, keeps_offsets: bool) -> EncodedExample:
    """What depends on the heads: each one's target.

    `keeps_offsets`: a head needs the pieces' places in the text to decode.
    """
    example, pieces, is_cut = window
    return EncodedExample(
        example=example,
        input_ids=pieces.input_ids,
        token_type_ids=pieces.token_type_ids,
        word_starts=pieces.word_starts,
        targets={name: head.encode(head.spelled(example.labels.get(name)), pieces) for name, head in heads.items()},
        is_cut=is_cut,
        sequence_starts=pieces.sequence_starts,
        offsets=pieces.offsets if keeps_offsets else (),
    )


class Cutter:
    """Examples to pieces: the part of encoding that is the same whatever the heads' labels (see `encode_examples`).

    `stride`: see `stride_of`. `as_predicted`: texts with entities by characters come in the words that predicting
    gives, not in those that are cut at the entities' borders; for dev and test.
    """

    def __init__(self, tokenizer: Any, max_length: int, stride: int | None, *, as_predicted: bool = False) -> None:
        self.tokenizer, self.max_length, self.stride = tokenizer, max_length, stride
        self.as_predicted = as_predicted
        if stride is not None:
            # A window has at least one piece of the second text beside the `stride` ones that it shares.
            self.first_length = max_length - tokenizer.num_special_tokens_to_add(pair=True) - stride - 1
            if self.first_length < 1:
                raise InputError(
                    f"batching.max_length={max_length}: windows that share `stride: {stride}` pieces leave no room for "
                    f"the first text; raise it, or lower the stride of the heads that read windows"
                )

    def __call__(self, examples: Sequence[Example]) -> list[Window]:
        if self.as_predicted:
            examples = [set_apart(example) for example in examples]
        if any(example.choices for example in examples):
            return [self._choices(example) for example in examples]
        if self.stride is not None:
            return self._windows(examples)
        tokenized = self._tokenize([example.text for example in examples], [e.text_pair for e in examples])
        return [self._one(example, first) for example, first in zip(examples, tokenized, strict=True)]

    def _windows(self, examples: Sequence[Example]) -> list[Window]:
        texts = [self._shortened(example.text) for example in examples]
        tokenized = self._tokenize(texts, [example.text_pair for example in examples])
        return [
            Window(example, _pieces(window, second_text=example.text_pair), text != example.text)
            for example, text, first in zip(examples, texts, tokenized, strict=True)
            for window in (first, *first.overflowing)
        ]

    def _shortened(self, text: str) -> str:
        """As much of a first text as leaves room for windows of the second: the tokenizer breaks on longer ones."""
        pieces = self.tokenizer(text, add_special_tokens=False).encodings[0]
        while len(pieces.ids) > self.first_length:
            text = text[: min(pieces.offsets[self.first_length - 1][1], len(text) - 1)]
            pieces = self.tokenizer(text, add_special_tokens=False).encodings[0]
        return text

    def _one(self, example: Example, tokenized: Any) -> Window:
        is_cut = bool(tokenized.overflowing)
        parts = places_of(example)  # what the tags are for
        words = cut_words(example.text) if self.as_predicted and example.spans is not None else parts
        places = words
        pieces = _pieces(tokenized, places)
        lost = {place for place, start in enumerate(pieces.word_starts) if start < 0}  # cut off, or without pieces
        if lost and self.tokenizer.unk_token is not None:
            # Lone accents and the like vanish in some tokenizers; they become the unknown piece, to be labelled.
            text, places = _replaced(example.text, places, lost, self.tokenizer.unk_token)
            (tokenized,) = self._tokenize([text], [example.text_pair])
            is_cut, pieces = bool(tokenized.overflowing), _pieces(tokenized, places)
        if words is not parts:
            pieces = replace(pieces, word_starts=starts_of_parts(parts, words, pieces.word_starts))
        return Window(example, pieces, is_cut)

    def _choices(self, example: Example) -> Window:
        """The text beside each choice, one sequence after the other."""
        choices = list(example.choices or ())
        tokenized = self._tokenize([example.text] * len(choices), choices)
        parts = [_pieces(one) for one in tokenized]
        starts = itertools.accumulate((len(part.input_ids) for part in parts[:-1]), initial=0)
        joined = Pieces(
            input_ids=tuple(itertools.chain.from_iterable(part.input_ids for part in parts)),
            token_type_ids=tuple(itertools.chain.from_iterable(part.token_type_ids for part in parts)),
            offsets=tuple(itertools.chain.from_iterable(part.offsets for part in parts)),
            is_second=tuple(itertools.chain.from_iterable(part.is_second for part in parts)),
            sequence_starts=tuple(starts),
        )
        return Window(example, joined, any(one.overflowing for one in tokenized))

    def _tokenize(self, texts: list[str], pairs: Sequence[str | None]) -> list[Any]:
        """What `tokenizer(texts, pairs, truncation=…)` does, without what it makes of the result, half of its time."""
        from transformers.tokenization_utils_base import TruncationStrategy
        from transformers.utils import PaddingStrategy

        strategy = TruncationStrategy.LONGEST_FIRST if self.stride is None else TruncationStrategy.ONLY_SECOND
        self.tokenizer.set_truncation_and_padding(
            padding_strategy=PaddingStrategy.DO_NOT_PAD, truncation_strategy=strategy, max_length=self.max_length,
            stride=self.stride or 0, pad_to_multiple_of=None, padding_side=None,
        )  # fmt: skip
        has_pairs = any(pair is not None for pair in pairs)
        inputs = list(zip(texts, pairs, strict=True)) if has_pairs else texts
        return list(self.tokenizer.backend_tokenizer.encode_batch(inputs))


def places_of(example: Example) -> Sequence[Offset]:
    """Begin and end of each word in the example's text; none where it has no words."""
    if example.word_offsets is not None or example.words is None:
        return example.word_offsets or ()
    ends = itertools.accumulate(len(word) + 1 for word in example.words)  # the text is the words joined by spaces
    return [(end - len(word) - 1, end - 1) for word, end in zip(example.words, ends, strict=True)]


def _replaced(text: str, places: Sequence[Offset], lost: set[int], unknown: str) -> tuple[str, list[Offset]]:
    """The text with `unknown` for the words that are lost, and the words' places in it."""
    parts, new_places, copied, length = [], [], 0, 0
    for number, (begin, end) in enumerate(places):
        parts += [text[copied:begin], unknown if number in lost else text[begin:end]]
        length += len(parts[-2])
        new_places.append((length, length + len(parts[-1])))
        length, copied = new_places[-1][1], end
    return "".join([*parts, text[copied:]]), new_places


def _pieces(tokenized: Any, places: Sequence[Offset] = (), *, second_text: str | None = None) -> Pieces:
    offsets = offsets_of(tokenized)
    is_second = tuple(sequence == 1 for sequence in tokenized.sequence_ids)
    in_first = [(-1, -1) if second else offset for offset, second in zip(offsets, is_second, strict=True)]
    return Pieces(
        input_ids=tuple(tokenized.ids),
        token_type_ids=tuple(tokenized.type_ids),
        offsets=tuple(offsets),
        is_second=is_second,
        word_starts=find_word_starts(in_first, places) if places else (),
        second_text=second_text,
    )


def offsets_of(pieces: Any) -> list[tuple[int, int]]:
    """Begin and end of each piece in characters of the text; special tokens, which are nowhere in it, have (-1, -1)."""
    return [
        (-1, -1) if is_special else offset
        for offset, is_special in zip(pieces.offsets, pieces.special_tokens_mask, strict=True)
    ]


def find_word_starts(offsets: Sequence[Offset], places: Sequence[Offset]) -> tuple[int, ...]:
    """Position of the first piece of each word, of which `places` has begin and end in the text; -1 where it has none.

    A piece for nothing but the space before a word (in the families of RoBERTa and XLM-R) is the word's first piece, as
    it is where a tokenizer is given words one by one. A piece that reaches over two words is the first piece of both.
    """
    starts = []
    piece = last_end = 0
    for begin, end in places:
        while piece < len(offsets) and _is_before(offsets[piece], begin, last_end):
            piece += 1
        starts.append(piece if piece < len(offsets) and offsets[piece][0] < end else -1)
        last_end = end
    return tuple(starts)


def _is_before(piece: Offset, begin: int, last_end: int) -> bool:
    """Whether a piece belongs to something before the word that begins at `begin`; the last one ended at `last_end`."""
    first, last = piece
    return last < begin or (last == begin and first < max(begin - 1, last_end))

"""Step 2 of the flow: `Example`s are tokenized, and each head's labels become targets at tokens.

Words are joined by single spaces and tokenized as text, in batches, by the fast tokenizer; character offsets lead back
from tokens to words. So words and texts take one path, and every tokenizer family sees text as it was trained on.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from multitask_bert.data.windows import in_windows
from multitask_bert.data.words import on_whole_words, set_apart, share_tokens, split_words, starts_of_parts
from multitask_bert.errors import InputError
from multitask_bert.heads import Head
from multitask_bert.records import EncodedExample, Example, Offset, Tokens

EXAMPLES_PER_CALL = 1000  # of the tokenizer


class TokenizedExample(NamedTuple):
    """An example, or a window of it, after tokenization and before its heads' targets."""

    example: Example
    tokens: Tokens
    is_truncated: bool


def encode_examples(
    examples: Sequence[Example],
    heads: Mapping[str, Head],
    tokenizer: Any,
    *,
    max_length: int,
    window_stride: int | None = None,
    as_predicted: bool = False,
) -> list[EncodedExample]:
    """Tokens, words' first tokens and targets of every example.

    A text of more than `max_length` tokens is truncated and marked, or with a `window_stride` read in windows, which
    are sequences of one encoded example. Where a head reads windows by itself, a text becomes several encoded examples
    instead, one after the other, which share one `Example`. `window_stride`, `as_predicted`: see `ExampleTokenizer`.
    """
    stride = stride_of(heads)
    tokenize = ExampleTokenizer(tokenizer, max_length, stride, window_stride=window_stride, as_predicted=as_predicted)
    return [
        with_targets(tokenized, heads, keeps_offsets=stride is not None)
        for start in range(0, len(examples), EXAMPLES_PER_CALL)
        for tokenized in tokenize(examples[start : start + EXAMPLES_PER_CALL])
    ]


def stride_of(heads: Mapping[str, Head]) -> int | None:
    """Number of tokens that two windows of a text share; None where no head reads windows by itself."""
    return max((head.config.stride for head in heads.values() if head.reads_windows), default=None)


def with_targets(tokenized: TokenizedExample, heads: Mapping[str, Head], *, keeps_offsets: bool) -> EncodedExample:
    """Add what depends on the heads: each one's target.

    `keeps_offsets`: a head needs the tokens' character offsets to decode.
    """
    example, tokens, is_truncated = tokenized
    return EncodedExample(
        example=example,
        input_ids=tokens.input_ids,
        token_type_ids=tokens.token_type_ids,
        word_starts=tokens.word_starts,
        targets={name: head.encode(head.spelled(example.labels.get(name)), tokens) for name, head in heads.items()},
        is_truncated=is_truncated,
        sequence_starts=tokens.sequence_starts,
        offsets=tokens.offsets if keeps_offsets else (),
    )


class ExampleTokenizer:
    """Tokenizes examples: the part of encoding that does not depend on the heads' labels (see `encode_examples`).

    `stride`: see `stride_of`. `window_stride`: number of tokens, at least, that two windows of a text share where the
    task reads long texts in windows (`batching.windows`); None: they are truncated. A text with entities by characters
    has the words that predicting gives, which are learned whole; `as_predicted`, for dev and test: they are split where
    entities begin and end, each part being scored.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_length: int,
        stride: int | None,
        *,
        window_stride: int | None = None,
        as_predicted: bool = False,
    ) -> None:
        self.tokenizer, self.max_length, self.stride = tokenizer, max_length, stride
        self.window_stride, self.as_predicted = window_stride, as_predicted
        num_special = tokenizer.num_special_tokens_to_add(pair=True)
        if window_stride is not None and window_stride >= max_length - num_special:
            raise InputError(
                f"batching.stride={window_stride}: windows of batching.max_length={max_length} tokens, {num_special} "
                f"of them special, would share all others; set it to {max(0, max_length - num_special - 1)} or less, "
                f"or raise batching.max_length"
            )
        if stride is not None:
            # A window has at least one token of the second text beside the `stride` ones that it shares.
            self.first_length = max_length - tokenizer.num_special_tokens_to_add(pair=True) - stride - 1
            if self.first_length < 1:
                raise InputError(
                    f"batching.max_length={max_length}: windows that share `stride: {stride}` tokens leave no room for "
                    f"the first text; raise it, or lower the stride of the heads that read windows"
                )

    def __call__(self, examples: Sequence[Example]) -> list[TokenizedExample]:
        prepare = set_apart if self.as_predicted else on_whole_words
        examples = [prepare(example) for example in examples]
        if any(example.choices for example in examples):
            return [self._choices(example) for example in examples]
        if self.stride is not None:
            return self._windows(examples)
        tokenized = self._tokenize([example.text for example in examples], [e.text_pair for e in examples])
        return [self._one(example, first) for example, first in zip(examples, tokenized, strict=True)]

    def _windows(self, examples: Sequence[Example]) -> list[TokenizedExample]:
        texts = [self._shortened(example.text) for example in examples]
        tokenized = self._tokenize(texts, [example.text_pair for example in examples])
        return [
            TokenizedExample(example, _tokens(window, second_text=example.text_pair), text != example.text)
            for example, text, first in zip(examples, texts, tokenized, strict=True)
            for window in (first, *first.overflowing)
        ]

    def _shortened(self, text: str) -> str:
        """As much of a first text as leaves room for windows of the second: the tokenizer fails on longer ones."""
        tokens = self.tokenizer(text, add_special_tokens=False).encodings[0]
        while len(tokens.ids) > self.first_length:
            text = text[: min(tokens.offsets[self.first_length - 1][1], len(text) - 1)]
            tokens = self.tokenizer(text, add_special_tokens=False).encodings[0]
        return text

    def _one(self, example: Example, tokenized: Any) -> TokenizedExample:
        is_truncated = bool(tokenized.overflowing)
        tagged_parts = word_offsets_of(example)
        by_prediction = self.as_predicted and example.spans is not None
        words = split_words(example.text) if by_prediction else tagged_parts
        offsets = words
        tokens = _tokens(tokenized, offsets)
        lost = {index for index, start in enumerate(tokens.word_starts) if start < 0}  # truncated, or without tokens
        if lost and self.tokenizer.unk_token is not None:
            # Lone accents and the like vanish in some tokenizers; they become the unknown token, to be labelled.
            text, offsets = _replaced(example.text, offsets, lost, self.tokenizer.unk_token)
            (tokenized,) = self._tokenize([text], [example.text_pair])
            is_truncated, tokens = bool(tokenized.overflowing), _tokens(tokenized, offsets)
        if example.word_offsets is not None:
            tokens = replace(tokens, word_starts=share_tokens(example.text, words, tokens.word_starts))
        if words is not tagged_parts:
            tokens = replace(tokens, word_starts=starts_of_parts(tagged_parts, words, tokens.word_starts))
        if self.window_stride is not None and len(tokens.input_ids) > self.max_length:
            tokens, is_truncated = in_windows(tokens, self.max_length, self.window_stride)
        return TokenizedExample(example, tokens, is_truncated)

    def _choices(self, example: Example) -> TokenizedExample:
        """The text beside each choice, one sequence after the other."""
        choices = list(example.choices or ())
        tokenized = self._tokenize([example.text] * len(choices), choices)
        parts = [_tokens(one) for one in tokenized]
        starts = itertools.accumulate((len(part.input_ids) for part in parts[:-1]), initial=0)
        joined = Tokens(
            input_ids=tuple(itertools.chain.from_iterable(part.input_ids for part in parts)),
            token_type_ids=tuple(itertools.chain.from_iterable(part.token_type_ids for part in parts)),
            offsets=tuple(itertools.chain.from_iterable(part.offsets for part in parts)),
            is_second_text=tuple(itertools.chain.from_iterable(part.is_second_text for part in parts)),
            sequence_starts=tuple(starts),
        )
        return TokenizedExample(example, joined, any(one.overflowing for one in tokenized))

    def _tokenize(self, texts: list[str], pairs: Sequence[str | None]) -> list[Any]:
        """The encodings of `tokenizer(texts, pairs, truncation=…)`, without converting them, which is half its time."""
        from transformers.tokenization_utils_base import TruncationStrategy
        from transformers.utils import PaddingStrategy

        strategy = TruncationStrategy.LONGEST_FIRST if self.stride is None else TruncationStrategy.ONLY_SECOND
        strategy = TruncationStrategy.DO_NOT_TRUNCATE if self.window_stride is not None else strategy
        self.tokenizer.set_truncation_and_padding(
            padding_strategy=PaddingStrategy.DO_NOT_PAD, truncation_strategy=strategy, max_length=self.max_length,
            stride=self.stride or 0, pad_to_multiple_of=None, padding_side=None,
        )  # fmt: skip
        has_pairs = any(pair is not None for pair in pairs)
        inputs = list(zip(texts, pairs, strict=True)) if has_pairs else texts
        return list(self.tokenizer.backend_tokenizer.encode_batch(inputs))


def word_offsets_of(example: Example) -> Sequence[Offset]:
    """Begin and end of each word in the example's text; empty where it has no words."""
    if example.word_offsets is not None or example.words is None:
        return example.word_offsets or ()
    ends = itertools.accumulate(len(word) + 1 for word in example.words)  # the text is the words joined by spaces
    return [(end - len(word) - 1, end - 1) for word, end in zip(example.words, ends, strict=True)]


def _replaced(text: str, offsets: Sequence[Offset], lost: set[int], unknown: str) -> tuple[str, list[Offset]]:
    """The text with `unknown` in place of the lost words, and the words' offsets in it."""
    parts, new_offsets, copied, length = [], [], 0, 0
    for index, (begin, end) in enumerate(offsets):
        parts += [text[copied:begin], unknown if index in lost else text[begin:end]]
        length += len(parts[-2])
        new_offsets.append((length, length + len(parts[-1])))
        length, copied = new_offsets[-1][1], end
    return "".join([*parts, text[copied:]]), new_offsets


def _tokens(tokenized: Any, words: Sequence[Offset] = (), *, second_text: str | None = None) -> Tokens:
    """`tokenized`: an `Encoding` of the `tokenizers` library; `words`: their offsets in the first text."""
    offsets = offsets_of(tokenized)
    is_second_text = tuple(sequence == 1 for sequence in tokenized.sequence_ids)
    in_first = [(-1, -1) if second else offset for offset, second in zip(offsets, is_second_text, strict=True)]
    return Tokens(
        input_ids=tuple(tokenized.ids),
        token_type_ids=tuple(tokenized.type_ids),
        offsets=tuple(offsets),
        is_second_text=is_second_text,
        word_starts=find_word_starts(in_first, words) if words else (),
        second_text=second_text,
    )


def offsets_of(tokenized: Any) -> list[Offset]:
    """Begin and end of each token in characters of the text; (-1, -1) for special tokens, which are nowhere in it."""
    return [
        (-1, -1) if is_special else offset
        for offset, is_special in zip(tokenized.offsets, tokenized.special_tokens_mask, strict=True)
    ]


def find_word_starts(tokens: Sequence[Offset], words: Sequence[Offset]) -> tuple[int, ...]:
    """Index of the first token of each word, both given by their offsets in the text; -1 where a word has none.

    A token for nothing but the space before a word (in the families of RoBERTa and XLM-R) is the word's first token, as
    it is where a tokenizer is given words one by one. A token that spans two words is the first token of both.
    """
    starts = []
    index = last_end = 0
    for begin, end in words:
        while index < len(tokens) and _is_before(tokens[index], begin, last_end):
            index += 1
        starts.append(index if index < len(tokens) and tokens[index][0] < end else -1)
        last_end = end
    return tuple(starts)


def _is_before(token: Offset, begin: int, last_end: int) -> bool:
    """Whether a token belongs to something before the word that begins at `begin`; the last one ended at `last_end`."""
    token_begin, token_end = token
    return token_end < begin or (token_end == begin and token_begin < max(begin - 1, last_end))

"""Step 2 of the flow: `Example`s become word pieces, and each head's labels become targets at positions.

Words are joined by single spaces and tokenised as text, in batches, by the fast tokenizer; character offsets lead back
from pieces to words. So words and texts take one path, and every tokenizer family sees text as it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from multitask_bert.heads import Head
from multitask_bert.records import EncodedExample, Example

CHUNK = 1000  # examples per call of the tokenizer


def encode_examples(
    examples: Sequence[Example], heads: Mapping[str, Head], tokenizer: Any, *, max_length: int
) -> list[EncodedExample]:
    """Pieces, word positions and targets of every example; texts longer than `max_length` pieces are cut and marked."""
    encoded: list[EncodedExample] = []
    for start in range(0, len(examples), CHUNK):
        encoded += _encode_chunk(examples[start : start + CHUNK], heads, tokenizer, max_length)
    return encoded


def _encode_chunk(
    examples: Sequence[Example], heads: Mapping[str, Head], tokenizer: Any, max_length: int
) -> list[EncodedExample]:
    words = [example.words or () for example in examples]
    pieces = _tokenize(tokenizer, [example.text for example in examples], [e.text_pair for e in examples], max_length)
    starts = [find_word_starts(offsets_of(p), w) if w else () for p, w in zip(pieces, words, strict=True)]
    if tokenizer.unk_token is not None:
        _give_pieces_to_words_without(examples, pieces, starts, tokenizer, max_length)
    return [
        EncodedExample(
            example=example,
            input_ids=tuple(piece.ids),
            token_type_ids=tuple(piece.type_ids),
            word_starts=word_starts,
            targets={name: head.encode(example.labels.get(name), word_starts) for name, head in heads.items()},
            is_cut=bool(piece.overflowing),
        )
        for example, piece, word_starts in zip(examples, pieces, starts, strict=True)
    ]


def _give_pieces_to_words_without(
    examples: Sequence[Example], pieces: list[Any], starts: list[tuple[int, ...]], tokenizer: Any, max_length: int
) -> None:
    """Lone accents and the like vanish in some tokenizers; such a word becomes the unknown piece, to be labelled."""
    for index, example in enumerate(examples):
        lost = {place for place, start in enumerate(starts[index]) if start < 0}  # and what was cut off; it stays so
        if lost and example.words is not None:
            words = [tokenizer.unk_token if place in lost else word for place, word in enumerate(example.words)]
            pieces[index] = _tokenize(tokenizer, [" ".join(words)], [None], max_length)[0]
            starts[index] = find_word_starts(offsets_of(pieces[index]), words)


def offsets_of(pieces: Any) -> list[tuple[int, int]]:
    """Begin and end of each piece in characters of the text; special tokens, which are nowhere in it, have (-1, -1)."""
    return [
        (-1, -1) if is_special else offset
        for offset, is_special in zip(pieces.offsets, pieces.special_tokens_mask, strict=True)
    ]


def find_word_starts(offsets: Sequence[tuple[int, int]], words: Sequence[str]) -> tuple[int, ...]:
    """Position of the first piece of each word in `" ".join(words)`; -1 where a word has none.

    A piece for nothing but the space before a word (in the families of RoBERTa and XLM-R) is the word's first piece, as
    it is where a tokenizer is given words one by one.
    """
    starts = []
    piece = begin = 0
    for word in words:
        end = begin + len(word)
        while piece < len(offsets) and _is_before(offsets[piece], begin):
            piece += 1
        starts.append(piece if piece < len(offsets) and offsets[piece][0] < end else -1)
        begin = end + 1
    return tuple(starts)


def _is_before(piece: tuple[int, int], begin: int) -> bool:
    """Whether a piece belongs to something before the word that begins at `begin`."""
    first, last = piece
    return last < begin or (last == begin and first < begin - 1)


def _tokenize(tokenizer: Any, texts: list[str], pairs: list[str | None], max_length: int) -> list[Any]:
    second = pairs if any(pair is not None for pair in pairs) else None
    result = tokenizer(texts, second, truncation=True, max_length=max_length, return_token_type_ids=True)
    return list(result.encodings)

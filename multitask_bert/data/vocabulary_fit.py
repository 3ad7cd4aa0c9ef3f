"""How well an encoder's vocabulary fits the texts of a task: tokens per word, and tokens that it has no piece for.

A vocabulary that was made for another language splits words into many pieces (Rust et al. 2021, 2012.15613); one that
was made for another script has no pieces for them at all. The limits are from measurements: docs/inspecting.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from multitask_bert.data.splits import EncodedSplit, group_windows
from multitask_bert.records import EncodedExample, Example

MAX_TOKENS_PER_WORD = (
    2.5  # 1.3 to 1.7 in a language that the encoder knows well, 2.7 to 3.1 in one that it hardly knows
)
MAX_SHARE_UNKNOWN = 0.1  # up to 0.04 in a script that it knows, mostly emoji; 0.75 and more in another
MAX_CHARACTERS_PER_WORD = 15  # texts with longer words on average are written without spaces
LEAST_WORDS = 200  # fewer are too few to judge by
NUM_SAMPLED = 1000  # examples, at the start of training


class VocabularyFit:
    """Counts words and tokens of encoded examples; special tokens are left out.

    Examples that are truncated or in windows are left out, too: of these, words and tokens are not of the same text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._unknown = tokenizer.unk_token_id
        self._special = set(tokenizer.all_special_ids) - {self._unknown}
        self.num_words = self.num_characters = self.num_tokens = self.num_unknown = 0

    def add(self, windows: Sequence[EncodedExample]) -> None:
        """Count an example, given as its windows."""
        if len(windows) > 1 or windows[0].is_truncated or windows[0].is_in_windows:
            return
        tokens = [token for token in windows[0].input_ids if token not in self._special]
        self.num_words += count_words(windows[0].example)
        self.num_characters += sum(len(word) for text in _texts(windows[0].example) for word in text.split())
        self.num_tokens += len(tokens)
        self.num_unknown += tokens.count(self._unknown)

    @property
    def tokens_per_word(self) -> float:
        return self.num_tokens / max(1, self.num_words)

    @property
    def share_unknown(self) -> float:
        return self.num_unknown / max(1, self.num_tokens)


def count_words(example: Example) -> int:
    """Number of words as the file has them, else as white space separates them."""
    if example.words is not None:
        return len(example.words)
    return sum(len(text.split()) for text in _texts(example))


def fit_warning(task: str, fit: VocabularyFit, vocabulary: str) -> str | None:
    """The warning that a vocabulary does not fit the texts of a task; None: it does, or there are too few words.

    `vocabulary`: the name of the encoder or tokenizer.
    """
    if fit.num_words < LEAST_WORDS:
        return None
    way_out = "choose an encoder that knows the language (docs/families.md)"
    if fit.share_unknown > MAX_SHARE_UNKNOWN:
        return (
            f"task {task}: {fit.share_unknown:.0%} of the tokens are unknown to {vocabulary}, which was made for "
            f"another script, so the encoder cannot tell the words apart; {way_out}"
        )
    is_spaced = fit.num_characters <= MAX_CHARACTERS_PER_WORD * fit.num_words
    if is_spaced and fit.tokens_per_word > MAX_TOKENS_PER_WORD:
        return (
            f"task {task}: {vocabulary} splits a word into {fit.tokens_per_word:.1f} tokens on average, as with "
            f"languages that it hardly knows; if there is one, {way_out}"
        )
    return None


def fit_warnings(by_split: Sequence[Mapping[str, EncodedSplit]], tokenizer: Any, vocabulary: str) -> list[str]:
    """A warning for each task whose first examples do not fit; `by_split`: the first that has a task is looked at."""
    splits: dict[str, EncodedSplit] = {}
    for datasets in by_split:
        splits = {**datasets, **splits}
    warnings = []
    for task, split in sorted(splits.items()):
        fit = VocabularyFit(tokenizer)
        for windows in islice(group_windows(split), NUM_SAMPLED):
            fit.add(windows)
        if (warning := fit_warning(task, fit, vocabulary)) is not None:
            warnings.append(warning)
    return warnings


def _texts(example: Example) -> tuple[str, ...]:
    return (example.text, example.text_pair or "", *(example.choices or ()))

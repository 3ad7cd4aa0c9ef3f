"""Keys by which equal texts are found: when train is split (step 1), and across tasks, where they may leak."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator, Mapping

import numpy as np

from multitask_bert.records import Example

LEAST_SHARE = 0.01  # of a dev or test set, below which there is no warning; `action=inspect` also reports less
Keys = Mapping[str, np.ndarray]  # by task: a hash of each example's text


def text_key(example: Example) -> str:
    """Equal for texts of the same letters, whatever their case, spacing or Unicode form."""
    texts = example.text, example.text_pair or ""
    folded = (unicodedata.normalize("NFKC", text).casefold() for text in texts)  # which may take letters apart again
    return "\t".join("".join(unicodedata.normalize("NFKC", text).split()) for text in folded)


def text_hash(example: Example) -> int:
    """64 bits of a hash of `text_key`: two of a million texts share one with p < 1e-7."""
    text = text_key(example).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), signed=True)


def leak_warnings(train: Keys, others: Mapping[str, Keys]) -> Iterator[str]:
    """A line per pair of tasks of which one is trained on texts that the other is scored on. `others`: by split.

    Repeats within one task are reported by `action=inspect` only.
    """
    if len(train) < 2:
        return
    texts = {task: np.unique(keys) for task, keys in train.items()}
    all_texts = np.unique(np.concatenate(list(texts.values())))
    found = {  # mostly few; these are then looked up in each train set
        (split, task): keys[_are_in(keys, all_texts)]
        for split, of_task in others.items()
        for task, keys in of_task.items()
    }
    for trained in train:
        for task in dict.fromkeys(task for _, task in found if task != trained):
            shown = []
            for split in others:
                num_found = int(_are_in(found.get((split, task), np.empty(0, np.int64)), texts[trained]).sum())
                if num_found and (share := num_found / len(others[split][task])) >= LEAST_SHARE:
                    shown.append(f"{share:.1%} of its {split} texts")
            if shown:
                yield (
                    f"task {task}: {' and '.join(shown)} are also in the train set of task {trained}, so its scores "
                    f"there may be too good; action=inspect names them"
                )


def _are_in(keys: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """Which of the keys are among `texts`, which are sorted."""
    if not len(texts):
        return np.zeros(len(keys), dtype=bool)
    indices = np.minimum(np.searchsorted(texts, keys), len(texts) - 1)
    return np.asarray(texts[indices] == keys)

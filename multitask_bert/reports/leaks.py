"""Leaks: texts of a dev or test set that are also in a train set, of the same task or another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from multitask_bert.data.splits import EncodedSplit
from multitask_bert.data.text_keys import text_key
from multitask_bert.records import Example

NUM_SHOWN = 3  # pairs of examples that a leak names
NUM_CHARACTERS = 200  # of the text that they share


@dataclass(frozen=True)
class Leak:
    """The texts that one task's dev or test set shares with one task's train set."""

    task: str
    split: str  # dev, test, or test.<name>
    train_task: str
    num_examples: int  # of the dev or test set
    share: float  # of the dev or test set, from 0 to 1
    places: Sequence[tuple[str, str, str]]  # the first few: position in the set, position in train, the text


def find_leaks(train: Mapping[str, EncodedSplit], others: Mapping[str, Mapping[str, EncodedSplit]]) -> list[Leak]:
    """All leaks, largest first. `others`: dev and test sets, by split and then by task.

    Texts are compared without case and spacing: one task may have the words of the text that another one has.
    """
    train_indices = {task: _first_indices(dataset) for task, dataset in train.items()}
    leaks = []
    for split, by_task in others.items():
        for task, dataset in by_task.items():
            keys = [(index, _key(example)) for index, example in _examples(dataset)]
            for train_task, index_of in train_indices.items():
                found = [(index, index_of[key]) for index, key in keys if key in index_of]
                shown = [
                    _shown(dataset[here].example, train[train_task][there].example) for here, there in found[:NUM_SHOWN]
                ]
                if found:
                    leaks.append(Leak(task, split, train_task, len(found), len(found) / len(keys), shown))
    return sorted(leaks, key=lambda leak: -leak.num_examples)


def _first_indices(dataset: EncodedSplit) -> dict[int, int]:
    """The index of the first example with each text, by key of the text."""
    indices: dict[int, int] = {}
    for index, example in _examples(dataset):
        indices.setdefault(_key(example), index)
    return indices


def _key(example: Example) -> int:
    """Hash of the text, which takes less memory: of a million texts, two share a hash with p < 1e-7."""
    return hash(text_key(example))


def _shown(here: Example, there: Example) -> tuple[str, str, str]:
    return here.where, there.where, here.text[:NUM_CHARACTERS]


def _examples(dataset: EncodedSplit) -> Iterator[tuple[int, Example]]:
    """Each example with the index of its first window."""
    previous = None
    for index in range(len(dataset)):
        example = dataset[index].example
        if example is not previous:
            yield index, example
        previous = example

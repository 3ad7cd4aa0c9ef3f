"""Texts that a model is tested on and has been trained on, in the same task or in another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from multitask_bert.data.splits import EncodedSplit
from multitask_bert.data.text_keys import text_key
from multitask_bert.records import Example

NUM_SHOWN = 3  # pairs of places that a leak names
NUM_CHARACTERS = 200  # of the text, beside them


@dataclass(frozen=True)
class Leak:
    """How much of one task's dev or test set stands in one task's train set."""

    task: str
    split: str  # dev or test
    train_task: str
    num_examples: int  # of the dev or test set
    share: float  # of the dev or test set, from 0 to 1
    places: Sequence[tuple[str, str, str]]  # the first few: where in the set, where in train, the text


def find_leaks(train: Mapping[str, EncodedSplit], others: Mapping[str, Mapping[str, EncodedSplit]]) -> list[Leak]:
    """Every pair with something in common, the most first. `others`: by split, then by task.

    Two texts are the same if their letters are, whatever their case and spacing: one task has words where another has
    the text that they were cut from.
    """
    places = {task: _places(dataset) for task, dataset in train.items()}
    leaks = []
    for split, by_task in others.items():
        for task, dataset in by_task.items():
            keys = [(index, _key(example)) for index, example in _examples(dataset)]
            for train_task, places_of in places.items():
                found = [(index, places_of[key]) for index, key in keys if key in places_of]
                shown = [
                    _shown(dataset[here].example, train[train_task][there].example) for here, there in found[:NUM_SHOWN]
                ]
                if found:
                    leaks.append(Leak(task, split, train_task, len(found), len(found) / len(keys), shown))
    return sorted(leaks, key=lambda leak: -leak.num_examples)


def _places(dataset: EncodedSplit) -> dict[int, int]:
    """The index at which each text stands first."""
    places: dict[int, int] = {}
    for index, example in _examples(dataset):
        places.setdefault(_key(example), index)
    return places


def _key(example: Example) -> int:
    """A hash, which takes less memory than the text: two of a million texts share one with p < 1e-7."""
    return hash(text_key(example))


def _shown(here: Example, there: Example) -> tuple[str, str, str]:
    return here.where, there.where, here.text[:NUM_CHARACTERS]


def _examples(dataset: EncodedSplit) -> Iterator[tuple[int, Example]]:
    """Each example once, however many windows it has, with the index of the first."""
    previous = None
    for index in range(len(dataset)):
        example = dataset[index].example
        if example is not previous:
            yield index, example
        previous = example

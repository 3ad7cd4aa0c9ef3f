"""Texts that a model is tested on and has been trained on, in the same task or in another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from multitask_bert.data.batching import TaskDataset
from multitask_bert.data.splitting import text_key
from multitask_bert.records import Example

NUM_SHOWN = 3  # pairs of places that a leak names


@dataclass(frozen=True)
class Leak:
    """How much of one task's dev or test set stands in one task's train set."""

    task: str
    split: str  # dev or test
    train_task: str
    num_examples: int  # of the dev or test set
    share: float  # of the dev or test set, from 0 to 1
    places: Sequence[tuple[str, str, str]]  # the first few: where in the set, where in train, the text


def find_leaks(train: Mapping[str, TaskDataset], others: Mapping[str, Mapping[str, TaskDataset]]) -> list[Leak]:
    """Every pair with something in common, the most first. `others`: by split, then by task.

    Two texts are the same if their letters are, whatever their case and spacing: one task has words where another has
    the text that they were cut from.
    """
    places = {task: _places(dataset) for task, dataset in train.items()}
    leaks = []
    for split, by_task in others.items():
        for task, dataset in by_task.items():
            examples = list(_examples(dataset))
            keys = [_key(example) for example in examples]
            for train_task, places_of in places.items():
                found = [(example, key) for example, key in zip(examples, keys, strict=True) if key in places_of]
                if found:
                    shown = [(one.where, places_of[key], one.text[:200]) for one, key in found[:NUM_SHOWN]]
                    leaks.append(Leak(task, split, train_task, len(found), len(found) / len(examples), shown))
    return sorted(leaks, key=lambda leak: -leak.num_examples)


def _places(dataset: TaskDataset) -> dict[str, str]:
    """Where each text stands first."""
    places: dict[str, str] = {}
    for example in _examples(dataset):
        places.setdefault(_key(example), example.where)
    return places


def _key(example: Example) -> str:
    return text_key(example).replace(" ", "")


def _examples(dataset: TaskDataset) -> Iterator[Example]:
    """Each example once, however many windows it has."""
    previous = None
    for index in range(len(dataset)):
        example = dataset[index].example
        if example is not previous:
            yield example
        previous = example

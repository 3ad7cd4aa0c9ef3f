"""Inputs that the page of a served model offers: the first examples of each task's test sets, if the run kept them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from multitask_bert.errors import InputError
from multitask_bert.inference.inputs import KEYS, is_empty, read_input
from multitask_bert.inference.predictor import Predictor
from multitask_bert.saving.predictions import KeptExample, read_predictions, sets_of

log = logging.getLogger(__name__)

NUM_EXAMPLES = 12


def examples_of_test_sets(run_dir: Path, predictor: Predictor) -> list[dict[str, Any]]:
    """About 12 inputs from `RUN/predictions/test*.jsonl`, as many of each task; empty if there are no such files.

    A file that is damaged is read up to the damage, with a warning.
    """
    num_per_task = max(1, NUM_EXAMPLES // len(predictor.tasks))
    by_task: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for name in sets_of(run_dir):
        if name.partition(".")[0] == "test":
            for task, given in _inputs(run_dir, name, predictor):
                if len(by_task[task]) < num_per_task and given not in by_task[task]:
                    by_task[task].append(given)
                if all(len(by_task[task]) >= num_per_task for task in predictor.tasks):
                    break
    return [given for task in predictor.tasks for given in by_task[task]]


def _inputs(run_dir: Path, name: str, predictor: Predictor) -> Iterator[tuple[str, dict[str, Any]]]:
    """Task and input of each example of a set for which the model predicts."""
    try:
        for example in read_predictions(run_dir, name):
            if example.task in predictor.tasks and (given := _input_of(example, predictor)) is not None:
                yield example.task, given
    except InputError as error:
        log.warning("the page offers fewer examples of the test set: %s", error)


def _input_of(example: KeptExample, predictor: Predictor) -> dict[str, Any] | None:
    """The example as an input that a head of its task reads; None: there is none, or a text is empty."""
    if example.choices is not None:
        texts: tuple[Any, ...] = (example.text, list(example.choices))
        types = ["choices"]
    elif example.text_pair is not None:
        texts, types = (example.text, example.text_pair), ["question", "pair"]
    else:
        texts, types = (example.text,), ["text"]
    fitting = (one for one in types if predictor.heads_for(one, [example.task]))
    if (input_type := next(fitting, None)) is None:
        return None
    given = dict(zip(KEYS[input_type], texts, strict=True))
    try:
        return None if is_empty(read_input(given, example.where).example) else given
    except InputError:  # the line is damaged
        return None

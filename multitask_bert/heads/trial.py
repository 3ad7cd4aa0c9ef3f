"""Somebody else's metrics, tried on made-up examples once the heads are known and before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from multitask_bert.errors import InputError
from multitask_bert.heads.base import Head, is_custom
from multitask_bert.records import Prediction

Pairs = list[tuple[Any, Any]]  # gold labels, as `Head.parse` gives them, with the value of a prediction that is right

# By type of head; those of a type that is not here are first tried at the first evaluation.
MADE_UP: Mapping[str, Callable[[Head], Pairs]] = {
    "classification": lambda head: [(name, name) for name in head.labels.names[:2]],
    "multilabel": lambda head: [(dict.fromkeys(head.labels.names[:1], True), head.labels.names[:1]), ({}, ())],
    "regression": lambda head: [(value, value) for value in head.config.range or (0.0, 1.0)],
    "tagging": lambda head: [(tags, tags) for tags in (head.labels.names[:2], head.labels.names[:1])],
    "span": lambda head: [((("Amina", 0),), "Amina"), ((("Tanga", 6),), "Tanga")],
    "choice": lambda head: [(0, 0), (1, 1)],
}


def try_metrics(heads: Mapping[str, Mapping[str, Head]]) -> None:
    """Load every module that `metrics:` names, and let it score two examples of the head's own form.

    Raises:
        InputError: it cannot be loaded or gives no score; names task, head and metric, and the way out.
    """
    for task, of_task in heads.items():
        for name, head in of_task.items():
            if any(map(is_custom, head.metrics)) and head.config.type in MADE_UP:
                pairs = MADE_UP[head.config.type](head)
                with naming(task, name):
                    head.score([gold for gold, _ in pairs], [Prediction(value) for _, value in pairs])


@contextmanager
def naming(task: str, head: str) -> Iterator[None]:
    """Put the names of task and head before the text of an `InputError`."""
    try:
        yield
    except InputError as error:
        raise InputError(f"task {task}: heads.{head}.{error}") from error

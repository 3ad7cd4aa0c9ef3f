"""The head types. This is the only list of them: a new head type is one file and one line here."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from multitask_bert.config.action_table import ACTIONS
from multitask_bert.config.schema import ExpectedScore, ExperimentConfig, HeadConfig, TaskConfig
from multitask_bert.errors import InputError
from multitask_bert.heads.base import Head, UnknownLabelError
from multitask_bert.heads.choice import ChoiceHead
from multitask_bert.heads.classification import ClassificationHead
from multitask_bert.heads.multilabel import MultilabelHead
from multitask_bert.heads.regression import RegressionHead
from multitask_bert.heads.span import SpanHead
from multitask_bert.heads.tagging import TaggingHead
from multitask_bert.labels import LabelSet, without_zeros
from multitask_bert.records import POOLED
from multitask_bert.trust.classes import users_code

__all__ = [
    "HEAD_TYPES", "Head", "UnknownLabelError", "check_heads", "expected_here", "head_type", "is_f1", "make_head",
    "parse_label",
    "reported_keys", "truncating_tasks", "window_strides",
]  # fmt: skip

HEAD_TYPES: dict[str, type[Head]] = {
    "classification": ClassificationHead,
    "multilabel": MultilabelHead,
    "regression": RegressionHead,
    "tagging": TaggingHead,
    "span": SpanHead,
    "choice": ChoiceHead,
}


def head_type(name: str, field: str = "type") -> type[Head]:
    """The class of a head type: one of ours by its short name, or the user's own, as `my_module.MyHead`.

    Raises:
        InputError: there is no such type, or the user has not opened it; `field` names it in the message.
    """
    if name in HEAD_TYPES:
        return HEAD_TYPES[name]
    if "." not in name:
        raise InputError(f"{field}={name}: choose one of {', '.join(HEAD_TYPES)}, or name a class, as my_module.MyHead")
    found: type[Head] = users_code(field, name, Head, otherwise=f"one of {', '.join(HEAD_TYPES)}")
    if missing := sorted(found.__abstractmethods__):
        raise InputError(f"{field}={name}: is not complete; it needs {', '.join(missing)} (docs/own/head.md)")
    return found


def parse_label(config: HeadConfig, raw: Any, where: str) -> Any:
    """The label that a file's field holds for the head that `config.type` names; see `Head.parse`.

    Letters with marks are composed (NFC), so that labels that look the same are equal.
    """
    raw = _composed(raw)
    if config.names is None:
        return head_type(config.type).parse(config, raw, where)
    names = _composed(config.names)
    if head_type(config.type).reads_words:  # a scheme is checked on the names of tags
        if isinstance(raw, list | tuple):
            raw = tuple(_named(tag, names, where) if isinstance(tag, str) else tag for tag in raw)
        return head_type(config.type).parse(config, raw, where)
    label = head_type(config.type).parse(config, raw, where)
    if isinstance(label, Mapping):
        return {_named(name, names, where): cell for name, cell in label.items()}
    return None if label in (None, "-1") else _named(label, names, where)


def _named(label: str, names: Sequence[str], where: str) -> str:
    """The name that `names` has for a number; a name stays as it is."""
    number = without_zeros(label)
    if number.isascii() and number.isdecimal() and len(number) < 10 and int(number) < len(names):
        return names[int(number)]
    if label in names:
        return label
    raise InputError(
        f"{where}: the head's `names:` have none for '{label[:60]}', only for 0 to {len(names) - 1} "
        f"({', '.join(names[:5])}{', …' if len(names) > 5 else ''}); correct it, or add its name"
    )


def _composed(raw: Any) -> Any:
    if isinstance(raw, str):
        return unicodedata.normalize("NFC", raw)
    return type(raw)(map(_composed, raw)) if isinstance(raw, list | tuple) else raw


def make_head(config: HeadConfig, labels: LabelSet) -> Head:
    """The head that `config.type` names."""
    return head_type(config.type)(config, labels)


def check_heads(config: ExperimentConfig) -> None:
    """Refuse heads that cannot work and a best metric that no head reports, before anything is loaded.

    Raises:
        InputError: one line per problem, with the field's full name and what would be right.
    """
    problems = [
        problem
        for task_name, task in config.tasks.items()
        for head_name, head in task.heads.items()
        for problem in _head_problems(f"tasks.{task_name}.heads.{head_name}", head)
    ]
    if not problems:
        problems = [problem for name, task in config.tasks.items() for problem in _task_problems(name, task)]
        problems += _window_problems(config)
    if not problems and config.action == "train":
        reported = reported_keys(config.tasks)
        if (best := metric_for_best(config)) not in reported:
            problems.append(f"trainer.metric_for_best={best}: no head reports it; choose one of {', '.join(reported)}")
        problems += _study_problems(config, reported) if config.verify else ()
    if problems:
        raise InputError("\n".join(problems))


def window_strides(config: ExperimentConfig) -> dict[str, int]:
    """By task whose long texts are read in windows: the least number of tokens that two neighbours share.

    Tasks with heads that read windows by themselves, or none, are not among them.
    """
    batching = config.batching
    stride = batching.max_length // 4 if batching.stride is None else batching.stride
    return {
        name: stride
        for name, task in config.tasks.items()
        if _asks_for_windows(config, task) and all(_joins_windows(head_type(head.type)) for head in task.heads.values())
    }


def truncating_tasks(config: ExperimentConfig) -> list[str]:
    """The tasks whose long texts `batching.windows=true` would read in windows, and which now truncate them."""
    with_windows = replace(config, batching=replace(config.batching, windows=True))
    return [name for name in window_strides(with_windows) if name not in window_strides(config)]


def metric_for_best(config: ExperimentConfig) -> str:
    """The key of the metric that decides which checkpoint is kept; see `TrainerConfig.metric_for_best`."""
    mean_f1 = "eval_mean_f1"
    return config.trainer.metric_for_best or (mean_f1 if mean_f1 in reported_keys(config.tasks) else "eval_mean_score")


def reported_keys(tasks: dict[str, TaskConfig], *, test: bool = False) -> list[str]:
    """The keys that `Trainer.evaluate` will return for the dev sets of these tasks, or for their test sets."""
    keys = []
    any_f1 = False
    num_sharing: Counter[str] = Counter()  # by `task.head`: tasks that are scored with it
    for task_name, task in tasks.items():
        is_scored = task.source.has_test if test else task.source.has_dev
        names = [task_name] if is_scored else []
        if test:
            names += [f"{task_name}.{name}" for name in task.source.tests or {}]
        for head_name, head in task.heads.items():
            metrics = head_type(head.type).keys_of(head)
            any_f1 = any_f1 or (is_scored and any(is_f1(metric) for metric in metrics))
            keys += [f"eval_{name}_{head_name}_{metric}" for name in names for metric in metrics]
            num_sharing[head.share or f"{task_name}.{head_name}"] += is_scored
        if task.joint_accuracy:
            keys += [f"eval_{name}_joint_accuracy" for name in names]
        keys += [f"eval_{task_name}_loss"] * is_scored
    for shared, number in num_sharing.items():
        owner, _, head_name = shared.partition(".")
        if number > 1 and owner in tasks:
            head = tasks[owner].heads[head_name]
            keys += [f"eval_{owner}.{POOLED}_{head_name}_{metric}" for metric in head_type(head.type).keys_of(head)]
    return [*keys, "eval_loss", *(["eval_mean_f1"] if any_f1 else []), "eval_mean_score"]


def is_f1(metric: str) -> bool:
    """Whether a metric counts as its head's F1 in `eval_mean_f1`."""
    return metric == "f1" or metric.startswith("f1_")


def expected_here(config: ExperimentConfig) -> dict[str, ExpectedScore]:
    """The scores that the study expects of the run's own tasks."""
    reported = reported_keys(config.tasks)
    begin = tuple(f"eval_{task}{after}" for task in config.tasks for after in "_.")
    return {key: score for key, score in config.study.expected.items() if key in reported or key.startswith(begin)}


def _study_problems(config: ExperimentConfig, reported: list[str]) -> Iterator[str]:
    """Expected scores that the run would not report."""
    expected = expected_here(config)
    if config.study.expected and not expected:
        yield (
            f"verify: study.expected has no score of {' or '.join(config.tasks)}; choose one of its tasks (it has "
            f"{', '.join(config.study.expected)})"
        )
    of_test = reported_keys(config.tasks, test=True)
    for key, score in expected.items():
        if key not in (of_test if score.split == "test" else reported) and key not in reported:
            yield f"study.expected.{key}: no head reports it; choose one of {', '.join(reported)}"
        for name, task in config.tasks.items():
            if score.split == "test" and key.startswith(f"eval_{name}_") and not task.source.has_test:
                yield f"study.expected.{key}.split=test: {name} has no test set; write split: eval"


def _task_problems(name: str, task: TaskConfig) -> Iterator[str]:
    """Heads that cannot share a task."""
    readers = {
        (head_type(head.type).reads_windows, head_type(head.type).reads_choices): f"{head_name} ({head.type})"
        for head_name, head in task.heads.items()
    }
    if len(readers) > 1:
        yield (
            f"tasks.{name}.heads: {' and '.join(readers.values())} read the text in different ways (whole, in windows, "
            f"beside each choice); give them tasks of their own"
        )
    if not task.joint_accuracy:
        return
    if len(task.heads) < 2:
        yield f"tasks.{name}.joint_accuracy: needs two heads or more; remove it"
    if "joint" in task.heads:
        yield f"tasks.{name}.heads.joint: its accuracy would have the same name as joint_accuracy; rename it"
    for head_name, head in task.heads.items():
        if not head_type(head.type).can_be_right:
            yield f"tasks.{name}.joint_accuracy: {head_name} ({head.type}) is never simply right; remove it"


def _asks_for_windows(config: ExperimentConfig, task: TaskConfig) -> bool:
    return config.batching.windows if task.windows is None else task.windows


def _joins_windows(found: type[Head]) -> bool:
    """Whether a head of this type reads a text in windows as one example: it reads whole texts, or words."""
    return (found.pools_text or found.reads_words) and not (found.reads_choices or found.reads_windows)


def _window_problems(config: ExperimentConfig) -> Iterator[str]:
    """Heads that cannot read a long text in windows, and strides that leave no window; of tasks whose data is read."""
    if not ACTIONS[config.action].uses_cli_tasks:
        return
    max_length = config.batching.max_length
    for name, task in config.tasks.items():
        for head_name, head in task.heads.items():
            found, where = head_type(head.type), f"tasks.{name}.heads.{head_name}"
            if found.reads_windows and head.stride >= max_length:
                yield f"{where}.stride={head.stride}: must be below batching.max_length={max_length}"
            if found.reads_windows and task.windows is False:
                yield f"tasks.{name}.windows=false: {head_name} ({head.type}) always reads windows; remove it"
            if _asks_for_windows(config, task) and not found.reads_windows and not _joins_windows(found):
                asked = "batching.windows" if task.windows is None else f"tasks.{name}.windows"
                yield (
                    f"{asked}=true: {where} ({head.type}) cannot read a text in windows; truncate the task's long "
                    f"texts with tasks.{name}.windows=false"
                )


def _head_problems(where: str, head: HeadConfig) -> Iterator[str]:
    try:
        found = head_type(head.type, f"{where}.type")
    except InputError as error:
        yield str(error)
        return
    yield from (f"{where}.{problem}" for problem in found.problems(head))

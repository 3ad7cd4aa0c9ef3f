"""Two runs beside each other, on the test examples that both predicted.

predictions/ of both (saving/predictions.py) -> pairs of examples -> `Comparison` (here) -> tables and a page
(comparison_page.py). No model is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multitask_bert.errors import InputError
from multitask_bert.heads import Head
from multitask_bert.heads.scoring import comparable_metric, gain
from multitask_bert.records import Prediction
from multitask_bert.reports.run_settings import UNSET, differing, settings_of, task_names
from multitask_bert.saving.predictions import KeptAnswer, KeptExample, read_heads, read_predictions, sets_of
from multitask_bert.saving.run_folder import refuse_no_run, refuse_unfinished

BETTER, WORSE, CANNOT_TELL, SAME = "better", "worse", "cannot tell", "no difference"
NO_METRIC = "no metric with intervals"
Pair = tuple[KeptExample, KeptExample]  # one example with the answers of A, and with those of B


@dataclass(frozen=True)
class HeadComparison:
    """One head on one test set; a gain is that of B over A."""

    set: str  # test, or test.NAME
    task: str
    head: str
    num_examples: int  # with a label
    metric: str | None  # None: the head reports none that is resampled here
    score_a: float | None
    score_b: float | None
    gain: float | None
    interval: tuple[float, float] | None  # 95%, of the gain
    verdict: str  # on B: better, worse, cannot tell, or no difference: the same answers
    only_a_right: int | None  # examples; None: an answer of this head is neither right nor wrong
    only_b_right: int | None
    mcnemar_p: float | None  # exact, two-sided


@dataclass(frozen=True)
class Flip:
    """An example for which one run is right and the other wrong."""

    set: str
    task: str
    head: str
    right: str  # A or B
    where: str  # file and line
    text: str
    gold: str
    answer_a: str
    answer_b: str


@dataclass(frozen=True)
class Comparison:
    """Everything that the page shows; `comparison.json` has the same fields."""

    run_a: str
    run_b: str
    settings: list[tuple[str, str, str]]  # those that differ: name, value of A, value of B
    notes: list[str]  # what is not compared, and why
    heads: list[HeadComparison]
    flips: list[Flip]


def compare_runs(a: Path, b: Path) -> Comparison:
    """Compare all heads that both runs have predictions of, on each test set.

    Raises:
        InputError: a folder is no run, or has no test predictions, or the runs were tested on other examples, or have
            nothing in common.
    """
    for folder in (a, b):
        refuse_no_run(folder)
    sets_a, sets_b = (_test_sets(folder) for folder in (a, b))
    heads_a, heads_b = read_heads(a), read_heads(b)
    notes = [*_only_in_one("test set", sets_a, sets_b, a, b)]
    found: list[HeadComparison] = []
    flips: list[Flip] = []
    for name in sorted(sets_a & sets_b):
        by_task_a, by_task_b = (_by_task(read_predictions(folder, name)) for folder in (a, b))
        notes += _only_in_one(f"task of {name}", set(by_task_a), set(by_task_b), a, b)
        for task in sorted(by_task_a.keys() & by_task_b.keys()):
            heads = sorted(heads_a.get(task, {}).keys() & heads_b.get(task, {}).keys())
            notes += _only_in_one(f"head of {task}", set(heads_a.get(task, {})), set(heads_b.get(task, {})), a, b)
            refuse_other_examples(f"{task}, {name}", by_task_a[task], by_task_b[task], heads, a, b)
            pairs = list(zip(by_task_a[task], by_task_b[task], strict=True))
            for head in heads:
                sides = heads_a[task][head], heads_b[task][head]
                if sides[0].config.type != sides[1].config.type or sides[0].config.scheme != sides[1].config.scheme:
                    notes.append(f"Head {head} of {task} is of another type in {b} than in {a}.")
                    continue
                known = [pair for pair in pairs if pair[0].answers[head].gold is not None]
                found += [_compare_head(name, task, head, sides, known)] if known else []
                flips += _flips(name, task, head, sides, known)
    if not found:
        raise InputError(
            f"run_dir={a},{b}: the runs have no head with a labelled test set in common; name two that have"
            + "".join(f"\n{note}" for note in dict.fromkeys(notes))
        )
    return Comparison(
        str(a), str(b), _differences(settings_of(a), settings_of(b)), list(dict.fromkeys(notes)), found, flips
    )


def refuse_other_examples(
    what: str, of_a: Sequence[KeptExample], of_b: Sequence[KeptExample], heads: Sequence[str], a: Path, b: Path
) -> None:
    """Check that two runs were tested on the same examples, in the same order, with the same labels.

    Raises:
        InputError: they were not; names the first example that differs.
    """
    way_out = (
        "where a test set is split off from train, it depends on the seed: train both with the same split_seed, or "
        "give the task a test file (tasks.<task>.source.test=FILE); where the files differ, score both on the same: "
        "action=evaluate with data_root=… or tasks=…, and compare the folders of these evaluations"
    )
    for number, (one, other) in enumerate(zip(of_a, of_b, strict=False), start=1):
        if _identity(one, heads) != _identity(other, heads):
            is_label = _identity(one, ()) == _identity(other, ())
            raise InputError(
                f"{what}: the runs were tested on other {'labels' if is_label else 'examples'}: example {number} is "
                f"{one.where} in {a}, and {other.where} in {b}; {way_out}"
            )
    if len(of_a) != len(of_b):
        raise InputError(
            f"{what}: the runs were tested on other examples: {len(of_a):,} in {a}, and {len(of_b):,} in {b}; {way_out}"
            f" (trainer.keep_predictions=null keeps those of all examples)"
        )


def _differences(of_a: dict[str, str], of_b: dict[str, str]) -> list[tuple[str, str, str]]:
    """The settings that differ; none where one folder is that of an evaluation, which has not learned anything."""
    if not of_a or not of_b:
        return []
    differ = [(key, of_a.get(key, UNSET), of_b.get(key, UNSET)) for key in differing([of_a, of_b])]
    tasks = task_names(of_a), task_names(of_b)
    return differ if tasks[0] == tasks[1] else [("tasks", *tasks), *differ]


def _test_sets(folder: Path) -> set[str]:
    found = {name for name in sets_of(folder) if name.partition(".")[0] == "test"}
    if not found:
        refuse_unfinished(folder)
        raise InputError(
            f"run_dir={folder}: it has no predictions/test.jsonl: it has no test set, or trainer.keep_predictions was "
            f"0, or it is older than these files; make them with action=evaluate run_dir={folder}, and compare the "
            f"folder of that evaluation"
        )
    return found


def _only_in_one(what: str, of_a: set[str], of_b: set[str], a: Path, b: Path) -> Iterator[str]:
    for names, folder in ((of_a - of_b, a), (of_b - of_a, b)):
        if names:
            yield f"Only {folder} has the {what} {', '.join(sorted(names))}."


def _by_task(examples: Iterator[KeptExample]) -> dict[str, list[KeptExample]]:
    found: dict[str, list[KeptExample]] = {}
    for example in examples:
        found.setdefault(example.task, []).append(example)
    return found


def _identity(example: KeptExample, heads: Sequence[str]) -> tuple[Any, ...]:
    """What two runs must have in common to have been tested on one example."""
    golds = [example.answers[head].gold if head in example.answers else None for head in heads]
    return (example.text, example.text_pair, example.words, example.choices, golds)


def _compare_head(
    set_name: str, task: str, name: str, heads: tuple[Head, Head], pairs: Sequence[Pair]
) -> HeadComparison:
    golds = [one.answers[name].gold for one, _ in pairs]
    a, b = ([Prediction(example.answers[name].predicted) for example in side] for side in zip(*pairs, strict=True))
    is_same = all(one.value == other.value for one, other in zip(a, b, strict=True))
    metric = comparable_metric(heads[0])
    measured = None if metric is None else gain(metric, heads[0].compare(golds, a), heads[1].compare(golds, b))
    verdict = SAME if is_same else NO_METRIC
    if measured is not None and not is_same:
        low, high = measured.interval
        verdict = BETTER if low > 0 else WORSE if high < 0 else CANNOT_TELL
    only_a, only_b = _right_in_one(heads, golds, a, b) if heads[0].can_be_right else (None, None)
    return HeadComparison(
        set_name, task, name, len(pairs),
        metric=metric,
        score_a=None if measured is None else measured.before,
        score_b=None if measured is None else measured.after,
        gain=None if measured is None else measured.after - measured.before,
        interval=None if measured is None else measured.interval,
        verdict=verdict,
        only_a_right=only_a,
        only_b_right=only_b,
        mcnemar_p=None if only_a is None or only_b is None else mcnemar(only_a, only_b),
    )  # fmt: skip


def mcnemar(only_a: int, only_b: int) -> float:
    """The exact two-sided p-value of McNemar's test: of as unequal a division of the examples that only one of two
    models gets right, if both were equally good (McNemar 1947).
    """
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def _right_in_one(
    heads: tuple[Head, Head], golds: Sequence[Any], a: Sequence[Prediction], b: Sequence[Prediction]
) -> tuple[int, int]:
    """The number of examples for which only A is right, and only B."""
    are_right = [
        (heads[0].is_right(gold, one), heads[1].is_right(gold, other))
        for gold, one, other in zip(golds, a, b, strict=True)
    ]
    return are_right.count((True, False)), are_right.count((False, True))


def _flips(set_name: str, task: str, name: str, heads: tuple[Head, Head], pairs: Sequence[Pair]) -> Iterator[Flip]:
    if not heads[0].can_be_right:
        return
    for one, other in pairs:
        answers = one.answers[name], other.answers[name]
        right_a, right_b = (
            head.is_right(answer.gold, Prediction(answer.predicted))
            for head, answer in zip(heads, answers, strict=True)
        )
        if right_a != right_b:
            gold, answer_a, answer_b = shown_answers(one, answers)
            text = " / ".join(filter(None, (one.text, one.text_pair)))
            yield Flip(
                set_name, task, name, "A" if right_a else "B", one.where, text, gold, answer_a, answer_b
            )  # fmt: skip


def shown_answers(example: KeptExample, answers: tuple[KeptAnswer, KeptAnswer]) -> tuple[str, str, str]:
    """The gold label and two predictions as text; of tags, those of the words for which the three differ."""
    values = answers[0].gold, answers[0].predicted, answers[1].predicted
    words = example.words or ()
    if words and all(isinstance(value, tuple) and len(value) == len(words) for value in values):
        differ = [index for index, tags in enumerate(zip(*values, strict=True)) if len({*tags}) > 1]
        gold, one, other = (" ".join(f"{words[index]}={value[index]}" for index in differ) for value in values)
        return gold, one, other
    gold, one, other = (_shown(value, example) for value in values)
    return gold, one, other


def _shown(value: Any, example: KeptExample) -> str:
    if isinstance(value, Mapping):  # of several labels
        return ", ".join(name if cell else f"{name}?" for name, cell in value.items() if cell is not False) or "none"
    if isinstance(value, tuple):  # names of labels, or answers with their offsets
        parts = [str(part[0]) if isinstance(part, tuple) and part else str(part) for part in value]
        return ", ".join(dict.fromkeys(parts)) or "none"
    if example.choices and isinstance(value, int) and value < len(example.choices):
        return f"{value}: {example.choices[value]}"
    return str(value) if value != "" else "none"

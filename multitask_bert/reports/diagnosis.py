"""What a run gets wrong, and which labels of its train are suspect.

predictions/ -> errors by kind (wrong_predictions.py); train, where asked for -> suspects and data map
(training/label_judgement.py) -> `Diagnosis` (here) -> tables and a page (diagnosis_page.py)
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.errors import InputError
from multitask_bert.reports.comparison import shown_answers
from multitask_bert.reports.wrong_predictions import HeadErrors, find_errors
from multitask_bert.saving.predictions import KeptAnswer, KeptExample, read_heads, read_predictions, sets_of
from multitask_bert.saving.run_folder import read_results, refuse_no_run, refuse_unfinished

if TYPE_CHECKING:
    from multitask_bert.training.label_judgement import Judged, JudgedLabel

NUM_SUSPECTS = 1000  # kept of each head


@dataclass(frozen=True)
class Suspect:
    """A label of train that models which have not seen it find improbable."""

    where: str  # file and line
    text: str
    given: str
    predicted: str
    probability: float  # of the given label; of several words or labels, that of the one shown


@dataclass(frozen=True)
class MapPoint:
    """One label of train on the data map: mean and standard deviation over the epochs of its probability."""

    where: str
    text: str
    gold: str
    confidence: float
    variability: float


@dataclass(frozen=True)
class HeadSuspects:
    """The labels of one head that out-of-sample models find least probable, in order of suspicion."""

    task: str
    head: str
    num_labels: int  # that were judged
    suspects: list[Suspect]


@dataclass(frozen=True)
class HeadMap:
    """The data map of one head, in the order of train."""

    task: str
    head: str
    num_epochs: int
    points: list[MapPoint]


@dataclass(frozen=True)
class Diagnosis:
    """Everything that the page shows; `diagnosis.json` has the same fields."""

    run: str
    notes: list[str]
    heads: list[HeadErrors]  # by set
    suspects: list[HeadSuspects]
    maps: list[HeadMap]


def diagnose_run(config: ExperimentConfig, say: Callable[[str], None]) -> Diagnosis:
    """Sort the wrong predictions of the run in `config.run_dir`; train as often as `config.diagnose` says, and judge
    the labels of train. `say`: told what training costs before it begins, and how it goes.

    Raises:
        InputError: the folder is no run or has no predictions, or there are fewer texts than folds.
    """
    assert config.run_dir is not None
    run_dir = Path(config.run_dir)
    refuse_no_run(run_dir)
    heads = read_errors(run_dir)
    options, notes = config.diagnose, []
    suspects: list[HeadSuspects] = []
    maps: list[HeadMap] = []
    if options.folds or options.data_map:
        from multitask_bert.training import label_judgement

        again = label_judgement.config_to_retrain(run_dir, config)
        if options.folds:
            cost = f"diagnose.folds={options.folds}: {cost_of(run_dir, options.folds, again)}"
            suspects = rank_suspects(label_judgement.judge_out_of_sample(again, options.folds, say, cost=cost))
        if options.data_map:
            say(f"diagnose.data_map=true: {cost_of(run_dir, 1, again)}")
            epochs = label_judgement.judge_after_each_epoch(again, say)
            maps = draw_maps(epochs)
            if len(epochs) < 2:
                notes.append("Data map: the run has one epoch, so that nothing varies; it needs several.")
        if not suspects and not maps:
            notes.append("No head has labels with probabilities, which suspects and data maps need.")
    if not options.folds:
        notes.append(
            f"Label errors of train were not looked for; diagnose.folds=5 does that: {cost_of(run_dir, 5, None)}."
        )
    return Diagnosis(str(run_dir), notes, heads, suspects, maps)


def read_errors(run_dir: Path) -> list[HeadErrors]:
    """The errors in a run's predictions, by set, task and head.

    Raises:
        InputError: the folder has no predictions, or they are damaged.
    """
    names = sets_of(run_dir)
    if not names:
        refuse_unfinished(run_dir)
        raise InputError(
            f"run_dir={run_dir}: it has no predictions/: trainer.keep_predictions was 0, or it is older than these "
            f"files; make them with action=evaluate run_dir={run_dir}, and diagnose the folder of that evaluation"
        )
    heads = read_heads(run_dir)
    found = []
    for name in names:
        by_task: dict[str, list[KeptExample]] = {}
        for example in read_predictions(run_dir, name):
            by_task.setdefault(example.task, []).append(example)
        for task, examples in by_task.items():
            errors = [find_errors(name, task, head_name, head, examples) for head_name, head in heads[task].items()]
            found += [one for one in errors if one.num_examples]
    return found


def cost_of(run_dir: Path, num_models: int, config: ExperimentConfig | None) -> str:
    """The cost of training for folds (1: for a data map) in times of the run's own, whose seconds are named if known.

    `config`: of the run; None: not looked at.
    """
    times = f"{num_models - 1}"
    if config is not None and config.trainer.max_steps is not None:  # whatever the size of train
        times = f"{num_models}"
    elif config is not None and config.trainer.min_steps is not None:  # perhaps
        times = f"{num_models - 1} to {num_models}"
    what = f"trains {num_models} models, each without 1/{num_models} of train, about {times} times the run's training"
    if num_models == 1:
        what = "trains one model, and predicts train after each epoch, a little more than the run's training"
    try:
        return f"{what}, which took {float(read_results(run_dir)['train_seconds']):,.0f} s"
    except (OSError, ValueError, KeyError, TypeError):
        return what


def rank_suspects(judged: Judged) -> list[HeadSuspects]:
    """Per head, the labels with the lowest probability first (Northcutt et al. 2021, self-confidence)."""
    return [
        HeadSuspects(
            task, head, len(labels),
            [_suspect(task, one) for one in sorted(labels, key=lambda one: one.probability)[:NUM_SUSPECTS]],
        )
        for (task, head), labels in judged.items()
    ]  # fmt: skip


def draw_maps(epochs: Sequence[Judged]) -> list[HeadMap]:
    """Per head, mean and standard deviation of each label's probability over the epochs (Swayamdipta et al. 2020)."""
    return [
        HeadMap(task, head, len(epochs), list(_points(task, [epoch[task, head] for epoch in epochs])))
        for task, head in (epochs[0] if epochs else ())
    ]


def _points(task: str, epochs: Sequence[Sequence[JudgedLabel]]) -> Iterator[MapPoint]:
    for of_label in zip(*epochs, strict=True):
        values = [one.probability for one in of_label]
        example = of_label[-1].example
        gold, _ = _shown_label(task, of_label[-1])
        yield MapPoint(example.where, _text_of(example), gold, statistics.fmean(values), statistics.pstdev(values))


def _suspect(task: str, judged: JudgedLabel) -> Suspect:
    given, predicted = _shown_label(task, judged)
    return Suspect(judged.example.where, _text_of(judged.example), given, predicted, judged.probability)


def _shown_label(task: str, judged: JudgedLabel) -> tuple[str, str]:
    """The label and the model's prediction as text; of several words or labels, for the least probable."""
    example, lowest = judged.example, judged.lowest
    if isinstance(lowest, int):
        word = (example.words or ())[lowest]
        return f"{word}={judged.gold[lowest]}", f"{word}={judged.predicted[lowest]}"
    if isinstance(lowest, str):
        return f"{lowest}: {_yes_or_no(judged.gold, lowest)}", f"{lowest}: {_yes_or_no(judged.predicted, lowest)}"
    kept = KeptExample(task, example.where, example.text, example.text_pair, example.words, example.choices, {})
    answer = KeptAnswer(judged.gold, judged.predicted, {})
    gold, predicted, _ = shown_answers(kept, (answer, answer))
    return gold, predicted


def _yes_or_no(value: Any, label: str) -> str:
    has = value.get(label) if isinstance(value, Mapping) else isinstance(value, Iterable) and label in value
    return "yes" if has else "no"


def _text_of(example: Any) -> str:
    return " / ".join(filter(None, (example.text, example.text_pair)))

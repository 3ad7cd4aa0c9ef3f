"""The predictions of a run's best model beside the gold labels: `predictions/` in the run's folder.

`dev.jsonl`, `test.jsonl` and `test.NAME.jsonl` (a named test set) have one line per example, in the order of the set;
`heads.json` has what is needed to score them again without the model: the config and labels of each head.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import Example, Prediction, TaskResult, task_of
from multitask_bert.utils.files import finite, read_json, write_json, write_parts

log = logging.getLogger(__name__)

FOLDER, HEADS = "predictions", "heads.json"
NUM_PROBABILITIES = 5  # of an example: those of the most likely labels, beside the gold and the predicted ones
NUM_CHARACTERS = 2000  # of a text; the rest of a longer one is left out
NUM_DIGITS = 6  # of probabilities, after the point


@dataclass(frozen=True)
class KeptAnswer:
    """One head's answer for one example."""

    gold: Any  # as `Head.spelled` gives it; None: the label is missing
    predicted: Any  # as in `Prediction.value`; None: it was not a number
    probabilities: Mapping[str, float]  # by label, the most likely first; empty for types without probabilities
    scores: tuple[float, ...] = ()  # of types that have one for each of an example's choices, not for labels


@dataclass(frozen=True)
class KeptExample:
    """One line of a file of predictions."""

    task: str
    where: str  # the example's file and line
    text: str
    text_pair: str | None
    words: tuple[str, ...] | None
    choices: tuple[str, ...] | None
    answers: Mapping[str, KeptAnswer]  # by head


def write_predictions(
    folder: Path,
    split: str,
    heads: Mapping[str, Mapping[str, Head]],
    results: Mapping[str, TaskResult],
    examples: Mapping[str, Iterable[Example]],
    *,
    limit: int | None,
) -> None:
    """Write the files of one split in `folder`/predictions, and `heads.json`.

    `heads`: by task and name. `results`, `examples`: by task or named test set (`task.name`). `limit`: greatest number
    of examples per set; None: all.

    Raises:
        OSError: a file cannot be written.
    """
    folder = folder / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / HEADS, _describe(heads))
    for file, names in _by_file(split, examples).items():
        lines = (
            line
            for name in names
            for line in _lines(name, heads[task_of(name)], results[name].predictions, examples[name], limit)
        )
        write_parts(folder / file, lines)


def sets_of(folder: Path) -> list[str]:
    """The names of the sets of examples of which a run has predictions: `dev`, `test`, `test.NAME`."""
    return sorted(path.stem for path in (folder / FOLDER).glob("*.jsonl"))


def read_predictions(folder: Path, name: str) -> Iterator[KeptExample]:
    """The lines of one file, by the name of its set.

    Raises:
        InputError: the file cannot be read, or a line is no line of predictions.
    """
    path = folder / FOLDER / f"{name}.jsonl"
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    example = _example(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                    raise _damaged(f"{path}:{number}", folder, error) from error
                yield example
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(str(path), folder, error) from error


def hashes_of_examples(folder: Path, name: str) -> dict[str, str]:
    """By task, a hash of the examples of a set that a run has kept predictions of, in their order, without labels.

    Empty if it has kept none. Raises InputError as `read_predictions` does.
    """
    if name not in sets_of(folder):
        return {}
    hashes: dict[str, Any] = {}
    for one in read_predictions(folder, name):
        content = json.dumps([one.text, one.text_pair, one.words, one.choices]).encode()
        hashes.setdefault(one.task, hashlib.sha256()).update(content)
    return {task: of_task.hexdigest() for task, of_task in hashes.items()}


def read_heads(folder: Path) -> dict[str, dict[str, Head]]:
    """The heads whose predictions a run has kept, by task and name; they have no weights.

    Raises:
        InputError: the file is missing or damaged, or a head is of a type that this version does not know.
    """
    path = folder / FOLDER / HEADS
    try:
        return {
            task: {
                name: make_head(HeadConfig(**saved["config"]), LabelSet(tuple(saved["labels"])))
                for name, saved in by_name.items()
            }
            for task, by_name in read_json(path).items()
        }
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(str(path), folder, error) from error


def _damaged(where: str, folder: Path, error: Exception) -> InputError:
    return InputError(
        f"{where}: these are no predictions of a run ({type(error).__name__}: {error}); make them again with "
        f"action=evaluate run_dir={folder}"
    )


def _describe(heads: Mapping[str, Mapping[str, Head]]) -> dict[str, Any]:
    return {
        task: {
            name: {"config": asdict(head.config), "labels": list(head.labels.names)} for name, head in by_name.items()
        }
        for task, by_name in heads.items()
    }


def _by_file(split: str, names: Iterable[str]) -> dict[str, list[str]]:
    """The names of tasks and named test sets, by the file that holds their predictions."""
    files: dict[str, list[str]] = {}
    for name in names:
        of_set = name.removeprefix(task_of(name))  # empty, or `.name`
        files.setdefault(f"{split}{of_set}.jsonl", []).append(name)
    return files


def _lines(
    name: str,
    heads: Mapping[str, Head],
    predictions: Mapping[str, Sequence[Prediction]],
    examples: Iterable[Example],
    limit: int | None,
) -> Iterator[bytes]:
    num_all = len(next(iter(predictions.values())))
    if limit is not None and num_all > limit:
        log.warning(
            "%s: predictions of the first %d of %d examples are kept; trainer.keep_predictions=null keeps all",
            name, limit, num_all,
        )  # fmt: skip
    for index, example in enumerate(itertools.islice(examples, limit)):
        answers = {
            head_name: _answer(head, head.spelled(example.labels[head_name]), predictions[head_name][index])
            for head_name, head in heads.items()
        }
        record = {"task": task_of(name), "where": example.where, **_texts(example), "heads": answers}
        yield (json.dumps(finite(record), ensure_ascii=False, default=str) + "\n").encode(errors="backslashreplace")


def _texts(example: Example) -> dict[str, Any]:
    """What the example has of text, pair, words and choices; of words that are the text, only these."""
    texts: dict[str, Any] = {}
    if example.words is None or " ".join(example.words) != example.text:
        texts["text"] = _shortened(example.text)
    if example.words is not None:
        texts["words"] = example.words
    if example.text_pair is not None:
        texts["text_pair"] = _shortened(example.text_pair)
    if example.choices is not None:
        texts["choices"] = [_shortened(choice) for choice in example.choices]
    return texts


def _shortened(text: str) -> str:
    return text if len(text) <= NUM_CHARACTERS else f"{text[:NUM_CHARACTERS]}…"


def _answer(head: Head, gold: Any, prediction: Prediction) -> dict[str, Any]:
    answer = {"gold": gold, "predicted": prediction.value}
    labels, scores = head.labels, prediction.scores
    if scores and len(scores) == len(labels) and not head.reads_windows:  # the scores of `span` are logits
        likely = sorted(range(len(scores)), key=lambda index: -scores[index])
        named = _names_in(gold) | _names_in(prediction.value)
        kept = [index for rank, index in enumerate(likely) if rank < NUM_PROBABILITIES or labels.names[index] in named]
        answer["probabilities"] = {labels.names[index]: round(scores[index], NUM_DIGITS) for index in kept}
    elif scores:
        answer["scores"] = [round(score, NUM_DIGITS) for score in scores]
    return answer


def _names_in(value: Any) -> set[str]:
    """The labels that a label or prediction names."""
    if isinstance(value, Mapping):
        return {name for name, cell in value.items() if cell}
    return {value} if isinstance(value, str) else set(value) if isinstance(value, tuple) else set()


def _example(record: dict[str, Any]) -> KeptExample:
    words, choices = record.get("words"), record.get("choices")
    text = record["text"] if "text" in record or words is None else " ".join(words)
    return KeptExample(
        task=record["task"],
        where=record["where"],
        text=text,
        text_pair=record.get("text_pair"),
        words=None if words is None else tuple(words),
        choices=None if choices is None else tuple(choices),
        answers={
            name: KeptAnswer(
                _frozen(answer["gold"]),
                _frozen(answer["predicted"]),
                answer.get("probabilities", {}),
                tuple(answer.get("scores", ())),
            )
            for name, answer in record["heads"].items()
        },
    )


def _frozen(value: Any) -> Any:
    """JSON's lists as the tuples that heads compare."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value

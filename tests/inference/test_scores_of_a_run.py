"""Predicting a run's test files gives the scores that the run reported: every head type, every format that has files.

One run learns all tasks at once. Its scores stand beside those of scikit-learn, seqeval, scipy and sets of places,
which are computed from the test file, as it was written here, and from what `action=predict` says of it.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import seqeval.metrics
import sklearn.metrics
from omegaconf import OmegaConf

from multitask_bert import actions
from multitask_bert.config.schema import (
    BatchingConfig,
    ExperimentConfig,
    HeadConfig,
    ModelConfig,
    OptimizerConfig,
    SourceConfig,
    TaskConfig,
    TrainerConfig,
)
from multitask_bert.config.tree import to_dict
from multitask_bert.utils.metrics.answers import answer_f1
from tests.conftest import MOODS, NAMES, PACKAGED, TINY, TOWNS
from tests.data.task_files import parquet_file

pytestmark = pytest.mark.slow

MAX_LENGTH = 16
SIZES = {"train": 48, "dev": 16, "test": 40}
ODD = ("", "", "\u200b", "\ufe0f ", " \u0301 ")  # what the tokenizer drops; a word for those who read words

Records = Sequence[Mapping[str, Any]]
Scores = Callable[[Records, Sequence[Any]], dict[str, float]]  # of the records of a file, and what is said of each


@dataclass
class Case:
    """A task with one head `h`, or more, and how its file is written and scored."""

    source: SourceConfig
    heads: dict[str, HeadConfig]
    record: Callable[[random.Random], dict[str, Any]]
    write: Callable[[Path, str, Records], None]
    scores: Mapping[str, Scores]  # by head
    input: str  # below the task's folder


def mood(draw: random.Random) -> dict[str, Any]:
    label = draw.choice(list(MOODS))
    words = [draw.choice(MOODS[label if draw.random() < 0.8 else "bad"]), *draw.choices(NAMES, k=2)]
    draw.shuffle(words)
    return {"text": draw.choice(ODD).join([f" {words[0]}", *words[1:]]) + " ", "label": label}


def sentence(draw: random.Random) -> dict[str, Any]:
    """Words with entities, parts of speech and an intent; some are longer than MAX_LENGTH."""
    words, tags, kinds = [], [], []
    for _ in range(draw.randint(2, 9)):
        word, tag, kind = draw.choice([
            (draw.choice(NAMES), "B-PER", "PROPN"), (draw.choice(TOWNS), "B-LOC", "PROPN"),
            ("can't", "O", "VERB"), ("\u200b", "O", "PUNCT"), ("leo", "O", "ADV"), ("Dar-es-Salaam", "B-LOC", "PROPN"),
        ])  # fmt: skip
        words.append(word)
        tags.append(tag)
        kinds.append(kind)
    return {"words": words, "tags": tags, "kinds": kinds, "intent": draw.choice(["ask", "tell"])}


def spans(draw: random.Random) -> dict[str, Any]:
    """A text with entities by characters: words without spaces between, entities inside words, punctuation."""
    text, entities = "", []
    for _ in range(draw.randint(1, 4)):
        text += draw.choice([" ", " ", "", ", ", "-", "m", "我"])
        word, label = draw.choice([*((name, "PER") for name in NAMES), *((town, "LOC") for town in TOWNS)])
        entities.append({"start": len(text), "end": len(text) + len(word), "label": label})
        text += word + draw.choice([" ", " ", "", ".", "ni "])
    return {"text": text, "entities": entities}


def spans_without_spaces(draw: random.Random) -> dict[str, Any]:
    """A text of Chinese, Thai or kana with entities by characters."""
    names, towns, others = draw.choice([
        (("王小明", "李雷"), ("北京", "上海市"), ("我", "在", "的", "、", " ")),
        (("สมชาย", "มาลี"), ("นคร", "น่าน"), ("ที่", "ไป", "น้ำ", " ")),
        (("さくら", "か\u3099く"), ("ナゴヤ", "ｶﾞｺﾞ"), ("は", "ー", "A", "ｱ")),
    ])  # fmt: skip
    text, entities = "", []
    for _ in range(draw.randint(1, 4)):
        text += draw.choice(others)
        word, label = draw.choice([*((name, "PER") for name in names), *((town, "LOC") for town in towns)])
        entities.append({"start": len(text), "end": len(text) + len(word), "label": label})
        text += word
    return {"text": text, "entities": entities}


def pair(draw: random.Random) -> dict[str, Any]:
    number = draw.randint(0, 9)
    return {"a": f" {number} {draw.choice(TOWNS)} ", "b": draw.choice(NAMES), "y": number / 2}


def feelings(draw: random.Random) -> dict[str, Any]:
    joy, fear = draw.random() < 0.5, draw.random() < 0.5
    text = f"{'zuri' if joy else 'siku'} {'hovyo' if fear else 'leo'} {draw.choice(NAMES)}"
    return {"message": {"body": text}, "joy": draw.choice([int(joy), None]), "fear": int(fear)}


def question(draw: random.Random) -> dict[str, Any]:
    context = " ".join(draw.choices(NAMES + TOWNS, k=draw.randint(3, 12)))
    name = draw.choice(context.split())
    answer = {"text": name, "answer_start": context.index(name)}
    return {
        "question": "nani?",
        "context": f" {context}",
        "answers": [{**answer, "answer_start": context.index(name) + 1}],
    }


def choice(draw: random.Random) -> dict[str, Any]:
    return {
        "premise": draw.choice(NAMES),
        "one": draw.choice(TOWNS),
        "two": draw.choice(NAMES),
        "y": draw.randint(0, 1),
    }


def in_columns(*names: str, is_conllu: bool = False) -> Callable[[Path, str, Records], None]:
    def write(folder: Path, split: str, records: Records) -> None:
        blocks = []
        for record in records:
            rows = zip(*(record[name] for name in names), strict=True)
            if is_conllu:
                blocks.append("".join(f"{n}\t{word}\t_\t{kind}{6 * chr(9)}_\n".replace("\t" * 6, "\t_" * 5 + "\t")
                                      for n, (word, kind) in enumerate(rows, start=1)))  # fmt: skip
            else:
                blocks.append("".join("\t".join(row) + "\n" for row in rows))
        (folder / f"{split}.txt").write_text("\n".join(blocks), encoding="utf-8")

    return write


def in_lines(suffix: str) -> Callable[[Path, str, Records], None]:
    def write(folder: Path, split: str, records: Records) -> None:
        lines = [json.dumps(record, ensure_ascii=False) for record in records]
        (folder / f"{split}{suffix}").write_text("\n".join(lines), encoding="utf-8")

    return write


def in_table(suffix: str, delimiter: str, encoding: str = "utf-8") -> Callable[[Path, str, Records], None]:
    """With two columns more that have no name, a line that goes on, and what the encoding has not left out."""

    def write(folder: Path, split: str, records: Records) -> None:
        rows = [delimiter.join([*map(str, records[0]), "", ""])]
        rows += [delimiter.join([*map(str, record.values()), "é", ""]) for record in records]
        (folder / f"{split}{suffix}").write_bytes("\r\n".join(rows).encode(encoding, "ignore"))

    return write


def in_parquet(folder: Path, split: str, records: Records) -> None:
    columns = {name: [record[name] for record in records] for name in records[0]}
    (folder / f"{split}.parquet").write_bytes(parquet_file(columns))


def in_parallel(folder: Path, split: str, records: Records) -> None:
    (folder / split).mkdir()
    for name, key in (("seq.in", "words"), ("seq.out", "tags"), ("label", "intent")):
        lines = [value if isinstance(value := record[key], str) else "  ".join(value) for record in records]
        (folder / split / name).write_text("\n".join(lines), encoding="utf-8")


def in_squad(folder: Path, split: str, records: Records) -> None:
    paragraphs = [
        {
            "context": record["context"],
            "qas": [{"id": str(n), "question": record["question"], "answers": record["answers"]}],
        }
        for n, record in enumerate(records)
    ]
    (folder / f"{split}.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")


def of_classes(key: str, *, shown: str = "label") -> Scores:
    def scores(records: Records, said: Sequence[Any]) -> dict[str, float]:
        gold, found = [str(record[key]) for record in records], [str(one[shown]) for one in said]
        return {
            "f1": sklearn.metrics.f1_score(gold, found, average="macro", zero_division=0),
            "accuracy": sklearn.metrics.accuracy_score(gold, found),
        }

    return scores


def of_choices(records: Records, said: Sequence[Any]) -> dict[str, float]:
    return {"accuracy": of_classes("y", shown="choice")(records, said)["accuracy"]}


def of_tags(records: Records, said: Sequence[Any]) -> dict[str, float]:
    gold = [record["tags"] for record in records]
    found = [["O" if tag is None else tag for tag in one["tags"]] for one in said]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {name: getattr(seqeval.metrics, f"{name}_score")(gold, found) for name in ("f1", "precision", "recall")}


def of_plain_tags(records: Records, said: Sequence[Any]) -> dict[str, float]:
    gold = [tag for record in records for tag in record["kinds"]]
    found = ["not read" if tag is None else tag for one in said for tag in one["tags"]]
    labels = sorted({*gold, *found} - {"not read"})
    return {
        "accuracy": sklearn.metrics.accuracy_score(gold, found),
        "f1": sklearn.metrics.f1_score(gold, found, labels=labels, average="macro", zero_division=0),
    }


def of_places(records: Records, said: Sequence[Any]) -> dict[str, float]:
    def places(lists: Sequence[Sequence[Mapping[str, Any]]]) -> set[tuple[Any, ...]]:
        return {(n, one["start"], one["end"], one["label"]) for n, some in enumerate(lists) for one in some}

    gold, found = places([record["entities"] for record in records]), places([one["entities"] for one in said])
    right = len(gold & found)
    return {"f1": 2 * right / (len(gold) + len(found)), "precision": right / len(found), "recall": right / len(gold)}


def of_numbers(records: Records, said: Sequence[Any]) -> dict[str, float]:
    gold, found = [record["y"] for record in records], [one["value"] for one in said]
    return {
        "pearson": scipy.stats.pearsonr(gold, found).statistic,
        "spearman": scipy.stats.spearmanr(gold, found).statistic,
        "mse": sklearn.metrics.mean_squared_error(gold, found),
    }


def of_several(records: Records, said: Sequence[Any]) -> dict[str, float]:
    columns = {
        name: [(record[name], int(name in one["labels"])) for record, one in zip(records, said, strict=True)
               if record[name] is not None]
        for name in ("joy", "fear")
    }  # fmt: skip
    f1s = [sklearn.metrics.f1_score(*zip(*cells, strict=True), zero_division=0) for cells in columns.values()]
    flat = [cell for cells in columns.values() for cell in cells]
    return {"f1": sum(f1s) / 2, "f1_micro": sklearn.metrics.f1_score(*zip(*flat, strict=True), zero_division=0)}


def of_answers(records: Records, said: Sequence[Any]) -> dict[str, float]:
    pairs = [(record["answers"][0]["text"], one["answer"] or "") for record, one in zip(records, said, strict=True)]
    return {
        "f1": sum(answer_f1(*pair) for pair in pairs) / len(pairs),
        "exact_match": sum(gold.lower() == found.lower().strip(".,") for gold, found in pairs) / len(pairs),
    }


CLASSES = {"h": HeadConfig("classification", column="label")}
CASES: dict[str, Case] = {
    "tsv": Case(SourceConfig("tsv", text="text"), CLASSES, mood, in_table(".tsv", "\t"), {"h": of_classes("label")},
                "test.tsv"),
    "csv_of_another_encoding": Case(
        SourceConfig("csv", text="text", encoding="latin-1"), CLASSES, mood, in_table(".csv", ",", "latin-1"),
        {"h": of_classes("label")}, "test.csv"),
    "csv_in_text_files": Case(
        SourceConfig("csv", text="text"), CLASSES, mood, in_table(".txt", ","), {"h": of_classes("label")}, "test.txt"),
    "parquet": Case(
        SourceConfig("parquet", text="text"), CLASSES, mood, in_parquet, {"h": of_classes("label")}, "test.parquet"),
    "conll": Case(
        SourceConfig("conll"), {"h": HeadConfig("tagging")}, sentence, in_columns("words", "tags"), {"h": of_tags},
        "test.txt"),
    "conllu": Case(
        SourceConfig("conllu"), {"h": HeadConfig("tagging", scheme="plain", column="upos")}, sentence,
        in_columns("words", "kinds", is_conllu=True), {"h": of_plain_tags}, "test.txt"),
    "words_beside_another_text": Case(
        SourceConfig("jsonl", words="words"), {"h": HeadConfig("tagging", column="tags", constrained=True)},
        lambda draw: {**sentence(draw), "text": "Juma"}, in_lines(".jsonl"), {"h": of_tags}, "test.jsonl"),
    "parallel": Case(
        SourceConfig("parallel", words="seq.in"),
        {"h": HeadConfig("tagging", column="seq.out"), "intent": HeadConfig("classification", column="label")},
        sentence, in_parallel, {"h": of_tags, "intent": of_classes("intent")}, "test"),
    "entities": Case(
        SourceConfig("jsonl", text="text"), {"h": HeadConfig("tagging", column="entities")}, spans, in_lines(".jsonl"),
        {"h": of_places}, "test.jsonl"),
    "entities_without_spaces": Case(
        SourceConfig("jsonl", text="text"), {"h": HeadConfig("tagging", column="entities")}, spans_without_spaces,
        in_lines(".jsonl"), {"h": of_places}, "test.jsonl"),
    "numbers": Case(
        SourceConfig("csv", text="a", text_pair="b"), {"h": HeadConfig("regression", column="y", range=[0, 5])}, pair,
        in_table(".csv", ","), {"h": of_numbers}, "test.csv"),
    "feelings": Case(
        SourceConfig("jsonl", text="message.body"),
        {"h": HeadConfig("multilabel", columns=["joy", "fear"], threshold="tuned_per_label",
                         metrics=["f1", "f1_micro"])},
        feelings, in_lines(".jsonl"), {"h": of_several}, "test.jsonl"),
    "questions": Case(
        SourceConfig("squad"), {"h": HeadConfig("span", stride=2, max_answer_length=4)}, question, in_squad,
        {"h": of_answers}, "test.json"),
    "more_questions": Case(
        SourceConfig("jsonl", text="question", text_pair="context"),
        {"h": HeadConfig("span", stride=4, column="answers")}, question, in_lines(".jsonl"), {"h": of_answers},
        "test.jsonl"),
    "choices": Case(
        SourceConfig("jsonl", text="premise", choices=["one", "two"]), {"h": HeadConfig("choice", column="y")}, choice,
        in_lines(".jsonl"), {"h": of_choices}, "test.jsonl"),
}  # fmt: skip


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Records]]:
    """The folder of a run over all cases, and the records of their test files."""
    folder = tmp_path_factory.mktemp("run")
    tests: dict[str, Records] = {}
    tasks: dict[str, TaskConfig] = {}
    for name, case in CASES.items():
        draw = random.Random(name)
        (folder / name).mkdir()
        for split, size in SIZES.items():
            tests[name] = [case.record(draw) for _ in range(size)]  # the last is the test set
            case.write(folder / name, split, tests[name])
        ending = case.input.removeprefix("test")
        files = {split: f"{split}{ending}" for split in SIZES}
        tasks[name] = TaskConfig(SourceConfig(**{**vars(case.source), **files, "folder": name}), case.heads)
    config = ExperimentConfig(
        data_root=str(folder),
        tasks=tasks,
        model=ModelConfig(tokenizer=PACKAGED, architecture=dict(TINY)),
        optimizer=OptimizerConfig(lr=3e-3),
        batching=BatchingConfig(batch_size=8, max_length=MAX_LENGTH),
        trainer=TrainerConfig(num_epochs=4, device="cpu", precision=request.param),
    )
    (folder / "run" / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(to_dict(config)), folder / "run" / ".hydra" / "config.yaml")
    actions.train(config, folder / "run")
    return folder, tests


def test_every_head_type_and_every_format_with_files_is_tried_here() -> None:
    from multitask_bert.data.readers import READERS
    from multitask_bert.heads import HEAD_TYPES

    assert {head.type for case in CASES.values() for head in case.heads.values()} == {*HEAD_TYPES}
    assert {case.source.format for case in CASES.values()} == {*READERS} - {"datasets", "samples"}


@pytest.mark.parametrize("name", CASES)
def test_predicting_the_test_file_gives_the_scores_of_the_run(run: tuple[Path, dict[str, Records]], name: str) -> None:
    folder, tests = run
    out = folder / "out.jsonl"
    config = ExperimentConfig(
        action="predict", run_dir=str(folder / "run"), input=str(folder / name / CASES[name].input), output=str(out),
        trainer=TrainerConfig(device="cpu"),
    )  # fmt: skip
    actions.predict(config, folder)
    lines = [json.loads(line)["predictions"][name] for line in out.read_text(encoding="utf-8").splitlines()]
    reported = json.loads((folder / "run" / "results.json").read_text(encoding="utf-8"))["metrics"]["test"]
    for head, scores in CASES[name].scores.items():
        expected = scores(tests[name], [line[head] for line in lines])
        found = {metric: reported[f"eval_{name}_{head}_{metric}"] for metric in expected}
        assert found == pytest.approx(expected, abs=1e-4 if "mse" in expected else 1e-9)
        if CASES[name].scores[head] is of_places:
            assert found == expected  # to the last digit
            assert expected["f1"] > 0

"""Speed without training, each way in a process of its own: evaluating, predicting and encoding, ours and theirs.

    python benchmarks/inference_speed.py --way predictor --run-dir RUN --data-root data --tasks wnut17+nollysenti_en

evaluate, trainer_evaluate  predict and score the test set of every task: ours, and `Trainer.predict` with seqeval and
                            scikit-learn
predictor, pipelines        what every head says of the test texts of all tasks: our Predictor, one pass for all heads,
                            and a `transformers.pipeline` per head; batches of 32 texts both
encoder, datasets_map       train texts to pieces with a label each: ours, and `datasets.Dataset.map(batched=True)`

The weights are those of RUN for all: the others get them in classes of `transformers`. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs without an installed package, too

from benchmarks import recipe
from benchmarks.recipe import EVAL_BATCH_SIZE, IGNORED, MAX_LENGTH, Task

PREDICTION_BATCH_SIZE = 32
NUM_WARMUP_TEXTS = 64


def main() -> None:
    parser = recipe.argument_parser(__doc__)
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--run-dir", type=Path, help="our finished run over the same tasks (encoding needs none)")
    parser.add_argument("--max-examples", type=int, help="texts of each test set; none: all")
    parser.add_argument("--num-rows", type=int, default=20_000, help="texts to encode, train repeated as needed")
    args = parser.parse_args()
    print(json.dumps(WAYS[args.way](args)), flush=True)


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    calm_our_libraries()
    from multitask_bert.data.splits import InMemorySplit
    from multitask_bert.model.devices import pick_device
    from multitask_bert.model.multitask import MultiTaskModel
    from multitask_bert.training.evaluation import evaluate_task

    model, tokenizer = MultiTaskModel.load(args.run_dir / "model")
    tasks = tasks_to_test(args, tokenizer)
    device = pick_device("auto")
    model = model.to(device)

    def score(task: Task, num_examples: int | None) -> dict[str, float]:
        dataset = InMemorySplit(list(task.splits["test"][:num_examples]))
        result = evaluate_task(
            model, task.name, dataset, batch_size=EVAL_BATCH_SIZE, pad_id=tokenizer.pad_token_id, device=device
        )
        return {task.key(name): value for name, value in result.scores[task.head_name].items()}

    for task in tasks:
        score(task, NUM_WARMUP_TEXTS)
    seconds, scores = timed(lambda: [score(task, None) for task in tasks])
    return speed(seconds, num_test_examples(tasks)) | {"test": joined(scores)}


def trainer_evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from benchmarks import hf_trainer

    tokenizer = recipe.load_tokenizer(args.model)
    tasks = tasks_to_test(args, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        arguments = hf_trainer.training_arguments(folder)
        trainers = [hf_trainer.make_trainer(t, as_transformers_model(args, t), tokenizer, arguments) for t in tasks]
        for trainer in trainers:
            trainer.predict_rows(trainer.train_dataset[:NUM_WARMUP_TEXTS])
        recipe.entity_scores([["B-X"]], [["B-X"]])  # loads seqeval and scikit-learn
        recipe.text_scores(["a", "b"], ["a", "b"])
        rows = [hf_trainer.rows_of(task, "test") for task in tasks]
        seconds, scores = timed(lambda: [trainer.score("test", r) for trainer, r in zip(trainers, rows, strict=True)])
    named = [
        {task.key(name): value for name, value in found.items()} for task, found in zip(tasks, scores, strict=True)
    ]
    return speed(seconds, num_test_examples(tasks)) | {"test": joined(named)}


def predictor(args: argparse.Namespace) -> dict[str, Any]:
    calm_our_libraries()
    from multitask_bert.inference.predictor import Predictor

    loaded = Predictor.load(args.run_dir, batch_size=PREDICTION_BATCH_SIZE)
    tasks = tasks_to_test(args, loaded.tokenizer)
    texts = texts_of(tasks)
    list(loaded.predict(texts[:NUM_WARMUP_TEXTS]))
    seconds, records = timed(lambda: list(loaded.predict(texts)))
    labels = {
        task.name: Counter(record["predictions"][task.name][task.head_name]["label"] for record in records)
        for task in tasks
        if not task.is_tagging
    }
    return speed(seconds, len(texts)) | {"labels": labels}


def pipelines(args: argparse.Namespace) -> dict[str, Any]:
    import transformers

    transformers.logging.set_verbosity_error()
    tokenizer = recipe.load_tokenizer(args.model)
    tasks = tasks_to_test(args, tokenizer)
    tokenizer.model_max_length = MAX_LENGTH  # token-classification cuts there
    texts = texts_of(tasks)
    made: dict[str, Callable[[list[str]], Any]] = {}
    for task in tasks:
        kind = "token-classification" if task.is_tagging else "text-classification"
        options = {"aggregation_strategy": "simple"} if task.is_tagging else {"top_k": None, "truncation": True}
        made[task.name] = transformers.pipeline(
            kind, model=as_transformers_model(args, task), tokenizer=tokenizer, batch_size=PREDICTION_BATCH_SIZE,
            **options,
        )  # fmt: skip
    for pipeline in made.values():
        list(pipeline(texts[:NUM_WARMUP_TEXTS]))
    seconds, found = timed(lambda: {name: list(pipeline(texts)) for name, pipeline in made.items()})
    labels = {
        task.name: Counter(of_text[0]["label"] for of_text in found[task.name]) for task in tasks if not task.is_tagging
    }
    return speed(seconds, len(texts)) | {"labels": labels}


def encoder(args: argparse.Namespace) -> dict[str, Any]:
    calm_our_libraries()
    from multitask_bert.data.encoding import encode_examples

    tokenizer = recipe.load_tokenizer(args.model)
    tasks = recipe.load_tasks(args, tokenizer)
    rows = {task.name: rows_to_encode(task, args.num_rows // len(tasks)) for task in tasks}

    def encode() -> int:
        return sum(
            len(encode_examples(rows[t.name], {t.head_name: t.head}, tokenizer, max_length=MAX_LENGTH)) for t in tasks
        )

    seconds, num_rows = timed(encode)
    return speed(seconds, num_rows)


def datasets_map(args: argparse.Namespace) -> dict[str, Any]:
    import datasets

    datasets.disable_progress_bars()
    tokenizer = recipe.load_tokenizer(args.model)
    tasks = recipe.load_tasks(args, tokenizer)
    given = {}
    for task in tasks:
        rows = rows_to_encode(task, args.num_rows // len(tasks))
        texts = [list(row.words) if task.is_tagging else row.text for row in rows]
        pairs = {} if task.is_tagging or rows[0].text_pair is None else {"pair": [row.text_pair for row in rows]}
        labels = [label_ids(task, row.labels[task.head_name]) for row in rows]
        given[task.name] = datasets.Dataset.from_dict({"text": texts, "label": labels} | pairs)

    def encode_texts(rows: dict[str, list[Any]]) -> Any:
        pair = [rows["pair"]] if "pair" in rows else []
        encoded = tokenizer(rows["text"], *pair, truncation=True, max_length=MAX_LENGTH)
        encoded["labels"] = rows["label"]
        return encoded

    def encode_words(rows: dict[str, list[Any]]) -> Any:
        encoded = tokenizer(rows["text"], is_split_into_words=True, truncation=True, max_length=MAX_LENGTH)
        encoded["labels"] = [align(encoded.word_ids(row), labels) for row, labels in enumerate(rows["label"])]
        return encoded

    def encode() -> int:
        return sum(
            len(
                given[task.name].map(
                    encode_words if task.is_tagging else encode_texts, batched=True, load_from_cache_file=False,
                    remove_columns=given[task.name].column_names,
                )
            )
            for task in tasks
        )  # fmt: skip

    seconds, num_rows = timed(encode)
    return speed(seconds, num_rows)


WAYS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "evaluate": evaluate,
    "trainer_evaluate": trainer_evaluate,
    "predictor": predictor,
    "pipelines": pipelines,
    "encoder": encoder,
    "datasets_map": datasets_map,
}


def align(word_of_piece: list[int | None], labels: list[int]) -> list[int]:
    """A label on the first piece of each word, IGNORED on all others."""
    before = (None, *word_of_piece)
    return [
        IGNORED if word is None or word == last else labels[word]
        for last, word in zip(before, word_of_piece, strict=False)
    ]


def as_transformers_model(args: argparse.Namespace, task: Task) -> Any:
    """The run's encoder and one of its heads in a class of `transformers`."""
    import transformers

    from multitask_bert.model.location import ENCODER_CONFIG
    from multitask_bert.model.multitask import MultiTaskModel

    model, _ = MultiTaskModel.load(args.run_dir / "model")
    shape = json.loads((args.run_dir / "model" / ENCODER_CONFIG).read_text(encoding="utf-8"))
    names = dict(enumerate(task.head.labels.names))
    config = transformers.AutoConfig.for_model(
        shape.pop("model_type"), **shape | {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    )
    factory = (
        transformers.AutoModelForTokenClassification
        if task.is_tagging
        else transformers.AutoModelForSequenceClassification
    )
    built = factory.from_config(config)
    loaded = built.base_model.load_state_dict(model.encoder.backbone.state_dict(), strict=False)
    assert not loaded.missing_keys, loaded.missing_keys
    *_, linear = model.head_modules[task.name].get_submodule(task.head_name).children()
    built.classifier.load_state_dict(linear.state_dict())
    return built.eval()


def tasks_to_test(args: argparse.Namespace, tokenizer: Any) -> list[Task]:
    """The tasks, with no more test examples than `--max-examples`."""
    return [
        replace(task, splits=dict(task.splits) | {"test": task.splits["test"][: args.max_examples]})
        for task in recipe.load_tasks(args, tokenizer)
    ]


def texts_of(tasks: list[Task]) -> list[str]:
    """The test texts of all tasks; of pairs the first."""
    return [encoded.example.text for task in tasks for encoded in task.splits["test"]]


def rows_to_encode(task: Task, num_rows: int) -> list[Any]:
    """The task's train examples, again and again until there are enough."""
    examples = (encoded.example for encoded in task.splits["train"])
    return list(itertools.islice(itertools.cycle(examples), num_rows))


def label_ids(task: Task, label: Any) -> Any:
    ids = task.head.labels.ids
    return [ids[tag] for tag in label] if task.is_tagging else ids[label]


def num_test_examples(tasks: list[Task]) -> int:
    return sum(len(task.splits["test"]) for task in tasks)


def calm_our_libraries() -> None:
    """As `run.py` does before anything is imported."""
    from multitask_bert.actions import calm_libraries

    calm_libraries()


def joined(scores: list[dict[str, float]]) -> dict[str, float]:
    return {name: value for found in scores for name, value in found.items()}


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came out."""
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def speed(seconds: float, num_examples: int) -> dict[str, Any]:
    return {"seconds": seconds, "examples": num_examples, "examples_per_second": num_examples / seconds}


if __name__ == "__main__":
    main()

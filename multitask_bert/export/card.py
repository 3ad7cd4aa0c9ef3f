"""The model card: `README.md` with the metadata of the Hugging Face hub, from what the run's folder says of itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from multitask_bert.export.facts import Facts
from multitask_bert.saving.run_folder import collapsed_heads
from multitask_bert.utils.addresses import without_password

CARD = "README.md"
TITLES = {
    "classification": "one label per text", "multilabel": "any number of labels per text",
    "regression": "a number per text", "tagging": "a tag per word", "span": "the answer to a question in a context",
    "choice": "the right one of several texts",
}  # fmt: skip
HUB_TASKS = {
    "classification": "text-classification", "multilabel": "text-classification", "regression": "text-classification",
    "tagging": "token-classification", "span": "question-answering", "choice": "multiple-choice",
}  # fmt: skip
LIBRARIES = {"hf": "transformers", "onnx": "onnx", "onnx_int8": "onnx", "mlflow": "mlflow"}
OWN_CLASS = "PooledTextClassifier"


def card(facts: Facts, export_format: str, notes: Sequence[str]) -> str:
    """The whole card; `notes`: a sentence for each thing that was measured at the export."""
    name = "+".join(facts.tasks) if len(facts.owners) != 1 else ".".join(facts.owners[0])
    metadata = yaml.safe_dump(_metadata(facts, export_format, name), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n{metadata}---",
        f"# {name}",
        f"One encoder with {_number(len(facts.owners), 'head')}, fine-tuned with multitask_bert.",
        "\n".join(_heads(facts)),
        "## How to use it\n\n" + _usage(facts, export_format),
        "## Scores\n\n" + "\n".join(_scores(facts)),
        "## Data\n\n" + "\n".join(_data(facts)),
        "## Recipe\n\n" + "\n".join(_recipe(facts)),
        "## Limits\n\n" + "\n".join(f"- {line}" for line in (*notes, *_limits(facts, export_format))),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(facts: Facts, export_format: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if facts.stated.languages:
        found["language"] = list(facts.stated.languages)
    if facts.stated.license:
        found["license"] = facts.stated.license
    encoder = facts.config.model.pretrained or ""
    if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", encoder) and not Path(encoder).is_dir():
        found["base_model"] = encoder
    found["library_name"] = LIBRARIES[export_format]
    hub_tasks = list(dict.fromkeys(hub_task for owner in facts.owners if (hub_task := _hub_task(facts, owner))))
    if len(hub_tasks) == 1:
        found["pipeline_tag"] = hub_tasks[0]
    found["tags"] = ["multitask_bert", *hub_tasks]
    if data := [str(task.source.path) for task in facts.tasks.values() if _is_hub_name(task.source)]:
        found["datasets"] = data
    entries = [
        {
            "task": {"type": _hub_task(facts, owner) or "other"},
            "dataset": {"name": owner[0], "type": owner[0], "split": "test"},
            "metrics": [
                {"type": metric, "value": round(value, 4), "name": f"{owner[1]} {metric}"}
                for metric, value in _of_split(facts, "test", *owner).items()
            ],
        }
        for owner in facts.owners
    ]
    if entries := [entry for entry in entries if entry["metrics"]]:
        found["model-index"] = [{"name": name, "results": entries}]
    return found


def _heads(facts: Facts) -> Iterator[str]:
    yield "| task | head | predicts | labels |"
    yield "|---|---|---|---|"
    for task, name in facts.owners:
        head = facts.model.heads[task][name]
        labels = ", ".join(head.names_shown) if head.names_shown else ""
        if head.config.type == "regression" and head.config.range is not None:
            labels = f"{head.config.range[0]:g} to {head.config.range[1]:g}"
        predicts = TITLES.get(head.config.type, head.config.type)
        yield f"| {task} | {name} | {predicts} | {_cell(labels)} |"


def _usage(facts: Facts, export_format: str) -> str:
    if export_format.startswith("onnx"):
        return (
            "```python\n"
            "# pip install onnxruntime tokenizers\n"
            "from predict import predict  # predict.py in this folder; also: python predict.py TEXT\n\n"
            'print(predict("Amina anaishi Arusha."))\n'
            "```\n\n"
            'With multitask_bert installed, `Predictor.load(FOLDER, backend="onnx")` takes files and batches.'
        )
    if export_format == "mlflow":
        return (
            "```\n"
            "mlflow models serve -m FOLDER --env-manager local -h 127.0.0.1 -p 5001\n"
            "curl 127.0.0.1:5001/invocations -H 'Content-Type: application/json' -d '{\"inputs\": [\"Amina anaishi "
            "Arusha.\"]}'\n"
            "```\n\n"
            'From Python: `mlflow.pyfunc.load_model("FOLDER").predict(["Amina anaishi Arusha."])`. The folder brings '
            "the code of multitask_bert; `requirements.txt` has the versions of other packages."
        )
    return "\n\n".join(_hf_usage(facts, *owner, inside=len(facts.owners) == 1) for owner in facts.owners)


def _hf_usage(facts: Facts, task: str, name: str, *, inside: bool) -> str:
    head, class_name = facts.model.heads[task][name], facts.classes[task, name]
    folder = "FOLDER" if inside else f"FOLDER/{task}.{name}"
    if head.config.type in ("span", "choice"):
        auto = {"span": "AutoModelForQuestionAnswering", "choice": "AutoModelForMultipleChoice"}[head.config.type]
        return (
            f"```python\nfrom transformers import {auto}, AutoTokenizer\n\n"
            f'model = {auto}.from_pretrained("{folder}").eval()\n'
            f'tokenizer = AutoTokenizer.from_pretrained("{folder}")\n```'
        )
    options = {
        "tagging": ', aggregation_strategy="first"' if head.names_shown != head.labels.names else "",
        "multilabel": ", top_k=None, truncation=True",
    }.get(head.config.type, ", truncation=True")
    if class_name == OWN_CLASS:
        options += ", trust_remote_code=True"
    text = (
        "```python\nfrom transformers import pipeline\n\n"
        f'pipe = pipeline("{HUB_TASKS[head.config.type]}", model="{folder}"{options})\n'
        'print(pipe("Amina anaishi Arusha."))\n```'
    )
    if class_name == OWN_CLASS:
        pooling, family = facts.model.pooling_of(task, name), facts.model.encoder.config.model_type
        text += (
            f"\n\nNo class of transformers computes this head (pooling {pooling} on {family}), so the folder brings "
            f"one, `modeling_pooled_text.py`; `trust_remote_code=True` allows it."
        )
    if head.config.type == "multilabel":
        chosen = ", ".join(f"{label} {limit:g}" for label, limit in _thresholds(head))
        text += f"\n\nA label is predicted from this probability on: {chosen} (`thresholds` in config.json)."
    if head.config.type == "tagging" and head.names_shown == head.labels.names:
        text += "\n\nThe pipeline gives a tag per token; a word has the tag of its first token."
    return text


def _scores(facts: Facts) -> Iterator[str]:
    if not facts.results:
        yield "The run has no results.json."
        return
    yield "In brackets: 95% bootstrap interval."
    yield ""
    yield "| task | head | metric | test | dev |"
    yield "|---|---|---|---|---|"
    intervals = facts.results.get("test_intervals", {})
    for task, name in facts.owners:
        test, dev = _of_split(facts, "test", task, name), _of_split(facts, "eval", task, name)
        for metric in {**test, **dev}:
            interval = intervals.get(f"eval_{task}_{name}_{metric}")
            within = f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else ""
            on_test = f"{test[metric]:.4f}{within}" if metric in test else ""
            on_dev = f"{dev[metric]:.4f}" if metric in dev else ""
            yield f"| {task} | {name} | {_cell(metric)} | {on_test} | {on_dev} |"


def _data(facts: Facts) -> Iterator[str]:
    for task, config in facts.tasks.items():
        source = config.source
        what = facts.comments.get(task) or "No description or licence is known of it; see its source."
        yield f"- **{task}** ({source.format}): {what}"
        for one in source.downloads.values():
            yield f"  - {without_password(one.url)}"
        if _is_hub_name(source):
            yield f"  - data set `{source.path}`"
    yield ""
    yield (
        "The licences are those of the data and of the encoder"
        + ("" if facts.stated.license else "; none is stated for this model")
        + ". Hashes of the data are in `provenance.json`."
    )


def _recipe(facts: Facts) -> Iterator[str]:
    config = facts.config
    encoder = config.model.pretrained or "random weights"
    if Path(encoder).is_absolute():
        encoder = Path(encoder).name
    comment = facts.comments.get("model", "")
    yield f"- encoder: {encoder}" + (f". {comment}" if comment else "")
    yield (
        f"- learning rate {config.optimizer.lr:g}, {config.trainer.num_epochs:g} epochs, batch size "
        f"{config.batching.batch_size}, up to {config.batching.max_length} tokens, seed {config.seed}, "
        f"{config.trainer.precision}"
    )
    if facts.results:
        best = facts.results.get("best", {})
        yield f"- {facts.results.get('steps')} steps; the best model on dev is that of step {best.get('step')}"
    if commit := (facts.provenance.get("code") or {}).get("commit"):
        yield f"- code: commit {commit}"
    yield "- all scores: `results.json`; command, versions, hardware, hashes of weights and data: `provenance.json`"


def _limits(facts: Facts, export_format: str) -> Iterator[str]:
    yield f"Of a text, the first {facts.model.max_length} tokens are read."
    if not facts.stated.languages:
        yield "Which languages it was trained on is not stated."
    owners = {f"{task}.{name}" for task, name in facts.owners}
    for name in collapsed_heads(facts.results):
        if name in owners:
            yield f"`{name}` has learned nothing: {facts.results['collapsed'][name]['best_model']}."
    heads = [facts.model.heads[task][name] for task, name in facts.owners]
    if export_format != "mlflow" and any(head.config.constrained for head in heads):
        yield "Tags are chosen word by word here; the run's own are the best valid sequence (`constrained: true`)."
    if export_format.startswith("onnx") and any(head.reads_windows for head in heads):
        yield "`predict.py` truncates a long context; the run reads it in overlapping windows."
    if export_format == "hf" and any(head.config.clip for head in heads):
        yield "Numbers are not clipped to their range here; those of the run are."


def _of_split(facts: Facts, split: str, task: str, name: str) -> dict[str, float]:
    """A head's scores on a split, by metric."""
    prefix = f"eval_{task}_{name}_"
    found = (facts.results.get("metrics") or {}).get(split) or {}
    metrics = facts.model.heads[task][name].metrics
    scores = {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}
    return {key: value for key, value in scores.items() if value is not None and (key in metrics or "_of_" in key)}


def _hub_task(facts: Facts, owner: tuple[str, str]) -> str | None:
    return HUB_TASKS.get(facts.model.heads[owner[0]][owner[1]].config.type)


def _thresholds(head: Any) -> list[tuple[str, float]]:
    return list(zip(head.labels.names, head.thresholds, strict=True))


def _is_hub_name(source: Any) -> bool:
    return source.format == "datasets" and bool(re.fullmatch(r"[\w.-]+/[\w.-]+", source.path or ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

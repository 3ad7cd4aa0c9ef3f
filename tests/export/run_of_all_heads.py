"""A run's folder with a head of every type, whose tiny model is random and says something of every label."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from transformers import AutoConfig, AutoModel

from multitask_bert.config.schema import (
    BatchingConfig,
    ExperimentConfig,
    HeadConfig,
    ModelConfig,
    SourceConfig,
    TaskConfig,
    TrainerConfig,
)
from multitask_bert.config.tree import to_dict
from multitask_bert.heads import Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.utils.files import write_json
from tests.conftest import PACKAGED, TINY

MAX_LENGTH = 36
NAMES, TOWNS = ("Amina", "Juma", "Ng'ombe", "Neema"), ("Arusha", "Dar-es-Salaam", "Tanga")
ENDS = ("leo", "kwa furaha", "na rafiki", "sana sana sana", "bila wasiwasi wowote kabisa")
TEXTS = [f"{name} anaishi {town} {end}" for name, town, end in itertools.product(NAMES, TOWNS, ENDS)]
LABELS = {
    "moods": LabelSet(("bad", "good", "so-so")),
    "feelings": LabelSet(("anger", "joy", "fear")),
    "people": LabelSet(("O", "B-LOC", "I-LOC", "B-PER", "I-PER")),
    "likeness": LabelSet(()),
    "answers": LabelSet(("answer",)),
    "causes": LabelSet(()),
}
INPUT_TYPES = {"likeness": "pair", "answers": "pair", "causes": "choices"}


def tasks() -> dict[str, TaskConfig]:
    """One task per head type, each with one head, `head`."""

    def source(file_format: str, file: str, **fields: Any) -> SourceConfig:
        return SourceConfig(file_format, train=file, dev=file, test_fraction=0.0, **fields)

    return {
        "answers": TaskConfig(source("squad", "answers.json"), {"head": HeadConfig("span", stride=4)}),
        "causes": TaskConfig(
            source("csv", "causes.csv", text="text", choices=["a", "b"]), {"head": HeadConfig("choice", column="label")}
        ),
        "feelings": TaskConfig(
            source("jsonl", "feelings.jsonl", text="text"),
            {"head": HeadConfig("multilabel", column="label", threshold="tuned_per_label")},
        ),
        "likeness": TaskConfig(
            source("csv", "likeness.csv", text="text", text_pair="other"),
            {"head": HeadConfig("regression", column="label", range=[0.0, 5.0])},
        ),
        "moods": TaskConfig(
            source("csv", "moods.csv", text="text"),
            {"head": HeadConfig("classification", column="label", calibrate=True)},
        ),
        "people": TaskConfig(source("conll", "people.txt"), {"head": HeadConfig("tagging", column="1")}),
    }


def write_data(root: Path) -> None:
    """The dev sets, which are also train."""
    root.mkdir(parents=True)
    moods, feelings = LABELS["moods"].names, LABELS["feelings"].names
    lines = {
        "moods.csv": ["text,label", *(f"{text},{moods[i % 3]}" for i, text in enumerate(TEXTS))],
        "likeness.csv": ["text,other,label", *(f"{t},{TEXTS[-i]},{i % 6}" for i, t in enumerate(TEXTS))],
        "causes.csv": ["text,a,b,label", *(f"{t},{TEXTS[-i]},{TEXTS[i // 2]},{i % 2}" for i, t in enumerate(TEXTS))],
        "feelings.jsonl": [
            json.dumps({"text": text, "label": [feelings[i % 3], feelings[i % 2]]}) for i, text in enumerate(TEXTS)
        ],
        "people.txt": [
            f"{name} B-PER\nanaishi O\n{town} B-LOC\n" for name, town in itertools.product(NAMES, TOWNS)
        ],
    }  # fmt: skip
    for name, content in lines.items():
        (root / name).write_text("\n".join(content) + "\n", encoding="utf-8")
    questions = [
        {
            "id": str(i),
            "question": "anaishi wapi?",
            "answers": [{"text": "anaishi", "answer_start": text.index("anaishi")}],
        }
        for i, text in enumerate(TEXTS)
    ]
    paragraphs = [{"context": text, "qas": [question]} for text, question in zip(TEXTS, questions, strict=True)]
    (root / "answers.json").write_text(
        json.dumps({"data": [{"title": "", "paragraphs": paragraphs}]}), encoding="utf-8"
    )


def make_heads(configs: dict[str, TaskConfig]) -> dict[str, dict[str, Head]]:
    return {
        task: {name: make_head(head, LABELS[task]) for name, head in config.heads.items()}
        for task, config in configs.items()
    }


def make_model(configs: dict[str, TaskConfig], *, pooling: str = "pooler", shape: Any = None) -> MultiTaskModel:
    """Random weights, large enough that every label is predicted for some text."""
    torch.manual_seed(5)
    shape = dict(TINY if shape is None else shape)
    encoder = Encoder(AutoModel.from_config(AutoConfig.for_model(shape.pop("model_type"), **shape)))
    types = {task: INPUT_TYPES.get(task, "text") for task in configs}
    model = MultiTaskModel(encoder, make_heads(configs), pooling=pooling, max_length=MAX_LENGTH, input_types=types)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embeddings" not in name:
                weight.normal_(std=0.3)
        for _, buffer in model.head_modules.named_buffers():
            buffer.copy_(torch.linspace(0.3, 0.7, len(buffer)))
    return model.eval()


def make_run(folder: Path, tokenizer: Any, *, pooling: str = "pooler", names: tuple[str, ...] = ()) -> MultiTaskModel:
    """A run's folder as training leaves it; `names`: of its tasks; none: all."""
    write_data(folder / "data")
    configs = {name: task for name, task in tasks().items() if not names or name in names}
    config = ExperimentConfig(
        data_root=str(folder / "data"),
        tasks=configs,
        model=ModelConfig(tokenizer=PACKAGED, architecture=dict(TINY), pooling=pooling),
        batching=BatchingConfig(max_length=MAX_LENGTH),
        trainer=TrainerConfig(device="cpu"),
    )
    (folder / ".hydra").mkdir()
    OmegaConf.save(OmegaConf.create(to_dict(config)), folder / ".hydra" / "config.yaml")
    model = make_model(configs, pooling=pooling)
    model.save(folder / "model", tokenizer)
    score = {"eval_moods_head_f1": 0.5, "eval_moods_head_accuracy": 0.75}
    write_json(
        folder / "results.json",
        {"metrics": {"eval": score, "test": score}, "test_intervals": {"eval_moods_head_f1": [0.4, 0.6]}, "steps": 7},
    )
    return model
